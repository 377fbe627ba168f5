"""Environments: the toy game, real worlds as Environments, dreams as Gymnasium environments.

The names of the package stand in `__init__.pyi`; each is imported when it is asked for.
"""

import gymnasium
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Gymnasium loads no plugins since 1.0: `gymnasium.make` finds the game after this module was
# imported, or imports it itself for the id "worldmodel.envs:worldmodel/ToyGame-v0".
gymnasium.register(
    id="worldmodel/ToyGame-v0",
    entry_point="worldmodel.envs.toy_game:ToyGame",
    vector_entry_point="worldmodel.envs.toy_game:ToyGameVector",
)

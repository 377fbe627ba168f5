"""Playing a run's worlds, real and dreamt: a core without an interface, and its faces."""

from experiments.play.core import Playable, Player, new_player
from experiments.play.moments import Moment

__all__ = ["Moment", "Playable", "Player", "new_player"]

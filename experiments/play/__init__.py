"""Playing a run's worlds, real and dreamt: a core without an interface, and its faces."""

from experiments.play.core import Moment, Playable, Player, new_player

__all__ = ["Moment", "Playable", "Player", "new_player"]

"""Playing a run's worlds, real and dreamt: a core without an interface, and its faces."""

from worldmodel.experiments.show.play.moments import Moment
from worldmodel.experiments.show.play.player import Playable, Player, new_player

__all__ = ["Moment", "Playable", "Player", "new_player"]

"""Playing a run's world, real or dreamt: a core without an interface, and its faces."""

from experiments.play.core import Expectation, Moment, Player
from experiments.play.terminal import play

__all__ = ["Expectation", "Moment", "Player", "play"]

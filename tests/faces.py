"""What the tests of faces share: untrained runs, and players by hand."""

from dataclasses import replace

import imageio_ffmpeg
import numpy as np
from gymnasium import spaces
from worldmodel.experiments.rl.environments import shown_environment
from worldmodel.experiments.rl.parts import Facts, Parts
from worldmodel.experiments.rl.toy_game import Parts as ToyParts
from worldmodel.experiments.rl.toy_game_config import GameConfig, ToyGameConfig, quick

from worldmodel.experiments.rl.config import ControlConfig, EnvironmentConfig, quick_control
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.faces import opened
from worldmodel.noise import OwnNoise


def toy_parts(core="rnn", task="copy"):
    """An untrained toy game: its dreams end after a step or two."""
    config = quick(ToyGameConfig())
    config = replace(config, game=GameConfig(task=task), model=replace(config.model, core=core))
    with OwnNoise(0)():
        return still(ToyParts(config, [-1.0]))


def control_parts(name, **environment):
    """An untrained run of any environment."""
    config = quick_control(ControlConfig(EnvironmentConfig(name, **environment)))
    env = shown_environment(config.environment)
    support = None if isinstance(env.action_space, spaces.Box) else [1.0]
    with OwnNoise(0)():
        return still(
            Parts(config, Facts(1, support, 1.0), env.observation_space, env.action_space)
        )


def still(parts):
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts


def player_of(parts, folder, **told):
    """A player as `worldmodel play` makes it."""
    return opened(parts, PlayConfig(**told), folder)


def assert_same(moment, other):
    """To the last bit."""
    np.testing.assert_equal(moment, other)


def frames_in(path):
    """How many frames a film has, once decoded."""
    frames = imageio_ffmpeg.read_frames(str(path))
    next(frames)
    return sum(1 for _ in frames)

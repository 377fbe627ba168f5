"""What the tests of faces share: untrained runs, and players by hand."""

import json
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
from gymnasium import spaces

from worldmodel.agents.components import Components, Statistics
from worldmodel.codecs import MixedHead
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.rl.run import Run, spaces_of, world_of
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.faces import opened
from worldmodel.noise import OwnNoise
from worldmodel.options import with_options


def untrained(config: RLConfig, rewards: list[float] | None, shown=None) -> Run:
    """A run that has learned nothing: its dreams end after a step or two.

    rewards: those that were seen, None: many; shown: the spaces, of a run without an environment.
    """
    shown = shown or spaces_of(config.environment)
    with OwnNoise(0)():
        components = Components(config.agent, Statistics(rewards, 1.0), *shown)
    if isinstance(head := components.model.percepts.decoder.reward, MixedHead):
        head.rows.fill_(10**9)  # in which no other came
    for module in components.modules.values():
        module.requires_grad_(False)
    return Run(config, world_of(config, *shown), components)


def toy_run(core="rnn", task="copy"):
    """An untrained toy game."""
    config = quick(TOY_GAME)
    environment = replace(config.environment, arguments=json.dumps({"task": task}))
    agent = with_options(config.agent, {"core": core})
    return untrained(replace(config, environment=environment, agent=agent), [-1.0])


def control_run(name, **environment):
    """An untrained run of any environment."""
    config = quick(RLConfig(EnvironmentConfig(name, **environment)))
    shown = spaces_of(config.environment)
    return untrained(config, None if isinstance(shown[1], spaces.Box) else [1.0], shown)


def player_of(run, folder, **config):
    """A player as `worldmodel play` makes it."""
    return opened(run, PlayConfig(**config), folder)


def assert_same(moment, other):
    """To the last bit."""
    np.testing.assert_equal(moment, other)


def frames_in(path):
    """How many frames a film has, once decoded."""
    frames = imageio_ffmpeg.read_frames(str(path))
    next(frames)
    return sum(1 for _ in frames)

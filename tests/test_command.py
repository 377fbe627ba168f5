"""Laws of commands: what a configuration is turned into is read back as that configuration."""

import json
import shlex
from dataclasses import replace

import pytest

from worldmodel.agents import AgentConfig
from worldmodel.experiments.cli.main import parse
from worldmodel.experiments.images.config import (
    ImagesConfig,
    VAEConfig,
    VAELearningConfig,
    VAEModelConfig,
)
from worldmodel.experiments.recordings.config import (
    AudioConfig,
    AudioDataConfig,
    MidiConfig,
    MidiDataConfig,
    SequenceModelConfig,
    SeriesDataConfig,
    SeriesRunConfig,
    StrokesConfig,
    StrokesDataConfig,
    TextConfig,
    TextDataConfig,
    quick_recordings,
)
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import TOY_GAME, EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.command import NEEDED, arguments_of, command_of, settings
from worldmodel.experiments.runs.registry import EXPERIMENTS
from worldmodel.options import with_options

CARTPOLE = EnvironmentConfig("CartPole-v1")
ODD = json.dumps({"name": 'it\'s "a" $HOME `x` \\ ü\n', "mass": -1.5, "list": [1, None, True]})


def agent(**options):
    return with_options(AgentConfig(), options)


CONFIGS = {
    "control": [
        RLConfig(CARTPOLE),
        quick(RLConfig(CARTPOLE, agent=agent(seed=3))),
        RLConfig(data="/some where/epi'sodes"),
        RLConfig(
            replace(
                CARTPOLE,
                arguments=ODD,
                hide=(-1, 0, -3),
                keys=("a b", "c"),
                hidden_velocities=True,
                time_limit=12,
            ),
            data="-odd",
            agent=agent(
                vae="joint",
                vae_kl_weight=0.0,
                core="srnn",
                rewards="density",
                agent="sb3:PPO",
                agent_arguments='{"gamma": 0.5}',
                num_imagined=5,
                gae_lambda=0.25,
                kl_balance=0.8,
                compile=True,
            ),
            film=True,
            checkpoint_seconds=1e9,
        ),
        TOY_GAME,
        quick(replace(TOY_GAME, agent=replace(TOY_GAME.agent, seed=7))),
        replace(
            TOY_GAME,
            environment=replace(TOY_GAME.environment, arguments='{"task": "equal"}'),
            agent=with_options(TOY_GAME.agent, {"normalise_returns": True, "epochs": 1}),
            film=False,
        ),
    ],
    "vae": [
        VAEConfig(ImagesConfig("/images")),
        VAEConfig(
            ImagesConfig("/my images", weights={"a b.npz": 0.5, "c.png": 2.0}, grayscale=True),
            VAEModelConfig(vae_likelihood="mse", first_activation=False),
            VAELearningConfig(kl_weight=0.5, kl_cycle=3, kl_delay=2),
        ),
    ],
    "text": [
        TextConfig(data=TextDataConfig(("/a b.txt", "/c.txt"), rare=3)),
        TextConfig(data=TextDataConfig(("/a",)), model=SequenceModelConfig(dropout=0.25)),
        quick_recordings(TextConfig(data=TextDataConfig(("/a",)))),
    ],
    "audio": [AudioConfig(data=AudioDataConfig(("/$x", "/~", "/*"), on_error="skip", frame=5))],
    "midi": [MidiConfig(data=MidiDataConfig(("/m",), beats=0), threads=2)],
    "strokes": [
        StrokesConfig(
            data=StrokesDataConfig(("/s",), exact=True, growth=0.1),
            model=SequenceModelConfig(smoothing=False, head="mixture", head_options='{"n": 3}'),
        )
    ],
    "series": [
        SeriesRunConfig(
            data=SeriesDataConfig(("/a b.csv",), time="t", by="b c", known=("k", "-"), tested=0.3)
        ),
        SeriesRunConfig(data=SeriesDataConfig(("/a",), channels=("x",))),
    ],
    "baseline": [BaselineConfig(replace(CARTPOLE, grayscale=True), "SAC", every=9)],
}


def test_every_experiment_is_here():
    assert CONFIGS.keys() == EXPERIMENTS.keys()


@pytest.mark.parametrize("config", [config for kind in CONFIGS.values() for config in kind])
def test_a_command_is_read_back(config):
    program, *words = shlex.split(command_of(config, "my runs/a"))
    assert program == "worldmodel"
    _, command = parse(words)
    assert command.config == config
    assert str(command.out) == "my runs/a"
    assert not getattr(command, "quick", False)


def test_only_what_differs_is_said():
    assert arguments_of(TOY_GAME, "x") == ["train", "toy-game", "--out", "x"]
    config = RLConfig(CARTPOLE, agent=agent(hidden_size=3))
    words = ["train", "control", "--env", "CartPole-v1", "--hidden-size", "3", "--out", "x"]
    assert arguments_of(config, "x") == words
    text = TextConfig(data=TextDataConfig(("/a",)))
    assert arguments_of(text, "x") == ["train", "text", "--corpus", "/a", "--out", "x"]


def test_defaults_are_those_of_the_experiment():
    """A text's memory is larger than that of other recordings."""
    by_path = {s.path: s for s in settings(TextConfig(data=TextDataConfig(("/a",))))}
    assert by_path["model.hidden_size"].default == 512
    assert not by_path["model.hidden_size"].differs
    assert by_path["data.data"].default is NEEDED
    assert by_path["data.data"].differs
    assert by_path["data.data"].option == "--corpus"
    assert by_path["data.held_out"].default == 0.1

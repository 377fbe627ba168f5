"""Laws of playing: the core, whatever shows it."""

from dataclasses import replace

import pytest
import torch

from envs import Action, ToyGame
from experiments.config import ToyGameConfig, quick
from experiments.play import Player
from experiments.play.core import PARTICLES
from experiments.toy_game import Parts
from worldmodel import Sequences, log_prob, nested
from worldmodel.noise import OwnNoise

WORLDS = ["real", "dream"]
KEYS = [0, 1, 3, 3, 1, "right", "down", "noop", "left", 4, 2, 3] * 3


def make_parts(core: str = "srnn") -> Parts:
    """An untrained model: its dreams end after a step or two."""
    config = quick(ToyGameConfig())
    with OwnNoise(0)():
        parts = Parts(replace(config, model=replace(config.model, core=core)), [-1.0])
    for module in parts.modules.values():
        module.requires_grad_(False)
    return parts


@pytest.fixture(params=["rnn", "srnn"])
def parts(request):
    return make_parts(request.param)


def presses(player, keys=KEYS):
    return [player.reset()] + [player.press(key) for key in keys]


@pytest.mark.parametrize("world", WORLDS)
def test_same_seed_and_keys_same_game(parts, world):
    once = presses(Player(parts, world, seed=7))
    assert presses(Player(parts, world, seed=7)) == once
    assert presses(Player(parts, world, seed=8)) != once


@pytest.mark.parametrize("world", WORLDS)
def test_the_global_generator_is_left_alone(parts, world):
    before = torch.get_rng_state()
    presses(Player(parts, world, seed=7))
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_does_not_disturb_the_dream():
    parts = make_parts()
    player, other = Player(parts, "dream", 7), Player(parts, "dream", 7)
    other._looking = OwnNoise(99)
    pairs = list(zip(presses(player), presses(other), strict=True))
    assert all(a[:8] == b[:8] for a, b in pairs)  # the row
    assert any(a.predicted != b.predicted for a, b in pairs)


def test_the_real_game_is_the_one_played_by_hand():
    player = Player(make_parts(), "real", seed=5)
    game = ToyGame()
    observation, info = game.reset(seed=5)
    moment = player.reset()
    assert (moment.first, moment.step, moment.observation) == (True, 0, observation)
    total, ended = 0.0, False
    for key in [Action.RIGHT, Action.UP, Action.NOOP, Action.LEFT, Action.DOWN] * 50:
        moment = player.press(key)
        if ended:
            observation, info = game.reset()
            total, ended = 0.0, False
            assert (moment.first, moment.step, moment.action, moment.reward) == (True, 0, "", 0)
        else:
            observation, reward, terminated, truncated, info = game.step(key)
            total, ended = total + reward, terminated or truncated
            assert moment.action == key.name.lower()
            assert (moment.reward, moment.first) == (reward, False)
            assert (moment.terminated, moment.truncated) == (terminated, truncated)
        assert (moment.observation, moment.total, moment.ended) == (observation, total, ended)
        assert (moment.position, player.truth) == (info["position"], info["ring"].tolist())


@pytest.mark.parametrize("world", WORLDS)
def test_after_an_end_comes_a_first_row(parts, world):
    player = Player(parts, world, seed=0)
    moment = player.reset()
    for _ in range(101):
        ended, moment = moment.ended, player.press("noop")
        assert moment.first == ended
        if moment.ended:
            break
    assert moment.ended
    assert moment.truncated == (moment.step == 100 and not moment.terminated)
    assert player.press("up").first
    player.press("up")
    assert player.reset().first


def test_the_first_press_begins_a_game():
    assert Player(make_parts(), "real", 0).press("up") == Player(make_parts(), "real", 0).reset()


@pytest.mark.parametrize("world", WORLDS)
def test_what_was_expected_and_what_surprised_agree(parts, world):
    for moment in presses(Player(parts, world, seed=1)):
        expected = moment.predicted.observation
        assert sum(expected) == pytest.approx(1, abs=1e-5)
        surprise = -torch.tensor(expected[moment.observation]).log().item()
        assert moment.surprise["observation"] == pytest.approx(surprise, abs=1e-4)
        if moment.first:
            assert set(moment.surprise) == {"observation"}
            assert moment.predicted[1:] == (0, 0)
        else:
            assert moment.predicted.reward == pytest.approx(-1)  # all that there is
            assert 0 < moment.predicted.terminated < 1


def test_without_latents_the_surprise_is_the_likelihood():
    parts = make_parts("rnn")
    player = Player(parts, "real", seed=2)
    rows, moments = [], []
    step = player.environment.step

    def record(action, state):
        row, state = step(action, state)
        rows.append(row)
        return row, state

    player.environment.step = record
    moments = presses(player, [1, 3, 1, 1, 2, 0, 4])
    with torch.no_grad():
        exact = log_prob(parts.model, Sequences.whole(nested.stack(rows)), 1)
    for t, moment in enumerate(moments):
        for key, nats in moment.surprise.items():
            assert nats == pytest.approx(-exact[key][t, 0].item(), abs=1e-4)
    assert PARTICLES > 1  # the average over copies of one prediction is that prediction

"""Laws of playing: the core, whatever shows it, and the terminal's face."""

import asyncio
from dataclasses import replace

import pytest
import torch

from envs import Action, ToyGame
from experiments.config import ToyGameConfig, quick
from experiments.play import Player, play
from experiments.play.core import PARTICLES
from experiments.play.terminal import PlayApp
from experiments.run import RunError
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


# The terminal.


def screen(app: PlayApp) -> str:
    """What is on the screen, as text."""
    return app.export_screenshot(simplify=True).replace("&#160;", " ")


def in_the_terminal(script, world="real", seed=1):
    async def run():
        app = PlayApp(make_parts(), world, seed)
        async with app.run_test(size=(80, 24)) as pilot:
            await script(app, pilot)
        return app

    return asyncio.run(run())


def test_keys_are_actions():
    keys = ["right", "left", "up", "down", "space", "n"]
    actions = ["right", "left", "up", "down", "noop", "noop"]

    async def script(app, pilot):
        by_hand = Player(make_parts(), "real", 1)
        assert app.moment == by_hand.reset()
        for key, action in zip(keys, actions, strict=True):
            await pilot.press(key)
            assert app.moment == by_hand.press(action)
            assert app.moment.action == action

    in_the_terminal(script)


@pytest.mark.parametrize("world", WORLDS)
def test_everything_fits_on_80_by_24(world):
    async def script(app, pilot):
        await pilot.press("right")
        text = screen(app)
        seen = ["surprise", "reward", "return", "▲ you", "quit", "restart", "copy, 4 cells"]
        assert all(word in text for word in seen)
        assert ("reveal" in text) == (world == "real")
        assert {"real": "The real world", "dream": "The dream"}[world] in text

    in_the_terminal(script, world)


def test_the_truth_is_told_at_the_end_or_when_asked_for():
    async def script(app, pilot):
        await pilot.press("right")
        assert "truth" not in screen(app)
        await pilot.press("x")
        assert f"truth {app.player.truth[3]}" in screen(app)
        await pilot.press("x")
        assert "truth" not in screen(app)
        await pilot.press("right", "up")  # this solves the ring of seed 1
        assert app.moment.terminated
        assert "solved! in 3 steps" in screen(app)
        assert "truth 1" in screen(app)
        await pilot.press("up")
        assert app.moment.first
        assert "truth" not in screen(app)

    in_the_terminal(script)


def test_a_dream_has_no_truth():
    async def script(app, pilot):
        await pilot.press("right", "x", "up", "x")
        assert "truth" not in screen(app)
        assert app.player.truth is None

    in_the_terminal(script, "dream")


def test_time_runs_out():
    async def script(app, pilot):
        for _ in range(100):
            app.action_press("noop")
        await pilot.pause()
        assert app.moment.truncated
        assert "time is up, after 100 steps" in screen(app)

    in_the_terminal(script)


def test_restart_and_quit():
    async def script(app, pilot):
        await pilot.press("right", "r")
        assert app.moment.first
        assert "a new game" in screen(app)
        await pilot.press("q")

    assert in_the_terminal(script)._exit


def test_without_a_terminal_there_is_no_playing(capsys):
    with pytest.raises(RunError, match="needs a terminal"):
        play(make_parts(), "real", 0)

"""Laws of the player, whatever shows it: two worlds, the same keys, and what can be asked."""

import numpy as np
import pytest
import torch
from faces import control_run, toy_run
from gymnasium import spaces
from perfect import PerfectDecoder, PerfectToyCore, perfect_model
from PIL import Image

from worldmodel import (
    BeliefAgent,
    Greedy,
    PerceptEncoder,
    Percepts,
    Sequences,
    WorldModel,
    action_codec,
    encoder_for,
    log_prob,
    nested,
)
from worldmodel.agents import Policy
from worldmodel.envs import Action, ToyGame, ToyGameFilter
from worldmodel.experiments.measure.scores import DENSITIES
from worldmodel.experiments.rl.run import Run
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.films import Film
from worldmodel.experiments.show.play import Player, new_player
from worldmodel.experiments.show.play.commands import COMMANDS, SPEEDS, TEMPERATURES
from worldmodel.experiments.show.play.expectation import PARTICLES
from worldmodel.experiments.show.play.faces import expected, explained, keys_of, status, thoughts
from worldmodel.experiments.show.play.moments import NOTICEABLE, probability
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError

WORLDS = ["real", "dream", "both"]
KEYS = ["0", "1", "3", "3", "right", "down", "space", "left", "4", "2", "up"] * 3


@pytest.fixture(params=["rnn", "srnn"])
def parts(request):
    return toy_run(request.param)


def presses(player, keys=KEYS):
    moments = [player.moment]
    for key in keys:
        assert player.press(key)
        moments.append(player.moment)
    return moments


def seen_by(player):
    """A list that gets every row that the real game makes from now on."""
    rows, step = [], player.environment.step

    def record(action, state):
        row, state = step(action, state)
        rows.append(row)
        return row, state

    player.environment.step = record
    return rows


def same(one, other):
    """Two states, to the last bit."""
    pairs = zip(nested.leaves(one), nested.leaves(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("world", WORLDS)
def test_same_seed_and_keys_same_game(parts, world):
    once = presses(Player(parts, world, seed=7))
    assert presses(Player(parts, world, seed=7)) == once
    assert presses(Player(parts, world, seed=8)) != once


@pytest.mark.parametrize("world", WORLDS)
def test_the_global_generator_is_left_alone(parts, world):
    before = torch.get_rng_state()
    player = Player(parts, world, seed=7)
    presses(player, [*KEYS, "f", "up", "b", "y", "t", ".", "u", ".", "]"])
    player.frame()
    assert torch.equal(torch.get_rng_state(), before)


def test_looking_does_not_disturb_the_dream():
    parts = toy_run("srnn")
    player, other = Player(parts, "dream", 7), Player(parts, "dream", 7)
    other._looking = OwnNoise(99)
    for key in KEYS:
        player.press(key)
        other.press(key)
        player.frame()
        assert player.moment.dream == other.moment.dream
    assert player.moment.surprise != other.moment.surprise


@pytest.mark.parametrize("world", ["real", "both"])
def test_the_real_game_is_the_one_played_by_hand(world):
    player = Player(toy_run("srnn"), world, seed=5)
    game = ToyGame()
    observation, info = game.reset(seed=5)
    snapshot = player.moment.real
    assert (snapshot.first, snapshot.step, snapshot.observation) == (True, 0, observation)
    total, ended = 0.0, False
    for action in [Action.RIGHT, Action.UP, Action.NOOP, Action.LEFT, Action.DOWN] * 50:
        player.press(str(int(action)))
        moment, snapshot = player.moment, player.moment.real
        if ended:
            observation, info = game.reset()
            total, ended = 0.0, False
            assert (snapshot.first, snapshot.step, moment.action, snapshot.reward) == (
                True,
                0,
                "",
                0,
            )
        else:
            observation, reward, terminated, truncated, info = game.step(action)
            total, ended = total + reward, terminated or truncated
            assert moment.action == action.name.lower()
            assert (snapshot.reward, snapshot.first) == (reward, False)
            assert (snapshot.terminated, snapshot.truncated) == (terminated, truncated)
        assert (snapshot.observation, snapshot.total, snapshot.ended) == (
            observation,
            total,
            ended,
        )
        assert (player.environment.info["ring"][0] == info["ring"]).all()


@pytest.mark.parametrize("world", ["real", "dream"])
def test_after_an_end_comes_a_first_row(parts, world):
    player = Player(parts, world, seed=0)
    for _ in range(101):
        ended = player.moment.lead.ended
        player.press("space")
        assert player.moment.lead.first == ended
        if player.moment.lead.ended:
            break
    snapshot = player.moment.lead
    assert snapshot.ended
    assert snapshot.truncated == (snapshot.step == 100 and not snapshot.terminated)
    player.press("up")
    assert player.moment.lead.first
    player.press("up")
    assert player.reset().lead.first


@pytest.mark.parametrize("world", WORLDS)
def test_what_was_expected_and_what_surprised_agree(parts, world):
    for moment in presses(Player(parts, world, seed=1)):
        expected = moment.predicted.observation
        assert sum(expected) == pytest.approx(1, abs=1e-5)
        surprise = -np.log(expected[int(moment.lead.observation)])
        assert moment.surprise["observation"] == pytest.approx(surprise, abs=1e-4)
        if moment.lead.first:
            assert set(moment.surprise) == {"observation"}
            assert moment.predicted[1:] == (0, 0)
        else:
            assert moment.predicted.reward == pytest.approx(-1)  # all that there is
            assert 0 < moment.predicted.terminated < 1


@pytest.mark.parametrize("world", ["real", "both"])
def test_without_latents_the_surprise_is_the_likelihood(world):
    parts = toy_run("rnn")
    player = Player(parts, world, seed=2)
    rows = seen_by(player)
    player.reset()
    moments = presses(player, ["1", "3", "1", "1", "2", "0", "4"])
    with torch.no_grad():
        exact = log_prob(parts.model, Sequences.whole(nested.stack(rows)), 1)
    for t, moment in enumerate(moments):
        for key, nats in moment.surprise.items():
            assert nats == pytest.approx(-exact[key][t, 0].item(), abs=1e-4)
    assert PARTICLES > 1  # the average over copies of one prediction is that prediction


# Two worlds.


def test_both_worlds_begin_at_the_real_first_row_and_hear_the_same(parts):
    player = Player(parts, "both", seed=3)
    heard = {side: [] for side in player.cores}
    for side, core in player.cores.items():
        step = core.environment.step

        def hear(action, state, side=side, step=step):
            heard[side].append(action.clone())
            return step(action, state)

        core.environment.step = hear
    moment = player.reset()
    assert moment.watching
    assert moment.real == moment.dream
    assert moment.difference is None
    for key in KEYS:
        alone = player._dream_waits or player.moment.real.ended
        player.press(key)
        if not alone:
            assert torch.equal(heard["dream"][-1], heard["real"][-1])


def test_a_dream_that_has_ended_waits_for_the_real_game():
    player = Player(toy_run("srnn"), "both", seed=0)
    while not (player.moment.dream.ended and not player.moment.real.ended):
        player.press("space")
    ended, step = player.moment.dream, player.moment.real.step
    player.press("space")
    assert player.moment.dream == ended
    assert player.moment.real.step == step + 1
    assert player.moment.difference is None
    player.press("y")
    assert player.moment.dream == player.moment.real
    player.press("space")
    assert player.moment.dream.step == step + 2


def test_the_resynced_dream_goes_on_from_what_the_model_believes(parts):
    player = Player(parts, "both", seed=3)
    rows = seen_by(player)
    player.reset()
    presses(player, ["1", "3", "1", "y"])
    world, real = player.states["dream"].game.world.world, player.states["real"].game
    assert player.moment.watching
    assert player.moment.dream == player.moment.real
    assert same(world.model, real.mind)
    assert int(world.clock) == 3
    assert same(player.states["dream"].game.thought, real.thought)
    believed = player.model.initial_state(1)
    with torch.no_grad():
        for row in rows:
            believed = player.model.observe(row, believed)
    assert same(world.model.history, believed.history)
    if not believed.core.latent.shape[-1]:
        assert same(world.model, believed)


def test_a_fork_leaves_reality_where_it_stands_and_comes_back(parts):
    player = Player(parts, "both", seed=4)
    presses(player, ["1", "3"])
    before, states, belief = player.moment, dict(player.states), player.belief
    tick = player.environment._tick.number.clone()
    presses(player, ["f", "1", "2", "f", "3"])
    assert len(player.forks) == 2
    assert player.leader == "dream"
    assert player.moment.real == before.real
    assert player.moment.dream != before.dream
    presses(player, ["b", "b"])
    assert player.forks == []
    assert player.moment == before
    assert same(player.belief, belief)
    for side, state in states.items():
        assert same(player.states[side].game, state.game)
    assert torch.equal(player.environment._tick.number, tick)
    player.press("1")
    assert player.moment.real.step == before.real.step + 1


def test_to_resync_is_to_come_back_too():
    player = Player(toy_run("srnn"), "both", seed=4)
    presses(player, ["1", "3"])
    real = player.moment.real
    presses(player, ["f", "1", "1", "y"])
    assert player.forks == []
    assert player.moment.dream == player.moment.real == real
    assert player.moment.action == "up"


def test_a_dream_alone_is_forked_as_well(parts):
    player = Player(parts, "dream", seed=4)
    before = player.moment
    presses(player, ["f", "1", "2", "b"])
    assert player.moment == before


# Who is at the controls.


def test_the_agent_takes_over_with_the_mode_of_its_policy_and_hands_back():
    parts = toy_run("srnn")
    player, other = Player(parts, "real", seed=6), Player(parts, "real", seed=6)
    greedy = Greedy(parts.agent)
    player.press("t")
    assert (player.pilot, player.running) == ("agent", True)
    for _ in range(12):
        with torch.no_grad():
            mode = greedy.policy(other.states["real"].game.thought).sample()
        player.tick()
        other.press(str(int(mode.argmax())))
        assert player.moment.real == other.moment.real
    player.press("t")
    assert (player.pilot, player.running) == ("human", False)
    player.press("t")
    player.press("right")
    assert player.pilot == "human"
    assert player.message == "you play"


def test_chance_plays_all_actions():
    player = Player(toy_run(task="free"), "real", seed=6)
    player.press("u")
    seen = set()
    for _ in range(80):
        player.tick()
        seen.add(player.moment.action)
    assert seen >= {"noop", "right", "left", "up", "down"}


def test_time_stands_still_until_it_runs():
    player = Player(toy_run("srnn"), "both", seed=0)
    player.tick()
    assert player.moment.real.step == 0
    player.press("p")
    player.press("right")
    assert player.moment.real.step == 0  # the key is played by the next tick
    player.tick()
    assert (player.moment.real.step, player.moment.action) == (1, "right")
    player.release()
    player.tick()
    assert player.moment.action in ("noop", "")
    player.press(".")
    assert not player.running


def test_speed_and_temperature_have_ends():
    player = Player(toy_run("srnn"), "both", seed=0)
    for key, speed in [("+", SPEEDS[-1]), ("-", SPEEDS[0])]:
        presses(player, [key] * len(SPEEDS))
        assert player.speed == speed
    temperatures = []
    for key in ["]"] * len(TEMPERATURES) + ["["] * len(TEMPERATURES):
        player.press(key)
        temperatures.append(player.dreaming.temperature)
    assert temperatures[len(TEMPERATURES) - 1] == TEMPERATURES[-1]
    assert set(temperatures) == set(TEMPERATURES)
    assert temperatures[-1] == TEMPERATURES[0]
    assert "temperature" in player.message


def test_a_cold_dream_is_the_most_probable_one():
    parts = toy_run("rnn")
    dreams = [Player(parts, "dream", seed) for seed in range(6)]
    for player in dreams:
        player.set_temperature(1e-6)
        player.reset()
        presses(player, ["1", "1", "3"])
    assert len({str(player.moment.dream) for player in dreams}) == 1


# What a perfect model shows.


def run_of(model: WorldModel, task: str) -> Run:
    """The toy game, with a model by hand, such as its exact filter."""
    run = toy_run(task=task)
    with OwnNoise(0)():
        policy = Policy(model.belief_size, run.components.actions).double()
    run.components.model = model
    run.components.agent = BeliefAgent(model, policy.requires_grad_(False))
    return run


class TurnsTheWrongWay(PerfectToyCore):
    """What is turned up goes down."""

    def step(self, context, state):
        order = [0, 1, 2, 4, 3, *range(5, context.shape[-1])]
        return super().step(context[..., order], state)


def wrong_model(task: str) -> WorldModel:
    core = TurnsTheWrongWay(ToyGameFilter(4, 3, task))
    encoder = PerceptEncoder(encoder_for(spaces.Discrete(3)).double())
    return WorldModel(Percepts(encoder, PerfectDecoder(core)), core, 5)


def tell_the_truth(player: Player) -> None:
    """The dream is given the true ring as its state."""
    dream = player.states["dream"]
    ring = player.environment.info["ring"][0]
    number = int(ring @ 3 ** np.arange(3, -1, -1))
    model = dream.game.world.world.model
    belief = torch.zeros_like(model.core.belief)
    belief[0, number] = 1.0
    config = model._replace(core=model.core._replace(belief=belief))
    watched = dream.game.world
    world = watched._replace(world=watched.world._replace(model=config))
    game = dream.game._replace(world=world)
    player.states["dream"] = dream._replace(game=game)


@pytest.mark.parametrize(("task", "number"), [("free", 400), ("copy", 200)])
def test_a_perfect_model_that_knows_the_ring_never_differs(task, number):
    player = Player(run_of(perfect_model(4, 3, task), task), "both", seed=0, pilot="random")
    player.particles = 1  # there are no latents to average over
    steps = 0
    while steps < number:
        if player.moment.watching:
            tell_the_truth(player)
        moment = player.step()
        if moment.watching:
            continue
        steps += 1
        assert moment.difference.distance == 0
        assert not moment.difference.is_seen
        real, dream = moment.real, moment.dream
        assert (real.observation, real.reward, real.terminated) == (
            dream.observation,
            dream.reward,
            dream.terminated,
        )


def test_losses_are_called_so_and_densities_explained(parts):
    """By every face, whose words these are."""
    player = Player(parts, "both", seed=1)
    presses(player)
    words = dict(thoughts(player))["surprise"]
    assert words.startswith(f"loss {sum(player.moment.surprise.values()):z.2f} nats: observation")
    assert DENSITIES not in words
    assert not any(DENSITIES in text for text in explained(player))
    player.densities = frozenset({"observation"})
    assert any(DENSITIES in text for text in explained(player))


def test_an_expected_reward_that_is_rounding_is_none(parts):
    moment = presses(Player(parts, "real", seed=1), ["1"])[-1]
    for reward, config in (
        (-6.928e-15, "reward 0 "),
        (-0.25, "reward -0.25 "),
        (2e-5, "reward 2e-05 "),
    ):
        changed = moment._replace(predicted=moment.predicted._replace(reward=reward))
        assert expected(changed).startswith(config)


def test_a_wrong_model_differs_at_the_very_step():
    player = Player(run_of(wrong_model("free"), "free"), "both", seed=0)
    tell_the_truth(player)
    for key in ["right", "right", "space", "left", "left", "right"]:
        player.press(key)
        assert not player.moment.difference.is_seen
        assert player.moment.difference.log_prob == {}
    player.press("up")
    difference = player.moment.difference
    assert difference.is_seen
    assert difference.distance > NOTICEABLE
    assert probability(difference.log_prob["observation"]) == "0.0 %"
    assert player.moment.real.observation != player.moment.dream.observation


# What is shown and kept.


def test_the_real_ring_is_hidden_until_the_end_or_until_it_is_asked_for():
    player = Player(toy_run("srnn"), "both", seed=1)
    truth = player.parts.picture(player.environment, "rgb_array")
    assert (player.picture("real") != truth).any()
    player.press("x")
    assert (player.picture("real") == truth).all()
    player.press("x")
    assert (player.picture("real") != truth).any()
    while not player.moment.real.ended:
        assert (player.picture("real") != truth).any()
        player.press("space")
    assert (player.picture("real") == truth).all()
    dreaming = Player(toy_run("srnn"), "dream", seed=1)
    dreaming.press("x")
    assert "nothing hidden" in dreaming.message


def test_a_recording_holds_every_moment(tmp_path):
    player = Player(toy_run("srnn"), "both", seed=1)
    player.press("v")
    assert "no folder for recordings" in player.message
    player.new_film = lambda: Film(tmp_path / "film.webp", 4)
    player.press("v")
    frames = [player.frame()]
    for key in ["right", "up", "y", "1"]:
        player.press(key)
        frames.append(player.frame())
    player.press("v")
    assert "film.webp" in player.message
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames == len(frames)
        for number, frame in enumerate(frames):
            film.seek(number)
            assert (np.asarray(film.convert("RGB")) == frame).all()


def test_every_command_is_one_of_the_player():
    player = Player(toy_run("srnn"), "both", seed=1)
    for key in COMMANDS:
        assert player.press(key)
    assert not player.press("F7")
    assert not player.press("z")


def all_of(player):
    """What a command may change."""
    games = [nested.leaves(state.game) for state in player.states.values()]
    worlds = [[leaf.numpy() for leaf in leaves] for leaves in games]
    told = player.truth_is_told, player.running, player.speed, player.dreaming.temperature
    return (*told, player.pilot, len(player.forks), player.film, player.moment, worlds)


def test_commands_that_are_grey_do_nothing():
    begun = Player(toy_run(), "both", seed=1)
    slow, fast = Player(toy_run(), "both", seed=1), Player(toy_run(), "both", seed=1)
    presses(slow, ["right", *"-[" * len(TEMPERATURES)])
    presses(fast, ["f", *"+]" * len(TEMPERATURES)])
    ended = Player(toy_run(), "real", seed=1)
    presses(ended, ["right", "right", "up"])  # this solves the ring of seed 1
    grey = set()
    for player in (begun, slow, fast, ended):
        for key in keys_of(player):
            if key.is_idle:
                grey.add(key.keys)
                before = all_of(player)
                player.press(key.keys)
                np.testing.assert_equal(all_of(player), before)
    assert grey == set("by[]+-x")


def test_the_end_says_what_was_reached_and_what_could_have_been():
    player = Player(toy_run(), "both", seed=1)
    presses(player, ["up", "right", "right", "up"])  # the first was in vain
    assert status(player).startswith("solved: 4 steps, return -4, best possible -3; any action")
    assert player.outcome("real") in player.lines("real")
    assert player.moment.dream.ended
    assert "best possible" not in player.outcome("dream")  # of which ring, nobody knows
    player.press("up")
    assert status(player) == player.outcome("real") == ""


def test_time_runs_as_fast_as_the_environment_is_rendered():
    assert Player(control_run("CartPole-v1"), "dream").speed == 50
    assert new_player(toy_run(), PlayConfig(speed=9.0), 0).speed == 9


def test_beliefs_about_reality_are_called_so():
    player = Player(toy_run(), "both", seed=1)
    assert [panel.title for panel in player.panels()[:2]] == [
        "real, as the model believes it",
        "dream",
    ]
    player.press("x")
    assert player.title("real") == "real"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PlayConfig(keys=("a=7",)), "actions are 0 to 4, got the keys a=7"),
        (PlayConfig(world="dream", keys=("a=9",)), "actions are 0 to 4"),
    ],
)
def test_mistakes_are_told_in_a_sentence(config, message):
    with pytest.raises(RunError, match=message):
        new_player(toy_run("srnn"), config, 0)


def test_what_cannot_be_told_is_refused():
    for wrong in ({"keys": ("left",)}, {"seed": -1}, {"port": 70_000}, {"speed": 0}):
        with pytest.raises(ValueError, match="--"):
            PlayConfig(**wrong)


def test_a_players_own_keys_come_first():
    player = new_player(toy_run("srnn"), PlayConfig(keys=("f=3", "d=1")), 0)
    player.press("f")
    assert player.moment.action == "up"
    assert player.forks == []
    player.press("d")
    assert player.moment.action == "right"
    assert action_codec(player.parts.action_space).size == 5

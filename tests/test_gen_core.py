"""Laws of the one loop: how rows, thoughts and actions line up, in real and dreamt worlds."""

import gymnasium
import numpy as np
import pytest
import torch
from cores import CORES, SYMBOLS, make_model
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldmodel import (
    Agent,
    Dream,
    Environment,
    GenCore,
    Greedy,
    Row,
    Sequences,
    WorldModel,
    action_codec,
    nested,
)
from worldmodel.distributions import OneHot
from worldmodel.envs import GymEnvironment, ToyGame, ToyGameVector

ACTIONS = spaces.Discrete(3)


def all_equal(found, expected):
    nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=0), found, expected)


class Corridor(Environment):
    """Observation t is the sum of the actions so far; the reward is minus the action that led
    to it; a sum of 4 or more is the end.

    State: the sum, and whether the next row is a first row, [B] each.
    """

    observation_space = spaces.Discrete(7)
    action_space = ACTIONS

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, dtype=torch.int64), torch.ones(batch_size, dtype=torch.bool)

    def step(self, action, state):
        total, first = state
        number = action.argmax(-1)
        total = torch.where(first, 0, total + number)
        row = Row(
            first,
            action.masked_fill(first[:, None], 0.0),
            total,
            -number.float().masked_fill(first, 0.0),
            (total >= 4) & ~first,
        )
        return row, (total, row.terminated)

    def observe(self, row, state):
        return row.observation, row.terminated


class Counter(Agent):
    """Its thought is [1, the last observation, the rows since the first]. At even sums it
    plays 1, at odd ones 2; before it has thought, 0."""

    thought_size = 3

    def initial_state(self, batch_size):
        return torch.zeros(batch_size)

    def step(self, row, state, shared=None):
        state = torch.where(row.first, 0.0, state + 1)
        one = torch.ones(len(state))
        return torch.stack([one, row.observation.float(), state], -1), state

    def policy(self, thought):
        awake, observation, _ = thought.unbind(-1)
        number = torch.where(awake == 0, 0, 1 + observation.long() % 2)
        return OneHot(torch.eye(3)[number].log().clamp(min=-1e4))


def test_rows_written_by_hand():
    """0; play 1 -> 1; play 2 -> 3; play 2 -> 5, the end; what is drawn there leads nowhere."""
    core = GenCore(Corridor(), Counter())
    state = core.initial_state(2)
    assert (state.thought == 0).all()
    assert (state.action == 0).all()
    sequences, thoughts, state = core.generate(4, state)
    rows = sequences.rows
    assert sequences.mask.all()
    assert sequences.loss_mask.all()
    assert rows.first.tolist() == [[True] * 2, *[[False] * 2] * 3]
    assert rows.action[:, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert rows.observation[:, 0].tolist() == [0, 1, 3, 5]
    assert rows.reward[:, 0].tolist() == [0, -1, -2, -2]
    assert rows.terminated[:, 0].tolist() == [False, False, False, True]
    assert thoughts[:, 0].tolist() == [[1, 0, 0], [1, 1, 1], [1, 3, 2], [1, 5, 3]]
    assert torch.equal(state.thought, thoughts[-1])
    assert torch.equal(state.action, torch.eye(3)[[2, 2]])
    (row, thought), state = core.step(state)
    assert row.first.all()
    assert (row.action == 0).all()
    assert row.observation.tolist() == [0, 0]
    assert (row.reward == 0).all()
    assert thought.tolist() == [[1, 0, 0]] * 2
    assert torch.equal(state.action, torch.eye(3)[[1, 1]])


def test_the_action_of_a_row_was_drawn_from_the_thought_before_it():
    core = GenCore(Corridor(), Counter())
    middle = core.generate(2, core.initial_state(1))[2]
    for start in (core.initial_state(1), middle):
        sequences, thoughts, _ = core.generate(6, start)
        before = torch.cat([start.thought[None], thoughts[:-1]])
        played = ~sequences.rows.first
        log_probs = core.agent.policy(before).log_prob(sequences.rows.action)
        assert (log_probs[played] > -1e-3).all()
        shifted = core.agent.policy(thoughts).log_prob(sequences.rows.action)
        assert (shifted[played] < -1e3).any()
    played = ~sequences.rows.first
    reward = -sequences.rows.action.argmax(-1).float()
    assert torch.equal(sequences.rows.reward[played], reward[played])
    assert played[0].all()  # so row 0 of the second run was scored from `state.thought`


@pytest.mark.parametrize("number", [0, 1, 2])
def test_replacing_the_action_forces_it(number):
    core = GenCore(Corridor(), Counter())
    state = core.generate(2, core.initial_state(1))[2]
    forced = state._replace(action=torch.eye(3)[[number]])
    (row, thought), _ = core.step(forced)
    assert row.reward.item() == -number
    assert row.observation.item() == 1 + number
    assert thought[0].tolist() == [1, 1 + number, 2]


def test_observing_rows_is_as_good_as_having_lived_them():
    core = GenCore(Corridor(), Counter())
    start = core.initial_state(2)
    sequences, _, expected = core.generate(5, start)
    state = start
    for row in nested.steps(sequences.rows):
        state = core.observe(row, state)
    all_equal(state, expected)
    all_equal(core.generate(4, state), core.generate(4, expected))


def test_greedy_plays_the_mode_and_thinks_the_same():
    class Wavering(Counter):
        def policy(self, thought):
            return OneHot(torch.tensor([0.0, 0.5, 0.4]).expand(len(thought), 3))

    core = GenCore(Corridor(), Greedy(Wavering()))
    sequences, thoughts, _ = core.generate(4, core.initial_state(50))
    assert (sequences.rows.action[1:, :, 1] == 1).all()
    assert (thoughts[..., 1] == torch.arange(4.0)[:, None]).all()
    assert thoughts.shape == (4, 50, core.agent.thought_size)


# Worlds: the corridor, dreams, the toy game.


def corridor():
    return Corridor()


def dream(name, horizon=3):
    def make():
        model: WorldModel = make_model(name, history=2, actions=3).float()
        return Dream(model, horizon, SYMBOLS, ACTIONS)

    return make


def toy_game():
    return GymEnvironment(ToyGameVector(4, width=2, classes=2, time_limit=3), seed=1)


class Anything(Agent):
    """Plays anything; thinks of what it saw."""

    thought_size = 1

    def __init__(self, actions):
        self.actions = int(actions.n)

    def initial_state(self, batch_size):
        return ()

    def step(self, row, state, shared=None):
        return row.observation[:, None].float(), state

    def policy(self, thought):
        return OneHot(torch.zeros(*thought.shape[:-1], self.actions))


WORLDS = {"corridor": corridor, "toy game": toy_game} | {
    f"dream of {name}": dream(name) for name in CORES
}
every_world = pytest.mark.parametrize("name", WORLDS)


@every_world
def test_generating_twice_is_generating_once(name):
    runs = []
    for cuts in [(7,), (3, 4), (1, 5, 1)]:
        world = WORLDS[name]()
        core = GenCore(world, Anything(world.action_space))
        state = core.initial_state(4)
        torch.manual_seed(0)
        parts = []
        with torch.no_grad():
            for length in cuts:
                sequences, thoughts, state = core.generate(length, state)
                parts.append((sequences, thoughts))
        runs.append((nested.concatenate(parts), state.mind, state.thought, state.action))
        assert type(runs[-1][0][0]) is Sequences
    for run in runs[1:]:
        all_equal(run, runs[0])


@every_world
@torch.no_grad()
def test_after_an_end_comes_a_first_row(name):
    world = WORLDS[name]()
    core = GenCore(world, Anything(world.action_space))
    state = core.initial_state(4)
    torch.manual_seed(0)
    rows = core.generate(40, state)[0].rows
    assert rows.first[0].all()
    assert rows.first[1:].any(1).sum() > 5
    assert (rows.first[1:] >= rows.terminated[:-1]).all()  # an end is followed by a first row
    assert rows.terminated.any()
    assert not rows.terminated[rows.first].any()
    assert (rows.reward[rows.first] == 0).all()
    assert (rows.action[rows.first] == 0).all()
    assert (rows.action[~rows.first].sum(-1) == 1).all()
    steps = torch.zeros(4, dtype=torch.int64)
    for row in nested.steps(rows):
        steps = torch.where(row.first, 0, steps + 1)
        if name != "corridor":
            assert (steps <= 3).all()  # the horizon, or the referee's limit
    if name != "corridor":  # and a first row follows nothing but an end or the third step
        clock = torch.zeros(4, dtype=torch.int64)
        for t in range(39):
            clock = torch.where(rows.first[t], 0, clock + 1)
            ended = rows.terminated[t] | (clock == 3)
            assert torch.equal(rows.first[t + 1], ended)


# Dreams.


@pytest.mark.parametrize("name", CORES)
@torch.no_grad()
def test_a_dream_goes_on_from_inferred_states(name):
    """With the clock at zero; ended games begin anew, and know nothing of what was before."""
    model = make_model(name)
    world = Dream(model, 3, SYMBOLS, spaces.Discrete(2))
    states = nested.map(lambda leaf: leaf + 0.4, model.initial_state(4))
    ended = torch.tensor([False, True, False, True])
    action = torch.eye(2).double()[[0, 0, 1, 1]]
    found = []
    for start in (states, nested.where(ended, model.initial_state(4), states)):
        torch.manual_seed(0)
        row, after = world.step(action, world.start(start, ended))
        assert torch.equal(row.first, ended)
        assert after.clock.tolist() == [1, 0, 1, 0]
        found.append((row, after))
    all_equal(*found)
    torch.manual_seed(0)
    row, expected = model.step(ended, action, states)
    all_equal(found[0][0], row)
    all_equal(found[0][1].model, expected)


@torch.no_grad()
def test_a_dream_that_observes_its_own_rows_stands_where_it_stood():
    """Of a core without latents, so that nothing of what it dreamt is hidden."""
    model = make_model("rnn", history=2)
    world = Dream(model, 2, SYMBOLS, spaces.Discrete(2))
    state = world.initial_state(3)
    assert state.ended.all()
    torch.manual_seed(0)
    for _ in range(6):
        row, after = world.step(torch.eye(2).double()[[0, 1, 1]], state)
        found = world.observe(row, state)
        nested.map(lambda a, b: torch.testing.assert_close(a, b, rtol=0, atol=1e-12), found, after)
        state = after


def test_a_dream_lasts_at_least_one_step():
    model = make_model("rnn")
    with pytest.raises(ValueError, match="at least one step, got 0"):
        Dream(model, 0, SYMBOLS, spaces.Discrete(2))


# The real world.


def two_ways(limit=5, copies=3):
    make = [lambda: ToyGame(2, 3, "copy", time_limit=limit)] * copies
    return {
        "vector": lambda: ToyGameVector(copies, 2, 3, "copy", time_limit=limit),
        "sync": lambda: SyncVectorEnv(make, autoreset_mode=AutoresetMode.NEXT_STEP),
    }


@pytest.mark.parametrize("kind", two_ways())
def test_rows_of_a_real_world_equal_stepping_gymnasium_by_hand(kind):
    vector_env, by_hand = two_ways()[kind](), two_ways()["sync"]()
    world = GymEnvironment(vector_env, seed=11)
    core = GenCore(world, Anything(world.action_space))
    torch.manual_seed(0)
    sequences, _, _ = core.generate(30, core.initial_state(3))
    rows = sequences.rows
    actions = action_codec(world.action_space).decode(rows.action).numpy()
    observation, _ = by_hand.reset(seed=11)
    reward, terminated = np.zeros(3), np.zeros(3, bool)
    first = np.ones(3, bool)
    ended = np.zeros(3, bool)
    seen_end = 0
    for t in range(30):
        if t:
            first = ended
            observation, reward, terminated, truncated, _ = by_hand.step(actions[t])
            ended = terminated | truncated
        np.testing.assert_array_equal(rows.first[t], first)
        np.testing.assert_array_equal(rows.observation[t], observation)
        np.testing.assert_array_equal(rows.reward[t], reward)
        np.testing.assert_array_equal(rows.terminated[t], terminated)
        assert (rows.action[t].sum(-1).numpy() == ~first).all()
        seen_end += terminated.sum()
    assert seen_end > 0
    assert rows.first[1:].any()


def test_only_the_first_reset_is_seeded():
    world = toy_game()
    core = GenCore(world, Anything(world.action_space))
    runs = []
    for _ in range(2):  # the same actions in both
        torch.manual_seed(0)
        runs.append(core.generate(20, core.initial_state(4))[0].rows)
    assert all(run.first[0].all() for run in runs)
    assert not torch.equal(runs[0].observation, runs[1].observation)


def test_a_real_world_cannot_be_rewound():
    world = toy_game()
    start = world.initial_state(4)
    action = torch.eye(5)[[0, 0, 0, 0]]
    _, middle = world.step(action, start)
    with pytest.raises(ValueError, match="cannot be rewound"):
        world.step(action, start)
    row, _ = world.step(action, middle)  # the refusal changed nothing
    with pytest.raises(ValueError, match="cannot be rewound"):
        world.step(action, middle)
    old = world.initial_state(4)
    world.initial_state(4)
    with pytest.raises(ValueError, match="cannot be rewound"):
        world.step(action, old)
    with pytest.raises(ValueError, match="cannot be set to a row"):
        world.observe(row, middle)


def test_a_real_world_has_as_many_games_as_it_has_copies():
    with pytest.raises(ValueError, match=r"has 4 copies.*batch of 3.*batch_size=4"):
        toy_game().initial_state(3)


def test_a_real_world_restarts_in_gymnasiums_next_step_mode_only():
    games = [lambda: ToyGame(2, 2)]
    with pytest.raises(ValueError, match="expects autoreset_mode NEXT_STEP"):
        GymEnvironment(SyncVectorEnv(games, autoreset_mode=AutoresetMode.SAME_STEP))


def test_ticks_say_which_games_have_ended():
    world = toy_game()
    state = world.initial_state(4)
    assert state.ended.all()
    for t in range(9):
        row, state = world.step(torch.eye(5)[[0, 0, 0, 0]], state)
        assert row.first.all() == (t % 4 == 0)
        assert state.ended.all() == (t % 4 == 3)


def test_rows_of_a_real_world_are_not_overwritten_by_later_steps():
    class Reused(gymnasium.vector.VectorEnv):
        """An environment that gives the same array again and again."""

        metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
        num_envs = 2
        single_observation_space = spaces.Box(0, 99, (1,))
        single_action_space = ACTIONS

        def __init__(self):
            self.buffer = np.zeros((2, 1), np.float32)

        def reset(self, *, seed=None, options=None):
            self.buffer[:] = 0
            return self.buffer, {}

        def step(self, actions):
            self.buffer += 1
            never = np.zeros(2, bool)
            return self.buffer, np.zeros(2), never, never, {}

    class Quiet(Anything):
        def step(self, row, state, shared=None):
            return row.observation.clone(), state

    world = GymEnvironment(Reused())
    core = GenCore(world, Quiet(ACTIONS))
    rows = core.generate(4, core.initial_state(2))[0].rows
    assert rows.observation[:, 0, 0].tolist() == [0, 1, 2, 3]

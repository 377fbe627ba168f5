"""Laws of policy gradients: returns by definition, gradients by enumeration, real games learnt."""

import io
import itertools
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from torch import nn

from worldmodel import (
    Agent,
    BeliefAgent,
    Environment,
    GenCore,
    Row,
    Trainer,
    action_codec,
    constant,
    model_for,
)
from worldmodel.agents import ActorCritic, AllActions, Critic, Policy, Uniform
from worldmodel.agents.config import PolicyConfig
from worldmodel.agents.policy_gradient import Spread, lambda_returns
from worldmodel.distributions import OneHot
from worldmodel.envs import GymEnvironment
from worldmodel.noise import OwnNoise


class Standing(NamedTuple):
    cell: torch.Tensor  # int64 [B]
    ended: torch.Tensor  # bool [B]


class CoinGame(Environment):
    """A game written down: transitions [S, A, S] (what is missing to one ends it), rewards [S, A].

    It begins in state 0; the observation is the state, after an end the state that it ended in.
    """

    def __init__(self, transitions, rewards):
        self.transitions = torch.tensor(transitions)
        self.rewards = torch.tensor(rewards)
        states, actions = self.rewards.shape
        self.observation_space = spaces.Discrete(states)
        self.action_space = spaces.Discrete(actions)

    def initial_state(self, batch_size):
        ended = torch.ones(batch_size, dtype=torch.bool)
        return Standing(torch.zeros(batch_size, dtype=torch.int64), ended)

    def step(self, action, state):
        first, choice = state.ended, action.argmax(-1)
        chances = self.transitions[state.cell, choice].cumsum(-1)  # [B, S]
        drawn = (torch.rand(len(first), 1) >= chances).sum(-1)  # S: the end
        ended = (drawn == len(self.rewards)) & ~first
        cell = torch.where(first, 0, torch.where(ended, state.cell, drawn))
        reward = self.rewards[state.cell, choice].masked_fill(first, 0.0)
        action = action.masked_fill(first[:, None], 0.0)
        return Row(first, action, cell, reward, ended), Standing(cell, ended)

    def observe(self, row, state):
        return Standing(row.observation, row.terminated)


class Tabular(Agent):
    """Thinks of the observation as one-hot; its policy is a table of logits [S, A]."""

    def __init__(self, logits):
        self.logits = nn.Parameter(torch.tensor(logits))
        self.thought_size = len(logits)

    def initial_state(self, batch_size):
        return ()

    def step(self, row, state, shared=None):
        return torch.eye(self.thought_size)[row.observation], state

    def policy(self, thought):
        return OneHot(thought @ self.logits)


class Table(nn.Module):
    """A critic that knows: values [S]."""

    def __init__(self, values):
        super().__init__()
        self.values = nn.Parameter(values)

    def forward(self, thought):
        return thought @ self.values


class Game(NamedTuple):
    """A coin game whose episodes have `steps` steps, and a policy for it."""

    transitions: list
    rewards: list
    logits: list
    steps: int


BANDIT = Game([[[0.0], [0.0]]], [[1.0, -0.5]], [[0.3, -0.4]], steps=1)
COINS = Game(
    [
        [[0.0, 0.3, 0.7], [0.0, 0.8, 0.2]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    ],
    [[0.5, -1.0], [2.0, 0.0], [-1.0, 1.0]],
    [[0.2, -0.3], [0.5, 0.1], [-0.6, 0.4]],
    steps=2,
)


def expected_return(game, logits):
    """J, by adding up every course that an episode can take; float64."""
    policy = logits.softmax(-1)
    transitions = torch.tensor(game.transitions, dtype=torch.float64)
    rewards = torch.tensor(game.rewards, dtype=torch.float64)
    states, actions = rewards.shape
    total = torch.zeros((), dtype=torch.float64)
    for later in itertools.product(range(states), repeat=game.steps - 1):
        for choices in itertools.product(range(actions), repeat=game.steps):
            cells = (0, *later)
            chance = torch.ones((), dtype=torch.float64)
            earned = torch.zeros((), dtype=torch.float64)
            for t, (cell, choice) in enumerate(zip(cells, choices, strict=True)):
                chance = chance * policy[cell, choice]
                earned = earned + rewards[cell, choice]
                if t + 1 < game.steps:
                    chance = chance * transitions[cell, choice, cells[t + 1]]
            total = total + chance * earned
    return total


def exact_gradient(game):
    """The gradient of J by the table of logits, a step: [S, A]."""
    logits = torch.tensor(game.logits, dtype=torch.float64, requires_grad=True)
    expected_return(game, logits).backward()
    return logits.grad / game.steps


def values_of(game):
    """The expected return from each state on, [S]."""
    policy = torch.tensor(game.logits).softmax(-1)
    value = torch.zeros(len(game.rewards))
    for _ in range(game.steps):
        tried = torch.tensor(game.rewards) + torch.tensor(game.transitions) @ value
        value = (policy * tried).sum(-1)
    return value


def gradients(objective, agent, rollouts):
    """The gradient of what each rollout would climb, [rollouts, S, A]."""
    state, found = objective.start(), []
    for _ in range(rollouts):
        rollout, state = objective.roll(state)
        agent.logits.grad = None
        objective(rollout, (), 0)[0].backward()
        found.append(-agent.logits.grad.double())
    return torch.stack(found)


def within_four_errors(found, exact):
    error = found.std(0) / len(found) ** 0.5
    return ((found.mean(0) - exact).abs() <= 4 * error + 1e-6).all() and (error < 0.01).all()


def make_core(game):
    agent = Tabular(game.logits)
    return GenCore(CoinGame(game.transitions, game.rewards), agent), agent


# Returns.


def random_rows(length, games, seed):
    """Rows with ends of both kinds; some columns begin within an episode."""
    draw = np.random.default_rng(seed)
    first = np.zeros((length, games), bool)
    terminated = np.zeros((length, games), bool)
    first[0] = draw.random(games) < 0.5
    for t in range(length):
        if t:
            cut = draw.random(games) < 0.15  # truncated before this row
            first[t] = terminated[t - 1] | (cut & ~first[t - 1])
        terminated[t] = (draw.random(games) < 0.15) & ~first[t]
    reward = draw.normal(size=(length, games))
    nothing = torch.zeros(length, games, 1)
    tensors = (torch.tensor(x) for x in (reward * ~first, terminated))
    return Row(torch.tensor(first), nothing, nothing, *tensors)


def return_by_definition(rows, values, t, game, discount, lambda_):
    """The mixture of n-step returns, (1 - lambda) lambda^{n-1} each, the rest to the longest."""
    end = t
    while end + 1 < len(values) and not rows.first[end + 1, game]:
        end += 1
    longest = end - t + 1
    mixture = 0.0
    for n in range(1, longest + 1):
        earned = sum(discount**k * rows.reward[t + k, game].item() for k in range(n))
        if not rows.terminated[t + n - 1, game]:
            earned += discount**n * values[t + n - 1, game].item()
        weight = lambda_ ** (n - 1) * (1 if n == longest else 1 - lambda_)
        mixture += weight * earned
    return mixture


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("lambda_", [0.0, 0.6, 1.0])
def test_lambda_returns_are_what_they_are_defined_to_be(discount, lambda_):
    rows = random_rows(length=25, games=12, seed=0)
    assert (rows.first[1:] & ~rows.terminated[:-1]).sum() > 10  # truncations
    assert rows.terminated.sum() > 10
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(25, 12, generator=generator, dtype=torch.float64)
    returns = lambda_returns(rows, values, discount, lambda_)
    for t, game in itertools.product(range(25), range(12)):
        if not rows.first[t, game]:
            expected = return_by_definition(rows, values, t, game, discount, lambda_)
            assert returns[t, game].item() == pytest.approx(expected, abs=1e-12)


def test_returns_of_hand_written_rows():
    """Reward t follows action t: three steps that terminate, a reset, one step that is cut."""
    first = torch.tensor([[True], [False], [False], [False], [True], [False]])
    terminated = torch.tensor([[False], [False], [False], [True], [False], [False]])
    reward = torch.tensor([[0.0], [1.0], [2.0], [4.0], [0.0], [8.0]])
    values = torch.tensor([[10.0], [20.0], [30.0], [40.0], [50.0], [60.0]])
    rows = Row(first, torch.zeros(6, 1, 2), reward, reward, terminated)
    returns = lambda_returns(rows, values, discount=0.5, lambda_=1.0)[:, 0]
    assert returns[[1, 2, 3, 5]].tolist() == [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4, 8 + 30]
    one_step = lambda_returns(rows, values, discount=0.5, lambda_=0.0)[:, 0]
    assert one_step[[1, 2, 3, 5]].tolist() == [1 + 10, 2 + 15, 4, 8 + 30]


# Gradients.


@pytest.mark.parametrize("game", [BANDIT, COINS])
@pytest.mark.parametrize(("critic", "lambda_"), [("none", 1.0), ("exact", 1.0), ("exact", 0.4)])
def test_the_score_function_finds_the_exact_gradient(game, critic, lambda_):
    """REINFORCE without a critic; with the true values, any lambda is as right."""
    core, agent = make_core(game)
    value = Table(values_of(game)) if critic == "exact" else None
    length = 3 * (game.steps + 1)  # whole episodes
    objective = ActorCritic(core, 256, length, value, 1.0, lambda_, entropy=constant(0.0))
    with OwnNoise(0)():
        found = gradients(objective, agent, 60)
    assert within_four_errors(found, exact_gradient(game))


def test_every_action_tried_gives_the_exact_gradient_of_a_bandit():
    core, agent = make_core(BANDIT)
    objective = AllActions(core, 8, 4, Table(values_of(BANDIT)), 1.0, constant(0.0))
    with OwnNoise(0)():
        found = gradients(objective, agent, 5)
    assert torch.allclose(found, exact_gradient(BANDIT).expand_as(found), atol=1e-6)


def test_every_action_tried_finds_the_gradient_of_coins():
    core, agent = make_core(COINS)
    objective = AllActions(core, 256, 9, Table(values_of(COINS)), 1.0, constant(0.0))
    score = ActorCritic(core, 256, 9, Table(values_of(COINS)), 1.0, 1.0, constant(0.0))
    with OwnNoise(0)():
        found, sampled = gradients(objective, agent, 40), gradients(score, agent, 40)
    assert within_four_errors(found, exact_gradient(COINS))
    assert (found.std(0) < sampled.std(0)).all()  # nothing sampled but the world


BONUS = [[0.0, 2.0], [-0.5, 1.0], [1.5, 0.0]]


@pytest.mark.parametrize("make", [ActorCritic, AllActions])
def test_a_bonus_is_a_reward_besides_those_of_the_world(make):
    core, agent = make_core(COINS)
    both = (torch.tensor(COINS.rewards) + torch.tensor(BONUS)).tolist()
    generous = COINS._replace(rewards=both)
    objective = make(core, 256, 9, Table(values_of(generous)), 1.0, entropy=constant(0.0))
    objective.bonus = lambda thought, action: (thought @ torch.tensor(BONUS) * action).sum(-1)
    with OwnNoise(0)():
        found = gradients(objective, agent, 40)
    assert within_four_errors(found, exact_gradient(generous))
    rollout, _ = objective.roll(objective.start())
    rewards = torch.tensor(COINS.rewards)[rollout.thought.argmax(-1)]
    assert torch.equal(rollout.reward, (rewards * rollout.action).sum(-1))


def test_the_critic_learns_what_the_policy_expects():
    """Both targets have the true values as their mean."""
    for make in (ActorCritic, AllActions):
        core, _ = make_core(COINS)
        critic = Table(torch.zeros(3))
        objective = make(core, 64, 6, critic, discount=1.0, entropy=constant(0.0))
        trainer = Trainer(objective, critic.parameters(), 0.05)
        with OwnNoise(0)():
            state = objective.start()
            for _ in range(150):
                rollout, state = objective.roll(state)
                trainer.update(rollout)
        # Huber's loss aims between mean and median: near, no more
        assert torch.allclose(critic.values, values_of(COINS), atol=0.25)


def test_a_critic_learns_the_mean_of_returns_that_seldom_fail():
    """One in ten, which the median does not see; at the scale of returns."""
    torch.manual_seed(0)
    critic = Critic(1, 8, scale=33.0)
    optimizer = torch.optim.Adam(critic.parameters(), 0.003)
    thought, returns = torch.ones(10, 1), torch.tensor([50.0] * 9 + [20.0])
    for _ in range(600):
        optimizer.zero_grad()
        critic.estimate(thought).loss(returns).mean().backward()
        optimizer.step()
    assert critic(thought).mean().item() == pytest.approx(47.0, abs=0.1)


def test_every_action_looks_one_step_ahead():
    core, _ = make_core(COINS)
    value, discount = values_of(COINS), 0.5
    rollout, _ = AllActions(core, 64, 6, Table(value), discount).roll(core.initial_state(64))
    cell = rollout.thought.argmax(-1)
    rewards = torch.tensor(COINS.rewards)
    last = cell > 0  # every action ends the game
    assert torch.equal(rollout.tried[last], rewards[cell[last]])
    ahead = rewards[0] + discount * value[1:, None]  # heads or tails, [2, A]
    found = (rollout.tried[~last, None] - ahead).abs() < 1e-6  # [N, 2, A]
    assert found.any(1).all()
    assert found.any(0).all()
    taken = (rollout.tried * rollout.action).sum(-1)
    assert torch.equal(rollout.returns, taken)
    assert torch.equal(rollout.reward, (rewards[cell] * rollout.action).sum(-1))


def test_rollouts_leave_resets_out():
    core, _ = make_core(COINS)
    for objective in (
        ActorCritic(core, 5, 6, discount=1.0, lambda_=1.0),
        AllActions(core, 5, 6, Table(values_of(COINS)), discount=1.0),
    ):
        rollout, state = objective.roll(objective.start())
        assert len(rollout.action) == 5 * 4  # two of six rows begin an episode
        assert torch.equal(rollout.action.sum(-1), torch.ones(20))
        again, _ = objective.roll(state)  # goes on where it stood: with a first row
        assert len(again.action) == 5 * 4


def test_the_weight_of_the_entropy_rises_while_it_is_low():
    core, agent = make_core(BANDIT)
    objective = ActorCritic(core, 64, 4, None, 1.0, 1.0, entropy=constant(0.01))
    objective.entropy_factor = 70.0
    weight = objective.entropy_factor * 0.01
    rollout, _ = objective.roll(objective.start())
    found = objective(rollout, (), 0)[0]
    objective.entropy_factor = 0.0
    entropy = agent.policy(torch.ones(1, 1)).entropy()[0]
    expected = objective(rollout, (), 0)[0] - weight * entropy
    assert found.item() == pytest.approx(expected.item())


def test_entropy_is_climbed_with_its_weight():
    core, agent = make_core(BANDIT)
    objective = ActorCritic(core, 64, 4, None, 1.0, 1.0, entropy=constant(0.0))
    rollout, _ = objective.roll(objective.start())
    plain = objective(rollout, (), 0)[0]
    objective.entropy = constant(0.7)
    entropy = agent.policy(torch.ones(1, 1)).entropy()[0]
    assert objective(rollout, (), 0)[0].item() == pytest.approx((plain - 0.7 * entropy).item())


def test_actions_are_kept_likely_with_their_weight():
    core, agent = make_core(BANDIT)
    objective = ActorCritic(core, 64, 4, None, 1.0, 1.0, entropy=constant(0.0))
    rollout, _ = objective.roll(objective.start())
    plain = objective(rollout, (), 0)[0]
    objective.uniform_kl = 0.7
    apart = agent.policy(torch.ones(1, 1)).kl_from_uniform()[0]
    assert objective(rollout, (), 0)[0].item() == pytest.approx((plain + 0.7 * apart).item())


@pytest.mark.parametrize("weight", [0.0, 0.01])
def test_an_action_that_was_given_up_is_found_again(weight):
    """One that became the best when the policy had given it a probability of 2e-9."""
    core, agent = make_core(BANDIT._replace(logits=[[-20.0, 0.0]]))
    objective = ActorCritic(core, 16, 4, None, 1.0, 1.0, entropy=constant(0.0))
    objective.uniform_kl = weight
    optimizer = torch.optim.Adam([agent.logits], 0.1, eps=1e-4)  # not of rounding
    state = objective.start()
    torch.manual_seed(0)
    for _ in range(300):
        rollout, state = objective.roll(state)
        optimizer.zero_grad()
        objective(rollout, (), 0)[0].backward()
        optimizer.step()
    best = agent.policy(torch.ones(1, 1)).probs[0, 0]
    assert best > 0.95 if weight else best < 1e-6


# The unit of returns.


def test_a_spread_is_the_range_between_numpys_percentiles():
    """A mean of those so far, each update's counting a hundredth less at the next."""
    draw = np.random.default_rng(0)
    spread, ranges = Spread.none(), []
    for number in (7, 400, 33):
        returns = draw.standard_cauchy(number)
        low, high = np.percentile(returns, [5, 95])
        ranges.append(high - low)
        spread = spread.after(torch.tensor(returns))
    weights = np.array([0.99**2, 0.99, 1.0])
    assert spread.mean == pytest.approx(weights @ ranges / weights.sum(), rel=1e-5)
    assert Spread.none().after(torch.tensor([3.0, 3.0])).mean == 0


def in_currency(rate):
    """The coin game whose rewards are multiplied, and what each state is then worth."""
    rewards = (rate * np.array(COINS.rewards, np.float32)).tolist()
    game = COINS._replace(rewards=rewards)
    return game, Table(values_of(game))


def gradients_in_turn(make, rate, unit, rollouts=4):
    """Of the policy, with the spread carried along: [rollouts, S, A]."""
    game, value = in_currency(rate)
    core, agent = make_core(game)
    objective = make(core, 64, 6, value, discount=1.0, entropy=constant(0.1), unit=unit)
    play, state, found = objective.start(), objective.initial_state(), []
    for _ in range(rollouts):
        rollout, play = objective.roll(play)
        agent.logits.grad = None
        loss, _, state = objective(rollout, state, 0)
        loss.backward()
        found.append(agent.logits.grad.clone())
    return torch.stack(found)


@pytest.mark.parametrize("make", [ActorCritic, AllActions])
def test_rewards_of_any_scale_teach_a_policy_the_same(make):
    """Once returns lie farther apart than the unit; the entropy's weight means the same, too."""
    found = []
    for rate in (1, 1000):
        with OwnNoise(0)():
            found.append(gradients_in_turn(make, rate, unit=0.1))
    assert found[0].abs().max() > 0.01
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", [ActorCritic, AllActions])
def test_returns_that_lie_close_together_are_not_blown_up(make):
    found = []
    for rate, unit in ((1, 1000), (5, 5000)):
        with OwnNoise(0)():
            found.append(gradients_in_turn(make, rate, unit))
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-7)
    with OwnNoise(0)():
        plain = gradients_in_turn(make, 1, None)
    with OwnNoise(0)():
        bonus = gradients_in_turn(make, 1, 1e9)  # nothing but the entropy's
    torch.testing.assert_close(1000 * (found[0] - bonus), plain - bonus, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("make", [ActorCritic, AllActions])
def test_the_spread_goes_on_where_it_was_saved(make):
    """Through `Trainer.state_dict`, as a resumed run does."""
    core, agent = make_core(COINS)
    critic = Table(values_of(COINS))

    def trainer():
        objective = make(core, 32, 6, critic, discount=1.0, unit=0.1)
        return Trainer(objective, [agent.logits, critic.values], 0.1)

    with OwnNoise(0)():
        play, rollouts = core.initial_state(32), []
        for _ in range(6):
            rollout, play = trainer().objective.roll(play)
            rollouts.append(rollout)
    going = trainer()
    for rollout in rollouts[:3]:
        going.update(rollout)
    file = io.BytesIO()
    torch.save((going.state_dict(), agent.logits.data, critic.values.data), file)
    expected = [going.update(rollout) for rollout in rollouts[3:]]
    file.seek(0)
    state, *weights = torch.load(file, weights_only=True)
    agent.logits.data, critic.values.data = weights
    resumed = trainer()
    resumed.load_state_dict(state)
    assert [resumed.update(rollout) for rollout in rollouts[3:]] == expected
    assert len({metrics["spread"] for metrics in expected}) == 3


# The same function in the real world.


class Recall(gymnasium.Env):
    """One step: whoever does what is shown gets 1, others nothing."""

    def __init__(self):
        self.observation_space = spaces.Discrete(3)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = self.np_random.integers(3)
        return self.shown, {}

    def step(self, action):
        return self.shown, float(action == self.shown), True, False, {}


def real_world(copies=16):
    return GymEnvironment(SyncVectorEnv([Recall] * copies), seed=0)


@pytest.mark.parametrize(("critic", "lambda_"), [(False, 1.0), (True, 0.95)])
def test_actor_critic_learns_in_the_real_world(critic, lambda_):
    environment = real_world()
    with OwnNoise(0)():
        model = model_for(spaces.Discrete(3), spaces.Discrete(3), "rnn", 8).requires_grad_(False)
        policy = Policy(model.belief_size, action_codec(environment.action_space), 16)
        core = GenCore(environment, BeliefAgent(model, policy))
        value = Critic(model.belief_size, 16) if critic else None
        objective = ActorCritic(core, 16, 8, value, 1.0, lambda_, constant(0.01))
        parameters = [*policy.parameters(), *(value.parameters() if value else ())]
        trainer = Trainer(objective, parameters, 0.01)
        state, rewards = objective.start(), []
        for _ in range(120):
            rollout, state = objective.roll(state)
            rewards.append(trainer.update(rollout)["reward"])
    assert np.mean(rewards[:5]) < 0.6
    assert np.mean(rewards[-10:]) > 0.95


def test_every_action_refuses_a_world_that_cannot_fork():
    environment = real_world()
    core = GenCore(environment, Uniform(environment.action_space))
    objective = AllActions(core, 16, 4, Table(torch.zeros(0)))
    with pytest.raises(ValueError, match="a real environment cannot be rewound"):
        objective.roll(objective.start())


def test_a_real_world_is_not_stepped_twice_from_one_state():
    environment = real_world()
    core = GenCore(environment, Uniform(environment.action_space))
    state = core.initial_state(16)
    core.step(state)
    with pytest.raises(ValueError, match="a real environment cannot be rewound"):
        core.step(state)


def test_bootstrapping_needs_a_critic():
    core, _ = make_core(BANDIT)
    with pytest.raises(ValueError, match=r"lambda_=0\.9 bootstraps from a critic"):
        ActorCritic(core, 4, 4, critic=None, lambda_=0.9)


@pytest.mark.parametrize(
    ("options", "are_numbers", "expected"),
    [
        ({}, False, 0.997),
        ({}, True, 0.99),  # the gradient through the dream
        ({"method": "pathwise"}, False, 0.99),
        ({"agent": "sb3:PPO"}, False, 0.99),
        ({"discount": 0.9}, True, 0.9),
    ],
)
def test_the_discount_follows_from_how_the_policy_learns(options, are_numbers, expected):
    assert PolicyConfig(**options).rollouts(are_numbers).discount == expected


@pytest.mark.parametrize(
    ("options", "are_numbers", "expected"),
    [
        ({}, False, 8),
        ({}, True, 1),  # the gradient through the dream
        ({"method": "all-actions", "num_imagined": 256}, False, 16),
        ({"num_imagined": 4, "rollout_length": 5}, False, 1),
        ({"minibatches": 3}, False, 3),
    ],
)
def test_minibatches_follow_from_the_size_of_rollouts(options, are_numbers, expected):
    assert PolicyConfig(**options).rollouts(are_numbers).minibatches == expected

"""Laws of planning in the dream: plans are the best that enumeration, algebra or value iteration
finds, end where a dream ends, and are one game's own; and runs that act by them."""

import functools
import json
from typing import NamedTuple

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import TINY, assert_same, at, train
from torch import nn
from written import points, written_model

from worldmodel import BeliefAgent, Dream, Greedy, Row, action_codec, experiments, play_episodes
from worldmodel.agents import AgentConfig, Planner, WorldModelAgent
from worldmodel.agents.config import PolicyConfig
from worldmodel.distributions import OneHot
from worldmodel.experiments.bench import dream
from worldmodel.experiments.bench.settings import DreamSettings
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.registry import new_run
from worldmodel.noise import OwnNoise
from worldmodel.options import with_options
from worldmodel.progress import Reporter

DISCOUNT = 0.9
STATES = 7
SPACES = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "MultiBinary": spaces.MultiBinary(2),
}
every_choice = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


@pytest.fixture(autouse=True)
def _noise_is_left_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class Graph(NamedTuple):
    """A deterministic world of S states and actions that can be listed."""

    following: torch.Tensor  # int64 [S, A]
    rewards: torch.Tensor  # [S, A]
    ends: torch.Tensor  # bool [S, A]

    @classmethod
    def drawn(cls, actions):
        size = (STATES, actions)
        return cls(torch.randint(STATES, size), torch.randn(size), torch.rand(size) < 0.15)

    def q(self, values):
        """The discounted return [S, A] of each action, where values [S] come after it."""
        return self.rewards + DISCOUNT * torch.where(self.ends, 0.0, values[self.following])

    def planner(self, space, values, **options):
        choices = action_codec(space).choices

        def follows(point, code):
            place = point[..., 0].long(), (code[..., None, :] == choices).all(-1).int().argmax(-1)
            return self.following[place][..., None].float(), self.rewards[place], self.ends[place]

        return planner(follows, 1, space, lambda point: values[point[..., 0].long()], **options)


class Critic(nn.Module):
    """Knows the value of the point that a thought ends with."""

    def __init__(self, value, size):
        super().__init__()
        self.value, self.size = value, size

    def forward(self, thought):
        return self.value(thought[..., -self.size :])


def planner(follows, size, space, value, length, plans=1024, iterations=4, **options):
    model = written_model(follows, size, space)
    actions = action_codec(space)
    agent = BeliefAgent(model, lambda thought: actions.uniform(thought.shape[:-1]))
    dreams = Dream(model, length, points(size), space)
    critic = Critic(value, size)
    return Planner(agent, dreams, critic, DISCOUNT, length, plans, iterations, **options)


def chosen(planner, point):
    """The codes [B, A] that a planner chooses in games that begin at points [B, n]."""
    first = torch.ones(len(point), dtype=torch.bool)
    nothing = torch.zeros(len(point))
    row = Row(first, torch.zeros(len(point), planner.actions.size), point, nothing, ~first)
    thought, _ = planner.step(row, planner.initial_state(len(point)))
    return planner.policy(thought).mode


def zero(point):
    return torch.zeros_like(point[..., 0])


def assert_best(code, q, space):
    """Each game's action is the best one. q: [B, A] of the actions that `choices` lists."""
    place = (code[:, None] == action_codec(space).choices).all(-1).int().argmax(-1)
    torch.testing.assert_close(q.gather(1, place[:, None])[:, 0], q.max(1).values)


EVERYWHERE = torch.arange(STATES).float()[:, None]  # a game in each state, side by side


@every_choice
def test_plans_are_the_best_of_all_sequences_of_actions(space):
    """Of all states at once: games side by side have plans of their own."""
    graph, values = Graph.drawn(len(action_codec(space).choices)), torch.randn(STATES)
    planner = graph.planner(space, values, length=3)
    for _ in range(3):
        q = graph.q(values)
        values = q.max(1).values
    assert_best(chosen(planner, EVERYWHERE), q, space)


@every_choice
def test_one_row_is_enough_for_who_knows_what_comes_after(space):
    graph, values = Graph.drawn(len(action_codec(space).choices)), torch.zeros(STATES)
    for _ in range(300):
        values = graph.q(values).max(1).values
    planner = graph.planner(space, values, length=1, plans=64, iterations=2)
    assert_best(chosen(planner, EVERYWHERE), graph.q(values), space)


@pytest.mark.parametrize("length", [1, 3])
def test_nothing_comes_after_an_end(length):
    """Where a dream restarts all would be well: state 0, in rewards and in value."""
    graph = Graph(
        torch.tensor([[0, 0], [0, 1]]),
        torch.tensor([[100.0, 100.0], [1.0, 2.0]]),
        torch.tensor([[False, False], [True, False]]),
    )
    space = spaces.Discrete(2)
    planner = graph.planner(space, torch.tensor([1000.0, 0.0]), length=length, plans=32)
    assert chosen(planner, torch.ones(1, 1)).tolist() == [[0, 1]]


def test_plans_of_numbers_are_the_best_that_algebra_finds():
    """A point is steered to zero, for a price: the return is quadratic in all actions together."""
    space, length = spaces.Box(-2.0, 6.0, (2,)), 3
    starts = torch.tensor([[1.0, -0.5], [-0.8, 0.3], [0.2, 0.9]])

    def follows(point, code):
        after = point + 0.7 * code
        reward = -after.square().sum(-1) - code.square().sum(-1)
        return after, reward, torch.zeros_like(reward, dtype=torch.bool)

    def value(point):
        return -2 * point.square().sum(-1)

    def returns(codes, point):
        total = 0.0
        for t, code in enumerate(codes):
            point, reward, _ = follows(point, code)
            total = total + DISCOUNT**t * reward
        return total + DISCOUNT**length * value(point)

    agent = planner(follows, 2, space, value, length, iterations=8)
    for start, found in zip(starts, chosen(agent, starts), strict=True):
        zero = torch.zeros(length, 2)
        function = functools.partial(returns, point=start)
        slope = torch.autograd.functional.jacobian(function, zero).flatten()
        bend = torch.autograd.functional.hessian(function, zero).reshape(2 * length, -1)
        best = torch.linalg.solve(bend, -slope).reshape(length, 2)
        assert best.abs().max() < 1
        torch.testing.assert_close(found, best[0], atol=0.03, rtol=0)


def test_luck_is_averaged_out_by_draws():
    """A gamble that wins 0 on average is worse than a sure 0.5."""

    def follows(point, code):
        reward = torch.where(code[..., 0] > 0, 3 * torch.randn_like(point[..., 0]), 0.5)
        return point, reward, torch.zeros_like(reward, dtype=torch.bool)

    def gambles(draws):
        agent = planner(follows, 1, spaces.Discrete(2), zero, 1, 16, 1, draws=draws)
        return chosen(agent, torch.zeros(50, 1))[:, 0].mean()

    assert gambles(1) > 0.9
    assert gambles(400) < 0.1


def test_a_plan_is_gone_on_with_and_begun_anew():
    """The next row's search begins with what is left; after a first row with nothing."""
    graph, space = Graph.drawn(3), spaces.Discrete(3)
    agent = graph.planner(space, torch.zeros(STATES), length=3)
    state = agent.initial_state(2)
    anything = state.plan[0, 0]
    torch.testing.assert_close(state.plan, torch.full((2, 3, 3), 1 / 3))
    first = torch.ones(2, dtype=torch.bool)
    row = Row(first, torch.zeros(2, 3), EVERYWHERE[:2], torch.zeros(2), ~first)
    _, after = agent.step(row, state)
    assert (after.plan[:, -1] == anything).all()
    assert (after.plan[:, :-1].max(-1).values > 0.5).all()
    begun = []
    agent._search = lambda mind, thought, mean: begun.append(mean) or (mean, mean)
    agent.step(row._replace(first=torch.tensor([True, False])), after)
    assert (begun[0][:, 0] == anything).all()
    assert torch.equal(begun[0][:, 1], after.plan[1])


def test_a_policy_that_knows_the_way_is_heard():
    """One sequence in 5^6 is rewarded; the policy acts it out, chance does not find it."""
    space, length = spaces.Discrete(5), 6

    def follows(point, code):
        point = torch.where(code[..., :1] > 0, point + 1, 0.0)
        return point, (point[..., 0] == length).float(), torch.zeros_like(point[..., 0]).bool()

    def first_action(by_policy):
        agent = planner(follows, 1, space, zero, length, 32, 2, by_policy=by_policy)
        logits = torch.tensor([9.0, 0, 0, 0, 0])
        agent.agent.head = lambda thought: OneHot(logits.expand(len(thought), 5))
        return chosen(agent, torch.zeros(20, 1))[:, 0].mean()

    assert first_action(0.25) == 1
    assert first_action(0.0) < 0.8


def test_a_planner_wants_a_dream_of_its_own_model():
    graph, space = Graph.drawn(3), spaces.Discrete(3)
    agent = graph.planner(space, torch.zeros(STATES), length=3)
    with pytest.raises(ValueError, match="4 rows wants a dream"):
        Planner(agent.agent, agent.dream, agent.critic, length=4)


# Runs that act by plans.


PLANNING = {"agent": "planning", "plans": 8, "plan_length": 2}
CART = EnvironmentConfig("CartPole-v1", time_limit=20)
IMAGES = EnvironmentConfig("Counting-v0", pixels=16, grayscale=True)


@pytest.mark.parametrize(
    "env", ["CartPole-v1", "Pendulum-v1", "Panel-v0", "worldmodel/ToyGame-v0"]
)
def test_an_agent_learns_acts_and_is_saved(env, tmp_path):
    agent = WorldModelAgent(env, **TINY | PLANNING).learn(70)
    assert isinstance(agent.components.agent, Planner)
    agent.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved")
    made = gymnasium.make(env)
    observation, _ = made.reset(seed=0)
    states = [None, None]
    for _ in range(3):
        pairs = [
            one.predict(observation, state, deterministic=True)
            for one, state in zip((agent, loaded), states, strict=True)
        ]
        actions, states = zip(*pairs, strict=True)
        assert np.array_equal(*actions)
        observation, *_ = made.step(actions[0])
    assert agent.evaluate(2).returns.shape == (2,)


def planning_run(path, environment=CART, **options):
    agent = with_options(AgentConfig(), PLANNING | options)
    return new_run(path, quick(RLConfig(environment, agent=agent)))


@pytest.mark.parametrize("vae", ["frozen", "joint"])
def test_plans_draw_no_images(vae, tmp_path):
    """They are of codes, or of the features that images would be drawn from."""
    folder = planning_run(tmp_path / "run", IMAGES, vae=vae)
    assert train(folder).is_done
    planner = experiments.load(folder.path).agent
    expected = ("features", False) if vae == "joint" else ("belief", True)
    assert (planner.agent.reads, planner.dream.draw_observations) == expected


def test_a_run_goes_on_to_the_last_bit(tmp_path):
    whole, cut = planning_run(tmp_path / "whole"), planning_run(tmp_path / "cut")
    assert train(whole).is_done
    assert not train(cut, at("improve", 1, 1)).is_done
    assert train(cut).is_done
    assert_same(cut, whole)


def test_the_command_line_plans(tmp_path, capsys):
    folder = str(tmp_path / "run")
    options = ["--agent", "planning", "--plan-length", "2", "--plans", "8", "--quick"]
    options += ["--time-limit", "20"]
    main(["train", "control", "--env", "CartPole-v1", "--out", folder, *options])
    run = experiments.load(folder)
    assert (run.agent.length, run.agent.plans) == (2, 8)
    with OwnNoise(0)():
        assert len(play_episodes(run.dream(5), Greedy(run.agent), 2).returns) == 2
    capsys.readouterr()
    main(["evaluate", folder, "--episodes", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["real_return_mean"] > 0


def test_planning_is_compared_with_others_in_a_dream(tmp_path):
    """Other agents leave out what planning alone takes."""
    folder = planning_run(tmp_path / "run")
    train(folder)
    rows = dream.run(DreamSettings(folder.path, ("planning", "own"), "{}", 2, 3, 4), Reporter())
    assert [row["agent"] for row in rows] == ["planning", "own"]


def test_options_of_plans_are_plannings_alone():
    for agent in ("own", "sb3:PPO"):
        with pytest.raises(ValueError, match=f"--plan-draws: .* --agent {agent}"):
            PolicyConfig(agent=agent, plan_draws=2)
    with pytest.raises(ValueError, match="has none"):
        PolicyConfig(agent="planning", method="reinforce")
    with pytest.raises(ValueError, match="choose --agent sb3"):
        PolicyConfig(agent="planning", agent_arguments='{"n_steps": 3}')
    assert PolicyConfig(agent="planning", plans=9, method="actor-critic").of("own").plans == 64

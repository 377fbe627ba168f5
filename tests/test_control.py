"""Laws of training in any environment: its plan, what data tell it, what acts in the end."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import TINY

from worldmodel import DiskStore, Greedy, MemoryStore, Trainer, experiments
from worldmodel.agents import AgentConfig, AgentTraining, WorldModelAgent
from worldmodel.agents.critics import Critic
from worldmodel.agents.playing import Playing
from worldmodel.agents.recorded_values import Examples, RecordedValues
from worldmodel.agents.world import World
from worldmodel.codecs import GroupedHead, StudentHead
from worldmodel.experiments.cli.main import main
from worldmodel.options import with_options
from worldmodel.run_folder import RunFolder

# An environment of one's own: a file outside of the package.
SWITCHES = """
import gymnasium
import numpy as np
from gymnasium import spaces

ACTIONS = {
    "binary": spaces.MultiBinary(3),
    "several": spaces.MultiDiscrete([3, 2]),
    "wheel": spaces.Box(-2, 2, (1,), np.float32),
}


class Switches(gymnasium.Env):
    # Rewards are 0, but from the 21st episode of a process on `prizes`, one after the other.

    begun = paid = 0

    def __init__(self, actions="binary", prizes=(0,)):
        lamps, meter = spaces.MultiBinary(3), spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = spaces.Dict(lamps=lamps, meter=meter)
        self.action_space = ACTIONS[actions]
        self.prizes = prizes

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Switches.begun += 1
        self.count = 0
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.count += 1
        Switches.paid += Switches.begun > 20
        reward = self.prizes[Switches.paid % len(self.prizes)] if Switches.begun > 20 else 0
        return self.observe(), float(reward), self.count == 4, False, {}

    def observe(self):
        lamps = self.np_random.integers(2, size=3, dtype=np.int8)
        return {"lamps": lamps, "meter": self.np_random.normal(size=2).astype(np.float32)}


gymnasium.register("Switches-v0", Switches)
"""


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains quickly with the given words, in a folder with `switches.py`: the run's folder."""
    (tmp_path / "switches.py").write_text(SWITCHES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "switches", raising=False)
    monkeypatch.delitem(gymnasium.registry, "Switches-v0", raising=False)

    def run(*words):
        main(["train", "control", "--out", "run", "--quick", *words])
        return RunFolder.open(Path("run"))

    return run


def figures(folder, stage, key):
    return [line[key] for line in folder.metrics() if line["stage"] == stage]


CONTROL = {
    "CartPole": ["CartPole-v1"],
    "Pendulum": ["Pendulum-v1", "--sticky-probability", "0.5"],
    "hidden": ["CartPole-v1", "--hidden-velocities", "--history", "3"],
    "images and tuples": ["games:Nested-v0"],
    "binary": ["switches:Switches-v0"],
    "several": ["switches:Switches-v0", "--arguments", '{"actions": "several"}'],
    "wheel": ["switches:Switches-v0", "--arguments", '{"actions": "wheel"}'],
    "every action": ["switches:Switches-v0", "--method", "all-actions"],
    "straight through": ["CartPole-v1", "--method", "pathwise"],
    "latents": ["CartPole-v1", "--core", "vrnn", "--recurrence", "default"],
    "chain of latents": ["Pendulum-v1", "--core", "srnn", "--num-envs", "3"],
    "categoricals": ["CartPole-v1", "--core", "rssm", "--latent-classes", "3"],
}


@pytest.mark.parametrize("name", CONTROL)
def test_any_environment_trains_end_to_end(name, train, capsys):
    env, *words = CONTROL[name]
    folder = train("--env", env, *words)
    assert "Traceback" not in capsys.readouterr().err
    for stage, key in [("learn", "loss"), ("improve", "loss"), ("evaluate", "real_return_mean")]:
        found = figures(folder, stage, key)
        assert len(found) >= 3  # rounds
        assert np.isfinite(found).all()
    run = experiments.load(folder.path)
    taken = np.cumsum(figures(folder, "collect", "steps")).tolist()
    assert figures(folder, "evaluate", "real_steps") == taken
    count = run.config.environment.num_envs
    assert 90 <= taken[-1] < 90 + 3 * count  # copies take their last steps together
    environment = run.environment(2, seed=0)
    agent, state = Greedy(run.agent), run.agent.initial_state(2)
    actions = run.components.actions
    world, action = environment.initial_state(2), torch.zeros(2, actions.size)
    for _ in range(3):
        row, world = environment.step(action, world)
        thought, state = agent.step(row, state)
        action = agent.policy(thought).sample()
        for act in actions.decode(action).numpy().astype(run.action_space.dtype):
            assert run.action_space.contains(act if act.shape else act[()])
    environment.close()


# The plan.


def planned(*steps, curve_episodes=0, is_recorded=False, **options):
    """A training that has been given some steps, one number after the other."""
    config = with_options(AgentConfig(), options)
    world = World(spaces.Discrete(3), spaces.Discrete(2), is_recorded=is_recorded)
    job = AgentTraining(config, world, MemoryStore(), curve_episodes)
    for number in steps:
        job.extend(number)
    return job


PLANS = [(90, 50, 20), (100, 100, 7), (5000, 500, 250), (1000, 300, 333), (10, 9, 50), (30, 50, 9)]


@pytest.mark.parametrize("more", [(), (1,), (40, 7)])
@pytest.mark.parametrize(("steps", "prefill", "collect_steps"), PLANS)
def test_collections_add_up_to_the_steps_that_were_asked_for(steps, prefill, collect_steps, more):
    job = planned(steps, *more, prefill=prefill, collect_steps=collect_steps)
    rounds = [stage.round for stage in job.stages if stage.kind == "collect"]
    assert rounds == list(range(len(rounds)))
    assert rounds[-1] + 1 == job.rounds
    sizes = job.values()["collections"]
    assert len(sizes) == len(rounds)
    assert sum(sizes) == steps + sum(more)
    assert sizes[0] == min(prefill, steps)
    grown = [max(collect_steps, round(0.1 * before)) for before in np.cumsum(sizes)[:-1]]
    assert all(0 < size <= most for size, most in zip(sizes[1:], grown, strict=True))
    if not more:
        assert sizes[1:-1] == grown[:-1]


def test_long_trainings_have_longer_rounds_with_no_more_learning_in_each():
    job = planned(60_000, prefill=500, collect_steps=250)
    assert job.rounds < 50
    units = {(stage.kind, stage.units) for stage in job.stages if stage.round > 0}
    assert units == {("collect", 1), ("learn", 250), ("improve", 250)}
    recorded = planned(60_000, prefill=500, collect_steps=250, is_recorded=True)
    assert recorded.rounds == 1 + (60_000 - 500) / 250


def test_each_round_learns_improves_and_evaluates_after_it_has_collected():
    config = {"prefill": 400, "collect_steps": 250, "first_updates": 30, "update_ratio": 0.5}
    config |= {"first_rollouts": 20, "rollout_ratio": 0.001}
    expected = [
        ("collect", 0, 1),
        ("choose", 0, 2 * 15),
        ("learn", 0, 30),
        ("improve", 0, 20),
        ("evaluate", 0, 1),
        ("collect", 1, 1),
        ("learn", 1, 125),
        ("improve", 1, 1),
        ("evaluate", 1, 1),
        ("collect", 2, 1),
        ("learn", 2, 125),
        ("improve", 2, 1),
        ("evaluate", 2, 1),
        ("collect", 3, 1),
        ("learn", 3, 50),
        ("improve", 3, 1),
        ("evaluate", 3, 1),
    ]
    assert [tuple(stage) for stage in planned(1000, curve_episodes=5, **config).stages] == expected
    silent = [stage for stage in expected if stage[0] != "evaluate"]
    assert [tuple(stage) for stage in planned(1000, **config).stages] == silent
    recorded = planned(1000, is_recorded=True, curve_episodes=5, **config).stages
    played = ("collect", "choose")
    read = [("read", 0, 1), *(stage for stage in silent if stage[0] not in played)]
    assert [tuple(stage) for stage in recorded] == read


def test_more_steps_are_segments_of_their_own():
    """In which rates fall again: from the update on at which they begin, for as long."""
    job = planned(90, 40, prefill=50, collect_steps=20, first_updates=30, update_ratio=0.5)
    assert job.values()["updates"] == [(0, 50), (50, 20)]
    first, *_ = job.values()["rollouts"]
    assert first[0] == 0
    assert sum(stage.units for stage in job.stages if stage.kind == "learn") == 70


def test_what_was_cut_off_leaves_no_steps_behind():
    """A training that is ended where it stands is gone on with from there."""
    job = planned(90, prefill=50, collect_steps=20, first_updates=30)
    job.stage = 4  # the second collection has not begun
    job.cut()
    assert [stage.round for stage in job.stages] == [0, 0, 0, 0]
    assert job.values()["planned"] == 50
    job.extend(25)
    assert job.values()["collections"] == [50, 20, 5]
    assert job.rounds == 3


# What data tell.


def statistics(folder):
    return folder.values()["statistics"]


def rewards(folder):
    """All that were collected, those of first rows left out."""
    store = DiskStore(folder.episodes, writable=False)
    episodes = store.select(np.arange(len(store)))
    return np.delete(episodes.columns["reward"], episodes.starts)


def test_rewards_that_take_few_values_have_a_probability_each(train):
    config = statistics(train("--env", "CartPole-v1"))
    heads = {"": "student-t"}
    expected = {"reward_support": [1.0], "reward_unit": 1.0, "heads": heads, "reward_groups": []}
    assert config == expected


def test_rewards_that_take_many_values_have_a_density_and_a_size(train):
    folder = train("--env", "Pendulum-v1")
    config = statistics(folder)
    assert config["reward_support"] is None
    first = rewards(folder)[:50].astype(float)
    assert config["reward_unit"] == pytest.approx(np.sqrt(np.mean(first**2)), rel=1e-6)


def test_a_density_is_taken_if_it_is_asked_for(train):
    folder = train("--env", "CartPole-v1", "--rewards", "density")
    assert statistics(folder)["reward_support"] is None
    assert isinstance(experiments.load(folder.path).model.percepts.decoder.reward, StudentHead)


def test_rewards_that_never_came_before_become_possible(train):
    folder = train("--env", "switches:Switches-v0", "--arguments", '{"prizes": [10, -3]}')
    assert statistics(folder)["reward_support"] == [0.0]
    assert set(rewards(folder)) == {0, 10, -3}
    head = experiments.load(folder.path).model.percepts.decoder.reward
    assert {x for x in head.atoms.tolist() if not np.isnan(x)} == {0, 10, -3}
    assert not head.others
    assert np.isfinite(figures(folder, "learn", "loss")).all()


@pytest.mark.parametrize("options", [{}, {"agent": "sb3:PPO"}, {"slow_critic": 0.9}])
def test_scales_grow_with_rewards(tmp_path, options):
    """Three times as large as at first, they are given new scales, and those are kept."""
    agent = WorldModelAgent("Pendulum-v1", seed=0, **TINY, **options)
    said = []
    agent.training.say = said.append
    agent.learn(70)
    training, first = agent.training, agent.training.statistics.reward_unit
    assert not any("scales" in line for line in said)
    training._playing.met = training._met._replace(squares=100 * training._met.squares)
    agent.learn(20)
    unit = training.statistics.reward_unit
    assert sum("scales" in line for line in said) == 1
    assert 5 * first < unit < 12 * first
    agent.save(tmp_path / "agent")
    loaded = WorldModelAgent.load(tmp_path / "agent").training
    for kept in (training, loaded):
        parts = kept.components
        if parts.algorithm is not None:
            assert parts.algorithm.reward_unit == unit
            continue
        scales = {m.scale for m in parts.critic.modules() if isinstance(m, Critic)}
        steps = 0.1 / (1 - parts.rollouts.discount)  # a share of what a reward of 1 is worth
        assert list(scales) == [pytest.approx(steps * unit)]
        assert kept.optimizer.objective.unit == kept._curiosity.unit == unit


class Prizes(gymnasium.Env):
    """Costs of actions alone; after 60 steps of all copies there are prizes, too."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    taken = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.count += 1
        Prizes.taken += 1
        prize = 100.0 * (Prizes.taken > 60 and Prizes.taken % 7 == 0)
        reward = prize - 0.1 * float(action[0]) ** 2
        return self.observation_space.sample(), reward, False, self.count == 10, {}


def test_prizes_that_were_not_expected_are_a_group_of_rewards(tmp_path):
    Prizes.taken = 0
    agent = WorldModelAgent(Prizes, seed=0, **TINY)
    agent.learn(50)
    training = agent.training
    assert isinstance(training.components.model.percepts.decoder.reward, StudentHead)
    updates = training.learner.updates
    agent.learn(40)
    head = training.components.model.percepts.decoder.reward
    assert isinstance(head, GroupedHead)
    costs, prizes = training.statistics.reward_groups
    assert costs[0] == pytest.approx(-0.03, abs=0.02)
    assert prizes[0] == pytest.approx(100, abs=0.2)
    assert head.parts.minimum_std == training.config.model.minimum_std
    assert training.learner.updates > updates
    learned = {
        id(p) for group in training.learner.trainer.optimizer.param_groups for p in group["params"]
    }
    assert {id(parameter) for parameter in head.parameters()} <= learned
    agent.save(tmp_path / "agent")
    loaded = WorldModelAgent.load(tmp_path / "agent").training
    other = loaded.components.model.percepts.decoder.reward
    for one, same in zip(head.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, same)
    assert loaded.learner.updates == training.learner.updates


def said_by(train, capsys, *words):
    """The sentence with which a run is refused."""
    with pytest.raises(SystemExit) as end:
        train(*words)
    assert end.value.code == 2
    config = capsys.readouterr()
    config = " ".join((config.out + config.err).replace("│", " ").split())  # boxes wrap
    assert "Traceback" not in config
    return config


def test_rewards_that_turn_out_to_be_many_end_no_run_and_dreams_stay_among_them(train):
    prizes = json.dumps({"prizes": [*range(1, 400)]})
    words = "--env", "switches:Switches-v0", "--arguments", prizes, "--curve-episodes", "1"
    folder = train(*words)
    assert statistics(folder)["reward_support"] == [0.0]
    percepts = experiments.load(folder.path).model.percepts
    assert set(rewards(folder)) == {x for x in percepts.decoder.reward.atoms.tolist() if x == x}
    assert len(set(rewards(folder))) > 17
    assert np.isfinite(figures(folder, "learn", "loss")).all()
    least, greatest = rewards(folder).min(), rewards(folder).max()
    beyond = 0.1 * (greatest - least)
    reached = percepts.reward_clamp(torch.tensor([-1e6, 1e6])).tolist()
    assert reached == pytest.approx([least - beyond, greatest + beyond])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dropout", "1"], "--dropout must be 0 or more and below 1, got 1.0"),
        (["--from-start", "3"], "--from-start is a share between 0 and 1, got 3.0"),
        (["--gae-lambda", "-0.1"], "--gae-lambda is a share between 0 and 1, got -0.1"),
        (["--discount", "1.5"], "--discount is a share between 0 and 1, got 1.5"),
        (["--burn-in", "-1"], "--burn-in must be 0 or more, got -1"),
        (["--ema-decay", "1"], "--ema-decay must be 0 or more and below 1, got 1.0"),
        (["--core", "rssm", "--latent-classes", "1"], "--latent-classes is 0 (Gaussian latents)"),
        (
            ["--method", "all-actions"],
            "AllActions lists all actions, and Box(-2.0, 2.0, (1,), float32) has no list",
        ),
        (["--minibatches", "2"], "a rollout of PathwiseGradient serves one update"),
        (
            ["--method", "actor-critic", "--minibatches", "9999"],
            "--minibatches 9999, and a rollout has 32 rows",
        ),
    ],
)
def test_options_that_make_no_sense_get_a_sentence(words, sentence, train, capsys):
    assert sentence in said_by(train, capsys, "--env", "Pendulum-v1", *words)
    assert not Path("run").exists()


# What acts.


def test_a_rollout_is_learned_from_in_minibatches(monkeypatch):
    """Of rows that are drawn anew in each epoch, and each of which comes once in it; examples of
    recorded rows are shared out in the same way."""
    options = {"epochs": 2, "minibatches": 3, "dream_starts": "rows", "recorded_values": 0.3}
    agent = WorldModelAgent("CartPole-v1", **TINY | options)
    rolled, learned = [], []
    examples, update = RecordedValues.examples, Trainer.update

    def made(*words):
        rolled.append(examples(*words))
        return rolled[-1]

    def watched(trainer, batch):
        if isinstance(batch, Examples):
            learned.append(batch)
        return update(trainer, batch)

    def rows(*parts):
        dreamt = torch.cat([part.rollout.thought for part in parts]).tolist()
        return sorted(dreamt), sorted(torch.cat([part.returns for part in parts]).tolist())

    monkeypatch.setattr(RecordedValues, "examples", made)
    monkeypatch.setattr(Trainer, "update", watched)
    agent.learn(50)
    assert len(learned) == 6 * len(rolled) == 6 * TINY["first_rollouts"]
    for number, whole in enumerate(rolled):
        parts = learned[6 * number : 6 * number + 6]
        for epoch in (parts[:3], parts[3:]):
            assert rows(*epoch) == rows(whole)
            sizes = [len(part.rollout.returns) for part in epoch]
            assert max(sizes) - min(sizes) <= 1
        first, again = parts[0].rollout.thought, parts[3].rollout.thought
        assert first.shape != again.shape or not torch.equal(first, again)
    assert agent.training.optimizer.trainer.updates == len(learned)


def test_rates_of_learning_go_on_by_rollouts_in_other_minibatches():
    """The updates of a policy count as those of another number would have."""
    one, three = (
        WorldModelAgent("CartPole-v1", **TINY, minibatches=number).learn(50).training.optimizer
        for number in (1, 3)
    )
    three.load_state_dict(one.state_dict())
    assert one.trainer.updates == TINY["first_rollouts"]
    assert three.trainer.updates == 3 * TINY["first_rollouts"]


@pytest.mark.parametrize(("every", "greedy"), [(2, (2, 4)), (3, (3,)), (0, ())])
def test_some_rounds_are_collected_greedily(monkeypatch, every, greedy):
    options = TINY | {"exploration": 0.1, "greedy_every": every}
    agent, ways = WorldModelAgent("CartPole-v1", **options), []
    play = Playing.play

    def watched(playing, player, steps, weight):
        ways.append(isinstance(getattr(player, "agent", None), Greedy))
        return play(playing, player, steps, weight)

    monkeypatch.setattr(Playing, "play", watched)
    agent.learn(50 + 4 * 20)
    assert ways == [number in greedy for number in range(5)]


def flat(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).double()


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.995])
def test_what_acts_is_the_average_of_what_was_learned(monkeypatch, decay):
    """Each update's weights count the less the older they are; those drawn at random count as
    number 0. Without decay the last ones act."""
    options = {"epochs": 2, "policy_ema_decay": decay, "seed": 1}  # an episode ends at once
    agent = WorldModelAgent("CartPole-v1", **TINY | options)
    update, learned = Trainer.update, []

    def watched(trainer, batch):
        policy = getattr(getattr(trainer.objective, "gen_core", None), "agent", None)
        if policy and not learned:
            learned.append(flat(policy.head))
        metrics = update(trainer, batch)
        if policy:
            learned.append(flat(policy.head))
        return metrics

    monkeypatch.setattr(Trainer, "update", watched)
    agent.learn(50)  # one round: after others that of before may act on
    assert len(learned) == 1 + 2 * 4
    kept = [0.0, *(min(decay, n / (10 + n)) for n in range(1, len(learned)))]
    shares = [(1 - kept[n]) * np.prod(kept[n + 1 :]) for n in range(len(learned))]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * weights for share, weights in zip(shares, learned, strict=True))
    found = agent.components
    torch.testing.assert_close(flat(found.acting), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(flat(found.policy), learned[-1])


@pytest.mark.parametrize(
    ("gain", "acts", "learns"), [(1.5, "new", "new"), (0.5, "old", "new"), (-2.5, "old", "old")]
)
def test_a_policy_gives_way_to_one_that_is_better_in_the_dream(monkeypatch, gain, acts, learns):
    """By more than the standard error of the difference of returns, 1 here: otherwise the older
    one acts, and is learned from again if it is better by two. What is compared is what each
    does."""
    agent = WorldModelAgent("CartPole-v1", **TINY, seed=1, policy_ema_decay=0.0)
    agent.learn(50)
    training, parts, said = agent.training, agent.components, []
    training.say = said.append
    old = flat(parts.acting)
    noise = torch.randn(64).double()
    noise = ((noise - noise.mean()) / noise.std() * 8).numpy()

    def dreamt(episodes, most):
        is_new = not torch.equal(flat(parts.acting), old)
        returns = gain + noise if is_new else np.zeros(episodes)
        return SimpleNamespace(returns=returns), 0.0

    monkeypatch.setattr(training, "_dream_greedily", dreamt)
    monkeypatch.setattr(training, "_evaluate", lambda stage: {"real_returns": [0.0]})
    agent.learn(20)
    new = flat(parts.policy) if learns == "new" else None
    expected = {"old": old, "new": new}
    assert torch.equal(flat(parts.acting), expected[acts])
    assert torch.equal(flat(parts.policy), expected[learns])
    assert (learns == "new") == (not torch.equal(flat(parts.policy), old))
    sentences = [line for line in said if "the policy of before" in line]
    assert len(sentences) == (acts == "old")
    assert all(("undone" in line) == (learns == "old") for line in sentences)
    training.optimizer.begin()  # the average of what is learned grows on, whatever acted meanwhile
    assert torch.equal(flat(parts.acting), expected[learns])


@pytest.mark.parametrize("decay", [0.0, 0.15])
def test_the_model_acts_and_dreams_with_the_average_of_its_weights(monkeypatch, decay):
    """With which a stage of learning ends; without decay, with the last ones."""
    agent = WorldModelAgent("CartPole-v1", **TINY, ema_decay=decay)
    learned = []

    def watched(progress):
        if progress.stage == "learn":
            learned.append(flat(progress.agent.model))

    agent.learn(70, callback=watched)
    expected = learned[0]
    for number, weights in enumerate(learned[1:], 1):
        kept = min(decay, (1 + number) / (10 + number))
        expected = kept * expected + (1 - kept) * weights
    torch.testing.assert_close(flat(agent.model), expected, rtol=1e-5, atol=1e-7)
    seen = agent.training.store.select(np.arange(len(agent.training.store))).columns["observation"]
    found = agent.model.percepts.clamp.seen  # what was met is known, not averaged
    assert torch.equal(found, torch.tensor(np.stack([seen.min(0), seen.max(0)])))

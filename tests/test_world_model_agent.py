"""Laws of `WorldModelAgent`: five lines learn; it goes on, is saved and is asked like an agent of
stable-baselines3, and disturbs nothing."""

import random

import games  # noqa: F401 (registers games)
import gymnasium
import numpy as np
import pytest
import torch
from command_line import worldmodel
from games import Echo, Panel
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from perfect import perfect_model
from runs import TINY, assert_same_weights
from stable_baselines3.common.env_checker import check_env as check_env_sb3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from worldmodel import DiskStore, GenCore, Greedy, MemoryStore, nested, play_episodes
from worldmodel.agents import AgentConfig, WorldModelAgent
from worldmodel.envs import DreamEnv, ToyGameFilter
from worldmodel.run_folder import RunError, RunFolder

unspecified = pytest.mark.filterwarnings("ignore::UserWarning")  # what checkers doubt


def new(env="CartPole-v1", **options):
    return WorldModelAgent(env, **TINY | options)


@pytest.fixture(scope="module")
def agent():
    """One that has learned from 70 steps of CartPole."""
    return new().learn(total_timesteps=70)


def test_an_end_that_was_never_met_is_hardly_dreamt_and_one_that_was_is_learned(agent):
    """A pendulum never falls; a pole does."""
    endless = new("Pendulum-v1").learn(total_timesteps=70)
    features = torch.randn(5, 8)
    for one, ends in ((endless, False), (agent, True)):
        head = one.model.percepts.decoder.terminated
        assert head.met.tolist() == [True, ends]
        assert head.rows >= one.num_timesteps
        never = head(features).probs == 1 / (2 * head.rows + 2)
        assert never.all() == (not ends)


def weights_of(agent):
    modules = agent.training.modules.items()
    return {f"{name}.{k}": w for name, m in modules for k, w in m.state_dict().items()}


def assert_same(one, other):
    """Two agents learned the same from the same, to the last bit."""
    assert one.num_timesteps == other.num_timesteps
    assert_same_weights(weights_of(one), weights_of(other))
    played, others = one.training.store, other.training.store
    assert played.lengths.tolist() == others.lengths.tolist()
    assert played.weights.tolist() == others.weights.tolist()


def differ(one, other):
    mine, theirs = weights_of(one), weights_of(other)
    return any(not torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A current directory, in which nothing may be found in the end."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty")
def test_five_lines_learn_and_write_nothing():
    agent = WorldModelAgent("CartPole-v1", seed=0, **TINY)
    agent.learn(total_timesteps=70)
    env = gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation, deterministic=True)
    assert env.action_space.contains(action)
    assert agent.num_timesteps == 70
    assert agent.evaluate(episodes=2).returns.shape == (2,)


# Learning.


def test_the_same_seed_gives_the_same_agent_whatever_else_is_drawn():
    one, other, third = new(seed=1), new(seed=1), new(seed=2)
    one.learn(70)
    torch.manual_seed(5)
    np.random.seed(5)
    other.learn(70)
    assert_same(one, other)
    assert differ(one, third.learn(70))


@pytest.mark.parametrize("agent", ["own", "sb3:PPO"])
def test_torchs_generator_is_left_alone(agent):
    """So are numpy's and Python's own, but by algorithms of others, which draw from them."""

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    made = new(agent=agent).learn(50)
    made.predict(np.zeros(4, np.float32))
    made.evaluate(2)
    made.log_prob(made.training.store)
    made.dream(2).reset(seed=0)
    assert states()[0] == before[0]
    if agent == "own":
        assert states() == before


def test_learning_goes_on_with_more_steps_and_rates_that_fall_anew():
    agent = new(seed=3).learn(70)
    learned = agent.training.learner.trainer
    assert learned.updates == 4 + 2
    agent.learn(40)
    assert agent.training.learner.trainer is learned
    assert agent.num_timesteps == 110
    assert learned.updates == 4 + 2 + 2 + 2
    rates = [learned.learning_rate(number) for number in range(10)]
    assert rates[0] == rates[6] == agent.config.learning.learning_rate
    for part in (rates[:6], rates[6:]):
        assert part == sorted(part, reverse=True)
        assert part[-1] < part[0]


def test_the_first_steps_may_be_fewer_than_are_played_at_random():
    agent = new().learn(10).learn(10)
    assert agent.num_timesteps == 20
    assert [stage.round for stage in agent.training.stages if stage.kind == "collect"] == [0, 1]


@pytest.mark.parametrize("env", ["CartPole-v1", "Panel-v0"])
@pytest.mark.parametrize("place", ["memory", "a folder"])
def test_learning_goes_on_in_another_process_to_the_last_bit(tmp_path, env, place):
    folder = None if place == "memory" else tmp_path / "run"
    one = new(env, seed=4, folder=folder).learn(70)
    one.save(tmp_path / "saved")
    other = WorldModelAgent.load(tmp_path / "saved")
    assert_same(one, other)
    one.learn(30)
    torch.manual_seed(99)
    other.learn(30)
    assert_same(one, other)
    if folder is not None:
        assert_same(WorldModelAgent.load(folder), one)


@pytest.mark.usefixtures("empty")
def test_a_callback_hears_of_every_unit_of_every_stage():
    heard = []

    def hear(progress):
        assert progress.agent.num_timesteps == progress.num_timesteps
        heard.append((progress.stage, progress.round, progress.unit, progress.units))

    also = []
    new().learn(70, callback=[hear, lambda progress: also.append(progress.metrics)])
    first = [("collect", 0, 1, 1)]
    first += [(kind, 0, n, 4) for kind in ("choose", "learn", "improve") for n in (1, 2, 3, 4)]
    second = [("collect", 1, 1, 1)]
    second += [(kind, 1, n, 2) for kind in ("learn", "improve") for n in (1, 2)]
    assert heard == first + second
    assert len(also) == len(heard)
    assert all(isinstance(metrics, dict) for metrics in also)


STOPS = [("collect", 0, 1), ("learn", 0, 2), ("learn", 0, 4), ("improve", 0, 1), ("collect", 1, 1)]


@pytest.mark.parametrize("stop", STOPS)
def test_learning_that_was_stopped_goes_on(tmp_path, stop):
    """What was left is given up; steps add up. So it does when it has been saved there."""
    one, other = (
        new(seed=5).learn(90, lambda p: (p.stage, p.round, p.unit) != stop) for _ in range(2)
    )
    steps = 50 + 20 * stop[1]
    assert one.num_timesteps == steps
    one.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved")
    for agent in (one, other, loaded):
        agent.learn(30)
        assert agent.num_timesteps == steps + 30
    assert_same(one, other)
    assert_same(loaded, other)


class Square(Panel):
    """Shows its meter as the shade of a square."""

    observation_space = spaces.Box(0, 255, (16, 16, 1), np.uint8)

    def observe(self):
        image = np.zeros((16, 16, 1), np.uint8)
        image[4:12, 4:12] = self.np_random.integers(256)
        return image


def test_an_encoder_that_was_stopped_goes_on(tmp_path):
    """Amid the learning of an image encoder, whose codes are then those of what it has learned."""
    images = {"vae_latent": 3, "vae_hidden": 8, "vae_width": 2, "vae_updates": 4}

    one, other = (
        new(Square, **images).learn(50, lambda p: (p.stage, p.unit) != ("encode", 2))
        for _ in range(2)
    )
    one.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved", Square)
    for agent in (one, other, loaded):
        assert agent.learn(30).num_timesteps == 80
        assert agent.evaluate(2).returns.shape == (2,)
    assert_same(one, other)
    assert_same(loaded, other)


def test_progress_is_shown_where_it_is_wished_for(capsys):
    agent = new().learn(50)
    assert capsys.readouterr() == ("", "")
    agent.learn(20, progress_bar=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "dreaming" in shown.err


# Acting.


def test_before_it_has_learned_it_acts_at_random():
    agent = new(seed=6)
    assert not agent.has_learned
    actions, state = agent.predict(np.zeros((400, 4), np.float32))
    assert 140 < actions.sum() < 260  # six standard deviations
    more, _ = agent.predict(np.zeros((400, 4), np.float32), state, deterministic=True)
    assert 140 < more.sum() < 260
    assert (more != actions).any()
    again, _ = new(seed=6).predict(np.zeros((400, 4), np.float32))
    assert (again == actions).all()
    assert agent.evaluate(3).lengths.min() > 5
    with pytest.raises(ValueError, match=r"learned nothing yet: call learn\(total_timesteps="):
        agent.model  # noqa: B018 (a property)
    with pytest.raises(ValueError, match="learned nothing yet"):
        agent.dream()


def test_one_observation_is_answered_as_several_are(agent):
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    actions, states = agent.predict(observations, deterministic=True)
    assert actions.shape == (5,)
    for place, observation in enumerate(observations):
        action, state = agent.predict(observation, deterministic=True)
        assert np.shape(action) == ()
        assert action == actions[place]
        action, _ = agent.predict(observation + 1, state, deterministic=True)
        mine = nested.index(states, slice(place, place + 1))
        others, _ = agent.predict(observation[None] + 1, mine, deterministic=True)
        assert action == others[0]


@pytest.mark.parametrize("env", ["CartPole-v1", "Panel-v0"])
def test_the_belief_that_predict_carries_is_that_of_the_gen_core(env):
    """Of the same rows, to the last bit: rewards are what the model knows that they are."""
    agent = new(env).learn(70)
    core = GenCore(agent.world.environment(3, seed=5), Greedy(agent.policy))
    state, carried, ended = core.initial_state(3), None, 0
    with torch.no_grad():
        for _ in range(40):
            (row, _), state = core.step(state)
            shown = nested.map(lambda leaf: leaf.numpy(), row.observation)
            _, carried = agent.predict(shown, carried, row.first.numpy(), True)
            goes_on = ~row.terminated  # else a first row follows, whatever is believed
            pairs = zip(nested.leaves(carried.mind), nested.leaves(state.mind), strict=True)
            assert all(torch.equal(mine[goes_on], theirs[goes_on]) for mine, theirs in pairs)
            assert torch.equal(carried.action[goes_on], state.action[goes_on])
            ended += int(row.terminated.sum())
    assert ended > 2
    core.environment.close()


@unspecified
@pytest.mark.parametrize("env", ["CartPole-v1", "Panel-v0"])
@pytest.mark.parametrize("copies", [1, 3])
def test_stable_baselines3_evaluates_it_as_it_stands(env, copies):
    """And finds the returns that we find in games of the same seeds."""
    agent = new(env).learn(70)
    vector = DummyVecEnv([lambda: gymnasium.make(env)] * copies)
    vector.seed(8)
    returns, lengths = evaluate_policy(agent, vector, copies, return_episode_rewards=True)
    world = agent.world.environment(copies, seed=8)
    stats = play_episodes(world, Greedy(agent.policy), copies)
    world.close()
    assert sorted(returns) == sorted(stats.returns.tolist())
    assert sorted(lengths) == sorted(stats.lengths.tolist())


@unspecified
@pytest.mark.parametrize("env", ["Echo-v0", "Panel-v0", "CartPole-v1"])
@pytest.mark.parametrize("has_learned", [True, False])
def test_stable_baselines3_evaluates_it_anywhere(env, has_learned):
    """A plain environment, one that asks for memory, a dictionary; before it has learned, too."""
    agent = new(env)
    if has_learned:
        agent.learn(60)
    for deterministic in (True, False):
        mean, std = evaluate_policy(agent, gymnasium.make(env), 5, deterministic=deterministic)
        assert 0 <= mean <= 500
        assert std >= 0
    mean, _ = evaluate_policy(agent, DummyVecEnv([lambda: gymnasium.make(env)] * 4), 10)
    assert mean >= 0


def test_an_evaluation_has_seeds_of_its_own(agent):
    one = agent.evaluate(6)
    assert (agent.evaluate(6).returns == one.returns).all()
    assert (agent.evaluate(6, seed=1).returns != one.returns).any()
    assert (one.returns == one.lengths).all()  # of CartPole
    assert one.terminated.all()
    assert agent.num_timesteps == 70


def test_actions_fit_their_space_whatever_it_is():
    for env in ("Pendulum-v1", "games:Nested-v0"):
        made = new(env).learn(50)
        one = made.world.source.one()
        observation, _ = one.reset(seed=0)
        for deterministic in (True, False):
            action, _ = made.predict(observation, deterministic=deterministic)
            assert one.action_space.contains(action)
        one.close()


# Environments.


class Signs(gymnasium.Env):
    """Truth values, a picture with channels first that tells them, and words."""

    observation_space = spaces.Dict(
        lit=spaces.Box(0, 1, (10, 10, 4), bool),
        picture=spaces.Box(0, 1, (1, 40, 40), np.float32),
        word=spaces.Text(3),
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.shown(), {}

    def shown(self):
        lit = self.np_random.random((10, 10, 4)) < 0.1
        picture = np.full((1, 40, 40), lit.mean(), np.float32)
        return {"lit": lit, "picture": picture, "word": "lit"}

    def step(self, action):
        self.count += 1
        return self.shown(), float(action), self.count == 6, False, {}


def test_planes_pictures_and_words_are_learned_played_saved_and_dreamt(tmp_path):
    """As far as they can be; what `predict` is given is what the environment shows."""
    with pytest.warns(UserWarning, match="'word' is left out"):
        agent = new(Signs)
    assert {*agent.observation_space} == {"lit", "picture"}
    agent.learn(60).save(tmp_path / "signs")
    agent = WorldModelAgent.load(tmp_path / "signs", Signs)
    env, whole = Signs(), agent.world.source.one()
    (shown, _), (read, _) = env.reset(seed=3), whole.reset(seed=3)
    pairs = [agent.predict(one, deterministic=True) for one in (shown, read)]
    assert pairs[0][0] == pairs[1][0]
    assert torch.equal(pairs[0][1].action, pairs[1][1].action)
    dream = DreamEnv(agent.components.dream(5))
    dreamt = dream.reset(seed=0)[0]
    assert dreamt["lit"].dtype == bool
    assert agent.observation_space.contains(dreamt)


def test_stable_baselines3_evaluates_it_on_pictures_as_the_environment_shows_them():
    def grey():
        env = gymnasium.make("Counting-v0", max_episode_steps=5)
        space = spaces.Box(0, 1, (40, 40), np.float32)
        return gymnasium.wrappers.TransformObservation(
            env, lambda seen: np.full((40, 40), seen[0] / 9, np.float32), space
        )

    with pytest.warns(UserWarning, match="read as images"):
        agent = new(grey)
    evaluate_policy(agent.learn(50), DummyVecEnv([grey]), 2, warn=False)


def test_an_environment_a_function_and_an_id_are_learned_alike():
    agents = [
        new(env, seed=7).learn(70).learn(20)
        for env in ("games:Panel-v0", Panel, Panel(), lambda: gymnasium.make("Panel-v0"))
    ]
    for other in agents[1:]:
        assert_same(agents[0], other)


def test_copies_may_be_played_side_by_side():
    agent = new("Panel-v0", num_envs=4).learn(70)
    assert 70 <= agent.num_timesteps < 70 + 2 * 4
    assert_same(new("Panel-v0", num_envs=4, workers=2).learn(70), agent)
    one = new(Panel(), num_envs=4).learn(70)  # of which there is but one
    assert one.num_timesteps == 70


def test_recorded_episodes_teach_without_an_environment(tmp_path):
    played = new("Panel-v0").learn(70).training.store
    config = {"observation_space": Panel.observation_space, "action_space": Panel.action_space}
    heard = []
    agent = new(None, data=played, **config)
    agent.learn(70, callback=lambda p: heard.append(p.stage))
    assert set(heard) == {"read", "learn", "improve"}
    assert agent.num_timesteps == played.steps
    action, _ = agent.predict(Panel.observation_space.sample())
    assert Panel.action_space.contains(action)
    with pytest.raises(ValueError, match=r"no real environment.*pass env="):
        agent.evaluate(2)
    agent.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved")
    for learning in (agent, loaded):
        heard.clear()
        learning.learn(20, callback=lambda p: heard.append(p.stage))
        assert set(heard) == {"learn", "improve"}
    assert_same(loaded, agent)
    both = new("Panel-v0", data=played).learn(70)
    assert both.evaluate(2).returns.min() >= 1


# Folders.


def test_a_folder_is_a_run(tmp_path):
    path = tmp_path / "run"
    agent = new(folder=path).learn(70)
    lines = list(RunFolder.open(path).metrics())
    assert [line["stage"] for line in lines].count("learn") == 4 + 2
    result = worldmodel("evaluate", path, "--episodes", 2, "--held-out", 2)
    assert result.returncode == 0, result.stderr
    film = tmp_path / "film.gif"
    result = worldmodel("video", path, "--steps", 2, "--out", film)
    assert result.returncode == 0, result.stderr
    assert film.stat().st_size > 0
    agent.learn(20)
    assert_same(WorldModelAgent.load(path), agent)
    with pytest.raises(RunError, match="already exists"):
        new(folder=path)


def test_a_saved_agent_is_a_run_that_may_be_replaced(tmp_path):
    agent, path = new().learn(50), tmp_path / "saved"
    agent.save(path)
    assert WorldModelAgent.load(path).num_timesteps == 50
    agent.learn(20)
    agent.save(str(path))
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]
    assert_same(WorldModelAgent.load(path), agent)
    result = worldmodel("evaluate", path, "--episodes", 2, "--held-out", 2)
    assert result.returncode == 0, result.stderr
    result = worldmodel("resume", path, "--steps", 20)
    assert result.returncode == 0, result.stderr
    assert_same(WorldModelAgent.load(path), agent.learn(20))


def test_an_agent_in_a_folder_may_be_saved_there(tmp_path):
    agent = new(folder=tmp_path / "run").learn(50)
    agent.save(tmp_path / "run")
    assert_same(WorldModelAgent.load(tmp_path / "run"), agent)
    agent.learn(20)
    assert_same(WorldModelAgent.load(tmp_path / "run"), agent)
    assert len(DiskStore(tmp_path / "run" / "episodes", writable=False)) == len(
        agent.training.store
    )


def test_other_folders_are_left_alone(tmp_path):
    agent = new()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")
    RunFolder.create(tmp_path / "text", "text", {"seed": 0})
    for name, said in (
        ("mine", "is no run"),
        ("file", "no (run at|packed run)"),
        ("text", "a run of text"),
    ):
        with pytest.raises(RunError, match=said):
            agent.save(tmp_path / name)
        with pytest.raises(RunError, match=said):
            WorldModelAgent.load(tmp_path / name)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    assert (tmp_path / "text" / "config.json").exists()


def test_an_agent_without_an_id_is_told_its_environment_again(tmp_path):
    agent = new(Panel).learn(50)
    agent.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved")
    shown = Panel.observation_space.sample()
    actions = [one.predict(shown, deterministic=True)[0] for one in (agent, loaded)]
    assert actions[0] == actions[1]
    with pytest.raises(ValueError, match="loaded without one; pass env="):
        loaded.learn(20)
    loaded = WorldModelAgent.load(tmp_path / "saved", Panel)
    assert_same(loaded.learn(20), agent.learn(20))


def test_an_agent_that_has_learned_nothing_may_be_saved(tmp_path):
    agent = new(seed=9)
    agent.save(tmp_path / "saved")
    loaded = WorldModelAgent.load(tmp_path / "saved")
    assert not loaded.has_learned
    assert_same(loaded.learn(50), agent.learn(50))


# What it knows.


@unspecified
def test_its_dream_passes_the_checkers(agent):
    env = DreamEnv(agent.components.dream(9))
    check_env(env, skip_render_check=True)
    check_env_sb3(env)
    dreams = agent.dream(num_envs=3, horizon=5)
    assert dreams.single_observation_space == agent.observation_space
    assert dreams.single_action_space == agent.action_space
    observation, _ = dreams.reset(seed=1)
    lengths = np.zeros(3)
    for _ in range(7):
        actions, _ = agent.predict(observation)
        observation, reward, _, truncated, _ = dreams.step(actions)
        assert observation in dreams.observation_space
        assert ((reward == 1) | (reward == 0)).all()  # of CartPole; 0 of first rows
        lengths += 1
        assert (truncated <= (lengths >= 5)).all()
    assert new().learn(50).dream().dream.horizon == 500  # CartPole's own


@pytest.mark.parametrize("task", ["copy", "equal"])
def test_log_prob_is_that_of_the_exact_filter_for_a_perfect_model(task):
    """Of whole episodes: observations, rewards, ends, first rows among them."""
    arguments = {"width": 3, "task": task}
    agent = new(lambda: gymnasium.make("worldmodel/ToyGame-v0", **arguments)).learn(300)
    agent.components.model = perfect_model(3, 3, task)
    store = agent.training.store
    found = agent.log_prob(store)
    assert found.shape == (len(store),)
    exact = ToyGameFilter(3, 3, task)
    for episode in range(len(store)):
        rows = store.sequences(agent.components.actions, np.array([episode])).rows
        action = agent.components.actions.decode(rows.action)
        leaves = (rows.first, action, rows.observation, rows.reward, rows.terminated)
        by_key = exact.log_prob(*(leaf.numpy() for leaf in leaves))
        assert found[episode] == pytest.approx(sum(v.sum() for v in by_key.values()), abs=1e-9)


def test_log_prob_does_not_depend_on_how_episodes_are_grouped(agent, monkeypatch):
    store = agent.training.store
    whole = agent.log_prob(store)
    monkeypatch.setattr("worldmodel.agents.scoring.ROWS_AT_ONCE", 30)
    np.testing.assert_allclose(agent.log_prob(store), whole, rtol=1e-5)
    assert agent.log_prob(MemoryStore()).shape == (0,)


def test_it_says_what_it_is(agent):
    assert repr(agent) == "WorldModelAgent('CartPole-v1', seed=0, 70 timesteps)"
    assert "no environment" in repr(
        new(
            None,
            data=agent.training.store,
            observation_space=agent.observation_space,
            action_space=agent.action_space,
        )
    )


# Mistakes.


@pytest.mark.parametrize(
    ("env", "options", "error", "said"),
    [
        (gymnasium.make_vec("CartPole-v1", 2), {}, TypeError, "vector environment .*pass a funct"),
        (3, {}, TypeError, "expected a Gymnasium id"),
        (None, {}, ValueError, "nothing to learn from: pass an environment, or data="),
        ("CartPool-v1", {}, ValueError, "did you mean CartPole-v1"),
        ("CartPole-v1", {"hiden_size": 3}, TypeError, "did you mean hidden_size?"),
        ("CartPole-v1", {"hidden_size": 0}, ValueError, "^hidden_size must be positive, got 0"),
        ("CartPole-v1", {"method": "pathwize"}, ValueError, "did you mean 'pathwise'"),
        ("CartPole-v1", {"core": "lstm"}, ValueError, "there is no core 'lstm'; there are"),
        ("CartPole-v1", {"agent": "sb3:PPPO"}, ValueError, "did you mean 'sb3:PPO'"),
        ("CartPole-v1", {"agent": "sb3:SAC"}, ValueError, "SAC takes Box actions"),
        ("Pendulum-v1", {"method": "all-actions"}, ValueError, "lists all actions"),
        ("CartPole-v1", {"num_envs": 0}, ValueError, "num_envs"),
    ],
)
def test_mistakes_are_said_before_anything_is_played(tmp_path, env, options, error, said):
    with pytest.raises(error, match=said):
        WorldModelAgent(env, folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_steps_are_one_or_more(agent):
    with pytest.raises(ValueError, match="one step or more, got 0"):
        agent.learn(0)


def test_observations_of_another_space_are_refused(agent):
    with pytest.raises(ValueError, match="nan"):
        agent.predict(np.full(4, np.nan, np.float32))


def test_a_whole_configuration_may_be_given():
    config = AgentConfig(seed=3)
    assert WorldModelAgent("CartPole-v1", config=config).config.seed == 3
    assert WorldModelAgent("CartPole-v1", config=config, seed=4, core="vrnn").config.seed == 4


def test_episodes_without_steps_teach_nothing_and_break_nothing():
    """An environment that ends at once, and one of which no reward was ever but 0."""

    class Ends(Panel):
        def step(self, action):
            return self.observe(), 0.0, True, False, {}

    agent = new(Ends).learn(60)
    assert agent.evaluate(3).lengths.tolist() == [1, 1, 1]
    assert agent.components.statistics.reward_unit == 1.0


def test_memory_of_an_echo_is_a_function_of_rows():
    """What is predicted for one game does not depend on those beside it."""
    agent = new(Echo).learn(60)
    shown = np.random.default_rng(0).integers(4, size=(6, 5))
    together, state = [], None
    for row in shown:
        actions, state = agent.predict(row, state, deterministic=True)
        together.append(actions)
    for game in range(5):
        state = None
        for row, actions in zip(shown, together, strict=True):
            action, state = agent.predict(row[game], state, deterministic=True)
            assert action == actions[game]


def test_spaces_are_those_of_the_environment(agent):
    assert isinstance(agent.action_space, spaces.Discrete)
    assert agent.observation_space == gymnasium.make("CartPole-v1").observation_space

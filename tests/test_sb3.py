"""Laws of stable-baselines3 in dreams: what it is told, what is read of it, how it goes on."""

import functools

import numpy as np
import pytest
import torch
from games import Counting
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from worldmodel import BeliefAgent, Dream, GenCore, Greedy, Replay, action_codec, model_for
from worldmodel.agents import sb3
from worldmodel.agents.exploration import Uniform
from worldmodel.agents.imagination import recorded_beliefs
from worldmodel.envs import DreamVectorEnv, GymEnvironment, collect, make_vector_env
from worldmodel.noise import OwnNoise

SAME_STEP = AutoresetMode.SAME_STEP
SEEN = spaces.Box(-1.0, 1.0, (3,))
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "several": spaces.MultiDiscrete([2, 4]),
    "binary": spaces.MultiBinary(3),
    "box": spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float32),
}
ALL = [(name, kind) for name in sb3.ALGORITHMS for kind in ACTIONS]
ABLE = [case for case in ALL if isinstance(ACTIONS[case[1]], sb3.ALGORITHMS[case[0]].takes)]
SMALL = {"policy_kwargs": {"net_arch": [8]}, "learning_rate": 0.01}
OPTIONS = {
    "PPO": {"n_steps": 4, "batch_size": 12, "n_epochs": 2},
    "A2C": {"n_steps": 4},
    "DQN": {"learning_starts": 0, "train_freq": 1, "buffer_size": 100},
    "SAC": {"learning_starts": 0, "buffer_size": 100},
    "RecurrentPPO": {"n_steps": 4, "batch_size": 12, "n_epochs": 2},
}


def make_model(actions, core="rnn"):
    with OwnNoise(0)():
        model = model_for(SEEN, actions, core, 4, decoder_hidden=8)
    return model.requires_grad_(False).eval()


def make_dreams(model, actions, games=3, horizon=5, begin=None):
    dream = Dream(model, horizon, SEEN, actions)
    return DreamVectorEnv(dream, games, "belief", SAME_STEP, begin=begin)


def make_learner(name, kind="discrete", reward_unit=1.0):
    """An untrained algorithm, the model that it dreams with, and its dreams."""
    model = make_model(ACTIONS[kind])
    dreams = make_dreams(model, ACTIONS[kind])
    with OwnNoise(1)():
        learner = sb3.Learner(name, dreams, SMALL | OPTIONS[name], reward_unit)
    return learner, model, dreams


def make_agent(learner, model):
    head = sb3.Head(learner.algorithm)
    believer = BeliefAgent(model, head)
    return sb3.Remembering(believer, head) if sb3.is_remembering(head) else believer


def weights(learner):
    return [value.clone() for value in learner.algorithm.policy.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def learn(learner, calls, begin=0):
    return [learner.learn(12, 0.9**call, seed=call) for call in range(begin, begin + calls)]


# --------------------------------------------------------------------------------- what it is told


def counting_games(lengths):
    """Two games whose odd episodes terminate, and whose even ones are truncated."""
    return SyncVectorEnv([lambda: Counting(lengths)] * 2, autoreset_mode=SAME_STEP)


def test_ends_are_told_as_stable_baselines_expects():
    games = sb3.Games(counting_games((3, 2)), reward_unit=2.0)
    games.seed(4)
    shown = games.reset()
    assert (shown[:, 0] == 0).all()
    counts, ends = [], []
    for _ in range(5):
        observation, reward, done, infos = games.step(np.array([1, 2]))
        counts.append(int(observation[0, 0]))
        ends.append((bool(done[0]), infos[0]))
    assert counts == [1, 2, 0, 1, 0]  # the first row of the next episode, in the same step
    assert [done for done, _ in ends] == [False, False, True, False, True]
    whole, cut = ends[2][1], ends[4][1]
    assert (whole["terminal_observation"][0], whole["TimeLimit.truncated"]) == (3, False)
    assert (cut["terminal_observation"][0], cut["TimeLimit.truncated"]) == (2, True)
    assert all(info == {} for done, info in ends if not done)
    assert reward.dtype == np.float32
    assert reward == pytest.approx([(1 + 0.02) / 2, (2 + 0.02) / 2])


def test_the_same_seed_gives_the_same_games():
    def first_rows(seed):
        games = sb3.Games(counting_games(()))
        games.seed(seed)
        return games.reset()

    assert (first_rows(4) == first_rows(4)).all()
    assert (first_rows(4) != first_rows(5)).any()


def test_games_that_restart_later_are_refused():
    with pytest.raises(ValueError, match=r"expects autoreset_mode SAME_STEP"):
        sb3.Games(SyncVectorEnv([Counting], autoreset_mode=AutoresetMode.NEXT_STEP))


@pytest.mark.parametrize(("name", "kind"), sorted(set(ALL) - set(ABLE)))
def test_actions_that_an_algorithm_does_not_take_are_refused_with_those_that_do(name, kind):
    with pytest.raises(ValueError, match=rf"^{name} takes .* actions, but .*PPO.* take these$"):
        sb3.check(name, ACTIONS[kind], {})


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=1),
        spaces.MultiDiscrete([[2, 2], [2, 2]]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(0, 3, (2,), np.int64),
    ],
)
def test_actions_that_stable_baselines_cannot_write_are_refused(space):
    with pytest.raises(ValueError, match="our own agent takes these"):
        sb3.check("PPO", space, {})


def test_options_that_an_algorithm_does_not_have_are_refused():
    sb3.check("PPO", ACTIONS["discrete"], {"n_steps": 3})
    with pytest.raises(ValueError, match="PPO takes no n_stpes"):
        sb3.check("PPO", ACTIONS["discrete"], {"n_stpes": 3})


# ------------------------------------------------------------------------------ what is read of it


@pytest.mark.parametrize(("name", "kind"), ABLE)
def test_greedily_the_agent_does_what_the_algorithm_predicts(name, kind):
    """Row after row in a real environment, whose episodes begin anew in between."""
    learner, model, _ = make_learner(name, kind)
    learn_a_little(learner, model, kind)
    space, codec = ACTIONS[kind], action_codec(ACTIONS[kind])
    agent = Greedy(make_agent(learner, model))
    believer = BeliefAgent(model, sb3.Head(learner.algorithm))
    core = GenCore(Dream(model, 3, SEEN, space), agent)
    state, mind, memory = core.initial_state(4), model.initial_state(4), None
    with torch.no_grad(), OwnNoise(2)():
        for _ in range(9):
            (row, _), state = core.step(state)
            belief, mind = believer.step(row, mind)
            expected, memory = learner.algorithm.predict(
                belief.numpy(), memory, row.first.numpy(), deterministic=True
            )
            done = codec.decode(state.action).numpy()
            assert done == pytest.approx(expected, abs=1e-5)


def learn_a_little(learner, model, kind):
    """So that actions differ from one state to another."""
    learner.begin(make_dreams(model, ACTIONS[kind]), seed=3)
    learn(learner, 2)


@pytest.mark.parametrize(("name", "kind"), [case for case in ABLE if case[0] in ("PPO", "SAC")])
def test_drawn_the_agent_does_what_the_algorithm_does_on_average(name, kind):
    learner, model, _ = make_learner(name, kind)
    head, codec = sb3.Head(learner.algorithm), action_codec(ACTIONS[kind])
    draws = 4_000
    with torch.no_grad(), OwnNoise(5)():
        thought = torch.randn(1, model.belief_size).expand(draws, -1)
        ours = head(thought).sample()
        actions, _ = learner.algorithm.predict(thought.numpy(), deterministic=False)
    theirs = codec.encode(torch.as_tensor(actions))
    error = ((ours.var(0) + theirs.var(0)) / draws).sqrt()
    assert (abs(ours.mean(0) - theirs.mean(0)) <= 4 * error + 1e-6).all()
    spread = abs(ours.std(0) - theirs.std(0))
    assert (spread <= 0.05).all()


def test_a_drawn_action_of_dqn_explores():
    learner, model, _ = make_learner("DQN")
    learner.algorithm.exploration_rate = 0.3
    with torch.no_grad():
        policy = sb3.Head(learner.algorithm)(torch.zeros(2, model.belief_size))
    probs = policy.probs.sort(-1).values
    assert probs.numpy() == pytest.approx(np.tile([0.1, 0.1, 0.8], (2, 1)), abs=1e-6)


@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_a_head_reads_any_leading_dimensions(name):
    learner, model, _ = make_learner(name)
    thought = torch.randn(2, 5, model.belief_size)
    with torch.no_grad():
        head = sb3.Head(learner.algorithm)
        assert torch.allclose(head(thought).logits[1], head(thought[1]).logits)


# -------------------------------------------------------------------------- how it learns, goes on


@pytest.mark.parametrize("name", sb3.ALGORITHMS)
def test_an_algorithm_learns_and_the_model_stays(name):
    learner, model, dreams = make_learner(name, "box" if name == "SAC" else "discrete", 2.0)
    before, of_model = weights(learner), [value.clone() for value in model.state_dict().values()]
    assert not learner.has_begun
    learner.begin(dreams, seed=3)
    config = learn(learner, 3)
    assert not same(before, weights(learner))
    assert same(of_model, model.state_dict().values())
    assert all(np.isfinite(list(metrics.values())).all() for metrics in config)
    assert [m["learning_rate"] for m in config] == pytest.approx([0.01, 0.009, 0.0081])
    assert learner.algorithm.num_timesteps == 36


def test_rewards_are_told_in_their_own_unit():
    config = []
    for unit in (1.0, 5.0):
        learner, _, dreams = make_learner("PPO", reward_unit=unit)
        with OwnNoise(6)():
            learner.begin(dreams, seed=3)
            config.append(learn(learner, 1)[0]["reward"])
    assert config[0] == pytest.approx(config[1], rel=1e-5)


@pytest.mark.parametrize("name", ["PPO", "A2C", "RecurrentPPO"])
def test_on_policy_algorithms_go_on_to_the_last_bit(name):
    def run(interrupted):
        learner, _, dreams = make_learner(name)
        with OwnNoise(7)():
            learner.begin(dreams, seed=3)
            learn(learner, 2)
            if interrupted:
                kept = learner.algorithm.policy.state_dict()
                state, games = learner.state_dict(), dreams.state_dict()
                learner, _, dreams = make_learner(name)
                learner.begin(dreams, seed=99)
                learner.algorithm.policy.load_state_dict(kept)
                learner.load_state_dict(state)
                dreams.load_state_dict(games)
            config = learn(learner, 2, begin=2)
        return config, weights(learner)

    one, other = run(False), run(True)
    assert one[0] == other[0]
    assert same(one[1], other[1])


@pytest.mark.parametrize("name", ["DQN", "SAC"])
def test_off_policy_algorithms_go_on_with_all_but_their_replay(name):
    kind = "box" if name == "SAC" else "discrete"
    learner, _, dreams = make_learner(name, kind)
    learner.begin(dreams, seed=3)
    learn(learner, 3)
    kept, state = learner.algorithm.policy.state_dict(), learner.state_dict()
    games = dreams.state_dict()
    fresh, _, dreams = make_learner(name, kind)
    fresh.begin(dreams, seed=3)
    fresh.algorithm.policy.load_state_dict(kept)
    fresh.load_state_dict(state)
    dreams.load_state_dict(games)
    again = fresh.state_dict()
    if name == "DQN":
        assert fresh.algorithm.exploration_rate == learner.algorithm.exploration_rate > 0
    for what in ("counts", "others"):
        assert again[what] == state[what]
    for name, optimizer in state["optimizers"].items():
        moments = [part["exp_avg"] for part in optimizer["state"].values()]
        assert same(moments, [p["exp_avg"] for p in again["optimizers"][name]["state"].values()])
    assert fresh.algorithm.replay_buffer.size() == 0
    learn(fresh, 1)
    assert fresh.algorithm.replay_buffer.size() > 0


def test_a_model_that_has_changed_leaves_no_transitions():
    learner, _, dreams = make_learner("DQN")
    learner.begin(dreams, seed=3)
    learn(learner, 1)
    assert learner.algorithm.replay_buffer.size() > 0
    learner.begin(dreams, seed=4)
    assert learner.algorithm.replay_buffer.size() == 0


# ------------------------------------------------------------------ dreams that go on from beliefs


def recorded(core="rnn"):
    """A model of a real game, and a replay of it."""
    world = GymEnvironment(make_vector_env("CartPole-v1", copies=2), seed=0)
    model = model_for(world.observation_space, world.action_space, core, 4, decoder_hidden=8)
    model.requires_grad_(False).eval()
    replay = Replay(action_codec(world.action_space), seed=1)
    for episodes in collect(world, Uniform(world.action_space), 60):
        replay.add(episodes)
    world.close()
    begin = functools.partial(recorded_beliefs, model, replay, window=6, from_start=0.5)
    dream = Dream(model, 3, world.observation_space, world.action_space)
    return model, begin, dream


@pytest.mark.parametrize("core", ["rnn", "vrnn"])
def test_dreams_begin_with_recorded_beliefs_and_go_on_from_them(core):
    with OwnNoise(8)():
        model, begin, dream = recorded(core)
        drawn = []

        def keeping(number):
            drawn.append(begin(number))
            return drawn[-1]

        env = DreamVectorEnv(dream, 4, "belief", SAME_STEP, begin=keeping)
        shown, _ = env.reset(seed=0)
    assert shown == pytest.approx(model.belief(drawn[0]).numpy())
    assert not env.state.ended.any()
    for _ in range(6):
        shown, _, terminated, truncated, info = env.step(np.zeros(4, int))
        ended = terminated | truncated
        if ended.any():
            assert len(drawn[-1].history) == ended.sum()
            assert shown[ended] == pytest.approx(model.belief(drawn[-1]).numpy())
            last = np.stack(info["final_obs"][ended])
            assert (abs(last - shown[ended]).max(-1) > 1e-6).all()
            assert (env.state.clock.numpy()[ended] == 0).all()
    assert len(drawn) >= 3  # at the beginning and at two horizons


def test_dreams_that_go_on_from_beliefs_show_beliefs():
    with OwnNoise(8)():
        _, begin, dream = recorded()
    with pytest.raises(ValueError, match="show beliefs"):
        DreamVectorEnv(dream, 2, "raw", SAME_STEP, begin=begin)
    with pytest.raises(ValueError, match="show beliefs"):
        DreamVectorEnv(dream, 2, "belief", begin=begin)


@pytest.mark.parametrize("observe", ["raw", "belief"])
def test_dreams_go_back_to_where_they_stood(observe):
    actions = ACTIONS["discrete"]
    dream = Dream(make_model(actions, "vrnn"), 5, SEEN, actions)
    env, other = (DreamVectorEnv(dream, 3, observe, SAME_STEP) for _ in range(2))
    env.reset(seed=0)
    env.step(np.array([0, 1, 2]))
    other.load_state_dict(env.state_dict())
    for _ in range(8):
        one, another = (e.step(np.array([2, 1, 0])) for e in (env, other))
        assert all(np.array_equal(a, b) for a, b in zip(one[:4], another[:4], strict=True))

"""Laws of dreams as Gymnasium environments, and of beliefs as observations."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from worldmodel import (
    CORES as CORES_BY_NAME,
    SRNN,
    BeliefAgent,
    Dream,
    GenCore,
    Row,
    model_for,
    nested,
)
from worldmodel.agents import Uniform
from worldmodel.codecs import OneHotHead
from worldmodel.envs import (
    BeliefWrapper,
    DreamEnv,
    DreamVectorEnv,
    GymEnvironment,
    ToyGame,
    ToyGameView,
)
from worldmodel.noise import OwnNoise

CORES = ["rnn", "srnn"]
OBSERVE = ["raw", "belief"]
NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
HORIZON = 6
GAMES = 4
CLASSES = 3

game = ToyGame(width=4, classes=CLASSES)
# the checkers doubt every Box without bounds, and environments that are not in the registry
unspecified = pytest.mark.filterwarnings("ignore::UserWarning")


def make_dream(core="srnn", horizon=HORIZON, ends=-1.0):
    """A small untrained model's dream; `ends` is the logit with which each step terminates."""
    with OwnNoise(0)():
        model = model_for(game.observation_space, game.action_space, core, 8, [-1.0, 0.5])
        torch.nn.init.constant_(model.percepts.decoder.terminated.logits.bias, ends)
    return Dream(model.requires_grad_(False), horizon, game.observation_space, game.action_space)


def make_games(core="srnn", observe="raw", mode=NEXT_STEP, games=GAMES, ends=-1.0, **options):
    return DreamVectorEnv(make_dream(core, ends=ends), games, observe, mode, **options)


def some_actions(steps, games=GAMES, seed=0):
    return np.random.default_rng(seed).integers(5, size=(steps, games))


def run(env, steps=40, seed=7):
    """What happens: the first observation, and all that every step returns."""
    return [env.reset(seed=seed), *(env.step(a) for a in some_actions(steps, env.num_envs))]


def same(one, other):
    """Equal to the last bit, whatever it is made of."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) and one.dtype == object:
        return same(one.tolist(), other.tolist())
    return np.array_equal(one, other)


def percept(env):
    """The rows [n] that the model itself remembers: what its last encoding says."""
    encoding = env.state.model.history[:, -1]
    observation, reward, terminated = encoding.split([CLASSES, 1, 1], -1)
    return observation.argmax(-1), reward[:, 0], terminated[:, 0].bool()


@unspecified
@pytest.mark.parametrize("observe", OBSERVE)
@pytest.mark.parametrize("core", CORES)
def test_a_dream_passes_the_checkers(core, observe):
    check_env(DreamEnv(make_dream(core), observe), skip_render_check=True)
    check_env_sb3(DreamEnv(make_dream(core), observe))


@unspecified
@pytest.mark.parametrize("core", CORES)
def test_a_believed_reality_passes_the_checkers(core):
    model = make_dream(core).model
    check_env(BeliefWrapper(ToyGame(), model), skip_render_check=True)
    check_env_sb3(BeliefWrapper(ToyGame(), model))


@unspecified
def test_any_algorithm_trains_in_a_dream():
    env = DreamEnv(make_dream(), "belief")
    before = [value.clone() for value in env.games.dream.model.parameters()]
    algorithm = PPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=1, seed=0, device="cpu")
    weights = [value.detach().clone() for value in algorithm.policy.parameters()]
    algorithm.learn(256)
    assert algorithm.num_timesteps == 256
    moved = zip(weights, algorithm.policy.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)
    assert same(before, list(env.games.dream.model.parameters()))
    assert len(algorithm.ep_info_buffer) > 10


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
@pytest.mark.parametrize("observe", OBSERVE)
@pytest.mark.parametrize("core", CORES)
def test_same_seed_and_number_same_dreams(core, observe, mode):
    def make():
        return make_games(core, observe, mode)

    once = run(make())
    torch.manual_seed(123)  # is no business of a dream
    assert same(run(make()), once)
    assert not same(run(make(), seed=8), once)
    again = make()
    run(again, steps=5, seed=99)
    assert same(run(again), once)  # a seed begins anew, whatever was before


def test_games_of_one_seed_differ():
    observations = np.stack([step[0] for step in run(make_games())])
    assert len({tuple(column) for column in observations.T}) == GAMES


def test_resets_without_a_seed_go_on():
    env = make_games(games=16)
    one, _ = env.reset(seed=3)
    other, _ = env.reset()
    assert not np.array_equal(one, other)
    again = make_games(games=16)
    assert same([again.reset(seed=3)[0], again.reset()[0]], [one, other])


@pytest.mark.parametrize("observe", OBSERVE)
def test_the_global_generator_is_left_alone(observe):
    env = make_games(observe=observe, mode=SAME_STEP)
    before = torch.get_rng_state()
    run(env)
    env.reset(options={"reset_mask": np.array([True, False, True, False])})
    assert torch.equal(torch.get_rng_state(), before)


def test_other_seeds_than_one_integer_are_refused():
    with pytest.raises(ValueError, match="pass one seed, an integer"):
        make_games().reset(seed=[1, 2, 3, 4])
    with pytest.raises(gymnasium.error.ResetNeeded):
        make_games().step(some_actions(1)[0])


@pytest.mark.parametrize(
    "wrong", [[5, 0, 0, 0], [-1, 0, 0, 0], [1.5, 0, 0, 0], [0, 0], [np.nan, 0, 0, 0]]
)
def test_actions_that_there_are_not_are_refused(wrong):
    env = make_games()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions are values of MultiDiscrete\(\[5 5 5 5\]\)"):
        env.step(wrong)


@pytest.mark.parametrize("wrong", [99, 1.5, -1])
def test_a_wrong_action_of_one_game_is_refused(wrong):
    env = DreamEnv(make_dream())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="actions are values of"):
        env.step(wrong)


def test_what_is_no_dream_is_refused():
    with pytest.raises(ValueError, match=r"a Dream is expected, got a WorldModel; pass Dream\("):
        DreamEnv(make_dream().model)


def test_after_an_end_comes_a_reset_row():
    env = make_games(mode=NEXT_STEP)
    env.reset(seed=0)
    ended, ends = np.zeros(GAMES, bool), 0
    for action in some_actions(120):
        observation, reward, terminated, truncated, info = env.step(action)
        assert (reward[ended] == 0).all()
        assert not (terminated | truncated)[ended].any()
        assert set(reward[~ended]) <= {-1.0, 0.5}
        assert env.observation_space.contains(observation)
        assert info == {}
        ended, ends = terminated | truncated, ends + int((terminated | truncated).sum())
    assert ends > 40


def test_same_step_shows_the_end_aside_and_begins_anew():
    env = make_games(mode=SAME_STEP)
    env.reset(seed=0)
    for action in some_actions(60):
        observation, reward, terminated, truncated, info = env.step(action)
        ended = terminated | truncated
        assert set(reward) <= {-1.0, 0.5}  # no row without an action
        shown, last_reward, last_terminated = percept(env)
        assert np.array_equal(observation, shown)
        assert not last_reward[ended].any()  # of the first row, which the model knows last
        assert not last_terminated.any()
        assert np.array_equal(env.state.clock == 0, ended)
        assert not env.state.ended.any()
        assert ("final_obs" in info) == ended.any()
        if ended.any():
            assert np.array_equal(info["_final_obs"], ended)
            final = info["final_obs"]
            assert all((final[i] is not None) == ended[i] for i in range(GAMES))
            assert all(env.single_observation_space.contains(final[i]) for i in np.where(ended)[0])


@pytest.mark.parametrize("observe", OBSERVE)
@pytest.mark.parametrize("core", CORES)
def test_both_autoresets_dream_the_same_rows(core, observe):
    """Of one game, one row after another is drawn in either mode."""
    following = make_games(core, observe, NEXT_STEP, games=1)
    at_once = make_games(core, observe, SAME_STEP, games=1)
    assert same(following.reset(seed=5), at_once.reset(seed=5))
    ends = 0
    for action in some_actions(60, 1):
        observation, *consequences, _ = following.step(action)
        other, *others, info = at_once.step(action)
        assert same(consequences, others)
        if consequences[1][0] or consequences[2][0]:
            assert same(info["final_obs"][0], observation[0])
            observation = following.step(action)[0]  # the row of the reset
            ends += 1
        assert same(observation, other)
    assert ends > 5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("observe", OBSERVE)
def test_both_autoresets_agree_up_to_the_first_end(observe, seed):
    both = (run(make_games(observe=observe, mode=m), seed=seed) for m in (NEXT_STEP, SAME_STEP))
    for one, other in list(zip(*both, strict=True))[1:]:
        assert same(one[1:4], other[1:4])
        ended = one[2] | one[3]
        assert same(one[0][~ended], other[0][~ended])
        if ended.any():
            assert same(list(other[4]["final_obs"][ended]), list(one[0][ended]))
            return
    raise AssertionError("no game ended")


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_a_dream_is_truncated_at_its_horizon(mode):
    env = make_games(mode=mode, ends=-50.0)
    env.reset(seed=0)
    period = HORIZON + (mode == NEXT_STEP)
    for step, action in enumerate(some_actions(4 * period), start=1):
        _, _, terminated, truncated, _ = env.step(action)
        assert not terminated.any()
        assert (truncated == (step % period == HORIZON % period)).all()


def test_what_terminates_is_not_truncated():
    env = make_games(ends=50.0)
    env.dream.horizon = 1  # the end and the limit in one step
    env.reset(seed=0)
    _, _, terminated, truncated, _ = env.step(some_actions(1)[0])
    assert terminated.all()
    assert not truncated.any()


MASK = np.array([True, False, True, False])


@pytest.mark.parametrize("observe", OBSERVE)
def test_a_reset_mask_restarts_only_those(observe):
    env = make_games(observe=observe, ends=-50.0)
    env.reset(seed=0)
    for action in some_actions(3):
        env.step(action)
    before = env._games
    observation, _ = env.reset(options={"reset_mask": MASK})
    assert env.observation_space.contains(observation)
    assert env.state.clock.tolist() == [0, 3, 0, 3]
    stood = nested.map(lambda old, new: (old[~MASK] == new[~MASK]).all(), before, env._games)
    assert all(nested.leaves(stood))
    assert same(observation[MASK], run_observation(env, observe)[MASK])
    truncations = [env.step(action)[3].tolist() for action in some_actions(HORIZON)]
    assert truncations.index([False, True, False, True]) == HORIZON - 3 - 1
    assert truncations[-1] == [True, False, True, False]


def run_observation(env, observe):
    """What the games should show now, read from where they stand."""
    if observe == "raw":
        return percept(env)[0].numpy()
    return env.dream.model.belief(env._games.mind).numpy()


@pytest.mark.parametrize("observe", OBSERVE)
def test_a_reset_mask_shows_the_others_as_they_stand(observe):
    env = make_games(observe=observe, games=64, ends=-50.0)
    env.reset(seed=0)
    shown = env.step(some_actions(1, 64)[0])[0]
    observation, _ = env.reset(options={"reset_mask": np.arange(64) < 8})
    assert same(observation[8:], shown[8:])


def test_a_game_that_ended_elsewhere_still_restarts():
    """A reset of some games forgets nothing about the others."""
    env = make_games(ends=50.0)
    env.reset(seed=0)
    assert env.step(some_actions(1)[0])[2].all()
    env.reset(options={"reset_mask": MASK})
    _, reward, terminated, truncated, _ = env.step(some_actions(1)[0])
    assert np.array_equal(terminated, MASK)  # those restarted earlier, and end again
    assert (reward[~MASK] == 0).all()
    assert not truncated.any()


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_the_belief_shown_is_the_models(core, mode):
    """`model.observe` and `model.belief` by hand, over the rows that the dream remembers."""
    env = make_games(core, "belief", mode)
    model = env.dream.model
    shown, _ = env.reset(seed=1)
    first, action = torch.ones(GAMES, dtype=torch.bool), np.zeros(GAMES, int)
    mind = model.initial_state(GAMES)
    for following in some_actions(40):
        code = env.core.actions.encode(torch.as_tensor(action)).masked_fill(first[:, None], 0.0)
        mind = model.observe(Row(first, code, *percept(env)), mind)
        np.testing.assert_allclose(shown, model.belief(mind).numpy(), rtol=1e-5, atol=1e-6)
        action = following
        restarted = env.state.ended.clone()
        shown, _, terminated, truncated, _ = env.step(action)
        ended = torch.as_tensor(terminated | truncated)
        first = ended if mode == SAME_STEP else restarted


class Revealing(SRNN):
    """A core whose belief holds its latent, as those of filters do."""

    belief_of_rows = False

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.belief_size = self.latent_size

    def belief(self, state):
        return state.latent


def test_the_belief_shown_is_the_minds_and_not_the_dreams(monkeypatch):
    """The latent that the dream drew is its hidden truth; a mind can only infer."""
    monkeypatch.setitem(CORES_BY_NAME, "revealing", Revealing)
    env = make_games("revealing", "belief")
    env.reset(seed=0)
    for action in some_actions(10):
        shown = env.step(action)[0][:, : env.dream.model.core.latent_size]
        truth = env.state.model.core.latent.numpy()
        assert (shown != truth).all()


def view_of(dream):
    return ToyGameView(dream.model, 4, CLASSES, particles=2)


@pytest.mark.parametrize("core", CORES)
def test_a_dream_is_drawn_by_its_view(core):
    dream = make_dream(core)
    for mode in ("rgb_array", "ansi"):
        env = DreamEnv(dream, render_mode=mode, view=view_of(dream))
        env.reset(seed=0)
        position, ended = 0, False
        for action in some_actions(20, 1)[:, 0]:
            picture = env.render()
            if mode == "rgb_array":
                assert (picture.dtype, picture.ndim, picture.shape[2]) == (np.uint8, 3, 3)
                assert picture.std() > 0
            else:
                assert picture.index("[") == 5 * position
            ended = any(env.step(action)[2:4])
            position = (position + {1: 1, 2: -1}.get(int(action), 0)) % 4
            if ended:
                env.reset()
                position = 0


def test_a_dream_without_a_view_cannot_be_seen():
    dream = make_dream()
    with pytest.raises(ValueError, match="needs a view that draws it"):
        DreamEnv(dream, render_mode="rgb_array")
    with pytest.raises(ValueError, match="needs a view that draws it"):
        DreamEnv(dream, render_mode="human", view=view_of(dream))
    env = DreamEnv(dream)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="cannot be seen"):
        env.render()


@pytest.mark.parametrize(
    "core",
    [
        "rnn",
        "srnn",
    ],
)
def test_looking_does_not_disturb_the_dream(core):
    dream = make_dream(core)
    unseen = run(make_games(core))
    seen = DreamVectorEnv(dream, GAMES, render_mode="ansi", view=view_of(dream))
    steps = [seen.reset(seed=7)]
    for action in some_actions(40):
        seen.render()
        steps.append(seen.step(action))
    assert same(steps, unseen)


def real_rows(seed, actions, games=1):
    """Thoughts and rows of a BeliefAgent in the real game, its actions given."""
    model = make_dream().model
    believer = BeliefAgent(model, OneHotHead(model.belief_size, 5))
    world = gymnasium.make_vec("worldmodel/ToyGame-v0", games)
    core = GenCore(GymEnvironment(world, seed), believer)
    state = core.initial_state(games)
    for action in [actions[0], *actions]:
        code = core.actions.encode(torch.tensor([action]))
        (row, thought), state = core.step(state._replace(action=code))
        yield row, thought[0].numpy()


def believed(seed, actions):
    """Observation, reward, terminated and truncated of a BeliefWrapper, one game after another."""
    env = BeliefWrapper(ToyGame(), make_dream().model)
    over = False
    yield env.reset(seed=seed)[0], 0.0, False, False
    for action in actions:
        step = (env.reset()[0], 0.0, False, False) if over else env.step(action)[:4]
        over = step[2] or step[3]
        yield step


def compare_belief_with_thoughts(steps):
    actions = some_actions(steps, 1)[:, 0]
    both = zip(real_rows(3, actions), believed(3, actions), strict=True)
    for (row, thought), (belief, reward, terminated, _) in both:
        assert np.array_equal(belief, thought)
        assert (row.reward.item(), row.terminated.item()) == (reward, terminated)


def test_a_believed_reality_shows_a_believers_thoughts():
    compare_belief_with_thoughts(100)


def test_believing_does_not_change_the_games():
    compare_belief_with_thoughts(400)


def test_believing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(believed(3, some_actions(30, 1)[:, 0]))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_trained_in_a_dream_fits_reality():
    dream = make_dream()
    env, real = DreamEnv(dream, "belief"), BeliefWrapper(ToyGame(), dream.model)
    assert env.observation_space == real.observation_space
    assert env.action_space == real.action_space
    assert Uniform(env.action_space).policy(torch.zeros(3, 0)).sample().shape == (3, 5)

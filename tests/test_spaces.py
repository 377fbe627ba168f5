"""Laws of spaces: every space of observations and of actions, through codecs and environments."""

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatten
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from worldmodel import (
    ELBO,
    ActionCodec,
    BeliefAgent,
    Dream,
    Encoder,
    GenCore,
    PerceptEncoder,
    action_codec,
    decoder_for,
    encoder_for,
    model_for,
    nested,
)
from worldmodel.agents import AllActions, Critic, Human, Uniform
from worldmodel.codecs import (
    CategoricalHead,
    FlatEncoder,
    ImageHead,
    NADEHead,
    OneHotEncoder,
    heads_of,
)
from worldmodel.envs import BeliefWrapper, DreamEnv, DreamVectorEnv, GymEnvironment
from worldmodel.envs.observations import as_arrays, as_tensors
from worldmodel.noise import OwnNoise

INF = float("inf")
IMAGE = spaces.Box(0, 255, (8, 9, 3), np.uint8)
OBSERVATIONS: dict[str, spaces.Space] = {
    "symbol": spaces.Discrete(3, start=2),
    "symbols": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-3, 5]]),
    "bits": spaces.MultiBinary((2, 2)),
    "truths": spaces.Box(0, 1, (2, 2), bool),
    "number": spaces.Box(-1, 1, ()),
    "vector": spaces.Box(-2, 3, (2, 2)),
    "endless": spaces.Box(-INF, INF, (3,), np.float64),
    "levels": spaces.Box(-3, 4, (3,), np.int64),
    "bytes": spaces.Box(0, 255, (2, 2, 1), np.uint8),
    "wide integers": spaces.Box(np.array([0, -5]), np.array([60000, 3]), dtype=np.int32),
    "unsigned": spaces.Box(0, 60000, (2,), np.uint16),
    "image": IMAGE,
    "dictionary": spaces.Dict(image=IMAGE, speed=spaces.Box(-1, 1, (2,)), gear=spaces.Discrete(4)),
    "tuple": spaces.Tuple([spaces.Discrete(2, start=-1), spaces.MultiBinary(3)]),
    "nested": spaces.Dict(
        {
            "type": spaces.Tuple(
                [spaces.Discrete(2), spaces.Dict({"a.b": spaces.Box(0, 1, (1,))})]
            ),
            "keys": spaces.MultiDiscrete([3, 2]),
        }
    ),
}
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3, start=-1),
    "multi-discrete": spaces.MultiDiscrete([2, 3]),
    "shaped multi-discrete": spaces.MultiDiscrete([[2, 3], [3, 2]], start=[[0, 1], [-3, 5]]),
    "multi-binary": spaces.MultiBinary(3),
    "shaped multi-binary": spaces.MultiBinary((2, 2)),
    "box": spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    "number": spaces.Box(-1, 3, ()),
    "double box": spaces.Box(-0.1, 0.3, (2, 2), np.float64),
    "integer box": spaces.Box(0, 7, (2,), np.uint8),
    "one-point box": spaces.Box(2.0, 2.0, (1,)),
}
every_observation = pytest.mark.parametrize("name", OBSERVATIONS)
every_action = pytest.mark.parametrize("name", ACTIONS)
# the checkers doubt every Box without bounds, and environments that are not in the registry
unspecified = pytest.mark.filterwarnings("ignore::UserWarning")


class Echo(gymnasium.Env):
    """Shows members of its space, wants members of its space, and ends after a while."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space, length: int = 3):
        self.observation_space = copy.deepcopy(observations)  # with a stream of its own
        self.action_space, self.length = actions, length
        self.shown: list[Any] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.clock = 0
        return self._show(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.clock += 1
        return self._show(), float(self.clock), self.clock >= self.length, False, {}

    def _show(self):
        self.shown.append(self.observation_space.sample())
        return self.shown[-1]


def members(space, n, seed=0):
    """n members of a space, in a list."""
    space.seed(seed)
    return [space.sample() for _ in range(n)]


def batch(values, dtype=torch.float64):
    """Members of a space as tensors [n, ...]."""
    return nested.stack([as_tensors(value, dtype) for value in values])


def kinds(base):
    """The classes under `base` that the library itself defines."""
    for kind in base.__subclasses__():
        yield from kinds(kind)
        if kind.__module__.startswith("worldmodel.codecs"):
            yield kind


def equal(one, other):
    """Whether two structures of arrays have the same leaves."""
    pairs = zip(nested.leaves(one), nested.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def dream(observations, actions, ends=-1.0, **options):
    """A small untrained model's dream."""
    with OwnNoise(0)():
        model = model_for(observations, actions, "vrnn", 8, **options)
        torch.nn.init.constant_(model.percepts.decoder.terminated.logits.bias, ends)
    return Dream(model.requires_grad_(False), 4, observations, actions)


def test_every_encoder_and_codec_is_in_the_lists():
    encoders = {type(part) for s in OBSERVATIONS.values() for part in encoder_for(s).modules()}
    encoders |= {type(encoder_for(OBSERVATIONS["vector"], "symlog"))}
    assert set(kinds(Encoder)) - encoders == {PerceptEncoder}  # which tests of percepts know
    assert set(kinds(ActionCodec)) == {type(action_codec(space)) for space in ACTIONS.values()}


# Observations.


def is_flat(space):
    """Whether Gymnasium's own flattening is ours: no images, and no integers that are scaled."""
    if isinstance(space, spaces.Box):
        return np.issubdtype(space.dtype, np.floating)
    parts = space.values() if isinstance(space, spaces.Dict) else space
    return not isinstance(space, spaces.Dict | spaces.Tuple) or all(map(is_flat, parts))


@pytest.mark.parametrize("name", [n for n, space in OBSERVATIONS.items() if is_flat(space)])
def test_encodings_are_gymnasiums_flattening(name):
    space = OBSERVATIONS[name]
    values = members(space, 9)
    expected = np.stack([flatten(space, value) for value in values])
    encoder = encoder_for(space).double()
    assert encoder.size == expected.shape[-1]
    assert torch.equal(encoder(batch(values)), torch.tensor(expected).double())


@every_observation
@pytest.mark.parametrize("leading", [(), (6,), (2, 1, 3)])
def test_encoders_take_any_leading_dimensions(name, leading):
    torch.manual_seed(0)
    space = OBSERVATIONS[name]
    encoder = encoder_for(space).double()
    values = batch(members(space, int(np.prod(leading))))
    shaped = nested.map(lambda x: x.reshape((*leading, *x.shape[1:])), values)
    found = encoder(shaped)
    assert found.shape == (*leading, encoder.size)
    torch.testing.assert_close(found.reshape(-1, encoder.size), encoder(values))


@pytest.mark.parametrize("name", ["levels", "bytes", "wide integers", "unsigned"])
def test_bounded_integers_are_encoded_within_minus_one_and_one(name):
    space = OBSERVATIONS[name]
    ends = batch([space.low, space.high])
    expected = torch.ones(2, int(np.prod(space.shape))).double()
    expected[0] = -1
    assert torch.equal(encoder_for(space).double()(ends), expected)


@every_observation
def test_decoders_draw_members_and_score_members(name):
    torch.manual_seed(0)
    space = OBSERVATIONS[name]
    distribution = decoder_for(space, 4)(torch.randn(50, 4))
    arrays = as_arrays(space, distribution.sample())
    assert all(space.contains(nested.index(arrays, i)) for i in range(50))
    values = batch(members(space, 50), torch.float32)
    log_prob = distribution.log_prob(values)
    assert log_prob.shape == (50,)
    assert log_prob.isfinite().all()
    shapes = [leaf.shape for leaf in nested.leaves(values)]
    assert [leaf.shape for leaf in nested.leaves(distribution.sample())] == shapes


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_part_may_be_of_size_zero():
    space = spaces.Dict(nothing=spaces.Box(-1, 1, (0,)), gear=spaces.Discrete(3))
    values = batch(members(space, 5))
    assert encoder_for(space)(values).shape == (5, 3)
    log_probs = decoder_for(space, 4)(torch.randn(5, 4)).log_probs(values)
    assert (log_probs["nothing"] == 0).all()


def test_what_is_shown_is_clipped_and_rounded():
    space = spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Box(0, 255, (2,), np.uint8)])
    values = torch.tensor([[-1.5, 0.25]]), torch.tensor([[-3.0, 254.6]])
    floats, integers = as_arrays(space, values)
    assert floats.tolist() == [[-1.0, 0.25]]
    assert (integers.tolist(), integers.dtype) == ([[0, 255]], np.uint8)


@every_observation
def test_rows_hold_what_an_environment_shows(name):
    envs = [Echo(OBSERVATIONS[name], spaces.Discrete(2)) for _ in range(2)]
    world = GymEnvironment(SyncVectorEnv([lambda env=env: env for env in envs]), seed=3)
    core = GenCore(world, Uniform(world.action_space))
    sequences, _, _ = core.generate(6, core.initial_state(2))
    for game, env in enumerate(envs):
        assert len(env.shown) == 6
        for t, shown in enumerate(env.shown):
            row = nested.index(sequences.rows.observation, (t, game))
            assert equal(row, as_tensors(shown, torch.float32))
    assert sequences.rows.first[:, 0].tolist() == [True, False, False, False, True, False]


@every_observation
def test_a_world_model_learns_and_dreams_every_observation(name):
    torch.manual_seed(0)
    space, actions = OBSERVATIONS[name], spaces.Discrete(2)
    world = GymEnvironment(SyncVectorEnv([lambda: Echo(space, actions, 9)] * 2), seed=0)
    core = GenCore(world, Uniform(actions))
    sequences, _, _ = core.generate(5, core.initial_state(2))
    model = model_for(space, actions, "vrnn", 8)
    percepts = nested.map(lambda leaf: leaf.flatten(0, 1), sequences.rows.percept)
    for module in (model.percepts.encoder, model.percepts.decoder):
        module.standardise(percepts)
    loss, _, _ = ELBO(model)([sequences], (), 0)
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    imagined = Dream(model, 3, space, actions)
    row, _ = imagined.step(torch.zeros(2, 2), imagined.initial_state(2))
    real = nested.index(sequences.rows, 0)
    assert nested.map(lambda x: x.shape, row) == nested.map(lambda x: x.shape, real)


@unspecified
@every_observation
def test_dreams_and_beliefs_of_every_observation_pass_the_checkers(name):
    space, actions = OBSERVATIONS[name], spaces.Discrete(2)
    imagined = dream(space, actions)
    check_env(DreamEnv(imagined), skip_render_check=True)
    check_env(DreamEnv(imagined, "belief"), skip_render_check=True)
    check_env(BeliefWrapper(Echo(space, actions), imagined.model), skip_render_check=True)
    if name not in ("number", "tuple", "nested"):  # which stable-baselines3 does not take
        check_env_sb3(DreamEnv(imagined))
    check_env_sb3(BeliefWrapper(Echo(space, actions), imagined.model))


@every_observation
def test_same_step_resets_are_formatted_as_gymnasium_does(name):
    space, actions = OBSERVATIONS[name], spaces.Discrete(2)
    mode = AutoresetMode.SAME_STEP
    real = SyncVectorEnv([lambda: Echo(space, actions)] * 2, autoreset_mode=mode)
    dreamt = DreamVectorEnv(dream(space, actions, ends=50.0), 2, autoreset_mode=mode)
    found = []
    for env in (real, dreamt):
        env.reset(seed=0)
        for _ in range(3):
            observation, _, terminated, _, info = env.step(np.zeros(2, np.int64))
        assert terminated.all()
        assert env.observation_space.contains(observation)
        assert info["_final_obs"].all()
        final = info["final_obs"]
        assert (final.dtype, final.shape) == (object, (2,))
        assert all(space.contains(one) for one in final)
        assert not equal(final[0], nested.index(observation, 0)) or name in ("bits", "symbol")
        found.append([(type(x), x.shape, x.dtype) for x in nested.leaves((observation, final[0]))])
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["dictionary", "nested"])
def test_a_reset_mask_leaves_the_other_nested_observations(name):
    env = DreamVectorEnv(dream(OBSERVATIONS[name], spaces.Discrete(2), ends=-50.0), 8)
    before, _ = env.reset(seed=0)
    mask = np.arange(8) < 3
    after, _ = env.reset(options={"reset_mask": mask})
    assert env.observation_space.contains(after)
    assert equal(nested.index(after, ~mask), nested.index(before, ~mask))
    assert not equal(nested.index(after, mask), nested.index(before, mask))


# Keys.


def test_heads_and_encoders_are_chosen_by_key():
    camera = spaces.Dict(left=IMAGE, bits=spaces.MultiBinary(4))
    space = spaces.Dict(camera=camera, gear=spaces.Discrete(3))
    own = CategoricalHead(6, 3)
    heads = {"camera.bits": ("nade", {"hidden": 5}), "gear": own, "camera.left": "image-mse"}
    decoder = decoder_for(space, 6, heads)
    camera = decoder.parts["camera"].parts
    assert isinstance(camera["bits"], NADEHead)
    assert camera["bits"].from_visible.shape == (4, 5)
    assert isinstance(camera["left"], ImageHead)
    assert camera["left"].likelihood == "mse"
    assert decoder.parts["gear"] is own
    seeing = OneHotEncoder(3)
    assert encoder_for(space, {"gear": seeing}).parts["gear"] is seeing
    assert decoder_for(space["gear"], 6, own) is own
    assert isinstance(decoder_for(spaces.MultiBinary(4), 6, "nade"), NADEHead)
    assert decoder(torch.zeros(2, 6)).sample()["camera"].keys() == {"left", "bits"}
    model = model_for(space, spaces.Discrete(2), "rnn", 6, head=heads, encoder={"gear": seeing})
    assert model.percepts.decoder.observation.parts["gear"] is own
    assert model.percepts.encoder.observation.parts["gear"] is seeing
    assert model.percepts.decoder.encoder.parts["gear"] is not seeing  # what reward and end see by


def test_heads_follow_from_what_was_observed():
    """Few values have masses, also where their space calls them bytes; amounts have none."""
    random, box = np.random.default_rng(0), spaces.Box
    bytes_, numbers = box(0, 255, (2, 3), np.uint8), box(-np.inf, np.inf, (2,), np.float32)
    space = spaces.Dict(
        cells=bytes_,
        memory=bytes_,
        speed=numbers,
        clipped=numbers,
        eye=box(0, 255, (9, 9, 3), np.uint8),
    )
    values = {
        "cells": random.choice([0, 1, 8, 10], (500, 2, 3)).astype(np.uint8),
        "memory": random.integers(0, 256, (500, 2, 3)).astype(np.uint8),
        "speed": random.normal(size=(500, 2)),
        "clipped": random.normal(size=(500, 2)).clip(-np.inf, 1),
        "eye": np.zeros((500, 9, 9, 3), np.uint8),
    }
    found = heads_of(space, values)
    assert {key: head if head == "student-t" else head[0] for key, head in found.items()} == {
        "cells": "mixed",
        "speed": "student-t",
        "clipped": "mixed",
    }
    decoder = decoder_for(space, 4, found)
    decoder.meet(values)
    drawn = decoder(torch.randn(300, 4)).sample()["cells"]
    assert torch.isin(drawn, torch.tensor([0, 1, 8, 10])).float().mean() > 0.99


def test_a_grid_of_many_numbers_has_room_for_what_it_needs():
    """A probability for each of 32 atoms of each cell would be thousands a row."""
    random = np.random.default_rng(0)
    space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    values = random.choice([0, 1, 8], (500, 7, 7, 3)).astype(np.uint8)
    decoder = decoder_for(space, 4, heads_of(space, values))
    assert decoder.atoms.shape == (7, 7, 3, 8)  # those met, and as many again
    decoder.meet(np.full((1, 7, 7, 3), 5, np.uint8))  # a door, seen late
    assert not decoder.others.any()
    assert torch.isin(torch.tensor([0.0, 1.0, 5.0, 8.0]), decoder.atoms[0, 0, 0]).all()


def test_keys_that_do_not_exist_or_fit_are_named():
    space = OBSERVATIONS["nested"]
    with pytest.raises(ValueError, match=r"no observation key 'kind'; there are 'keys', 'type', "):
        decoder_for(space, 4, {"kind": "normal"})
    with pytest.raises(ValueError, match=r"observation key 'type\.0': the head 'nade' expects"):
        decoder_for(space, 4, {"type.0": "nade"})


class Mission(spaces.Space):
    """A space of one's own, of values that are no arrays."""

    def __repr__(self):
        return "Mission()"


STRANGE = {
    "Mission": Mission(),
    "Text": spaces.Text(4),
    "Graph": spaces.Graph(spaces.Discrete(2), None),
    "Sequence": spaces.Sequence(spaces.Discrete(2)),
    "OneOf": spaces.OneOf([spaces.Discrete(2), spaces.Box(-1, 1, (2,))]),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_spaces_are_refused_by_name_and_key(name):
    space = spaces.Dict(chat=spaces.Tuple([spaces.Discrete(2), STRANGE[name]]))
    says = rf"^observation key 'chat.1': .*{name}.*wrap the environment"
    for make in (encoder_for, lambda s: decoder_for(s, 4), lambda s: model_for(s, ACTIONS["box"])):
        with pytest.raises(ValueError, match=says):
            make(space)
    with pytest.raises(ValueError, match=says):
        GymEnvironment(SyncVectorEnv([lambda: Echo(space, ACTIONS["box"])]))
    with pytest.raises(ValueError, match=f"^no action codec for the space {name}.*wrap the env"):
        action_codec(STRANGE[name])


@pytest.mark.parametrize("shape", [(84, 84), (4, 84, 84)])
def test_images_of_another_shape_are_not_taken_for_vectors(shape):
    space = spaces.Dict(screen=spaces.Box(0, 255, shape, np.uint8))
    for make in (encoder_for, lambda s: decoder_for(s, 4)):
        with pytest.raises(
            ValueError, match=r"key 'screen': .*looks like an image: .*\[H, W, C\]"
        ):
            make(space)
    own = encoder_for(space, {"screen": FlatEncoder(shape, 127.5, 127.5)})
    assert own.size == np.prod(shape)


# Actions.


@every_action
def test_actions_come_back_from_their_codes(name):
    space, codec = ACTIONS[name], action_codec(ACTIONS[name])
    actions = batch(members(space, 12))
    codes = codec.encode(actions)
    assert codes.shape == (12, codec.size)
    assert ((codes >= -1) & (codes <= 1)).all()
    back = codec.decode(codes)
    torch.testing.assert_close(back.double(), actions.double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(codec.encode(back), codes)
    shaped = actions.reshape(3, 4, *space.shape)
    assert torch.equal(codec.encode(shaped), codes.reshape(3, 4, -1))
    assert codec.decode(codes.reshape(3, 4, -1)).shape == shaped.shape
    assert codec.decode(codec.encode(actions[0])).shape == space.shape


@every_action
def test_choices_are_all_actions_or_none(name):
    space, codec = ACTIONS[name], action_codec(ACTIONS[name])
    codes = codec.choices
    assert codes.shape[1:] == (codec.size,)
    if isinstance(space, spaces.Box):
        assert len(codes) == 0
        return
    sizes = np.asarray(getattr(space, "nvec", getattr(space, "n", None)))
    number = 2 ** int(np.prod(space.shape)) if name.endswith("binary") else int(np.prod(sizes))
    assert len(codes.unique(dim=0)) == len(codes) == number
    decoded = codec.decode(codes).numpy().astype(space.dtype)
    assert all(space.contains(action) for action in decoded)
    log_probs = codec.head(4)(torch.randn(4)).log_prob(codes)
    torch.testing.assert_close(log_probs.logsumexp(0), torch.tensor(0.0), rtol=0, atol=1e-5)


def test_many_choices_are_not_listed():
    for space, number in [
        (spaces.MultiDiscrete([4, 4, 4]), 64),
        (spaces.MultiDiscrete([5, 13]), 0),
        (spaces.MultiBinary(6), 64),
        (spaces.MultiBinary(7), 0),
        (spaces.MultiDiscrete([1000] * 200), 0),
        (spaces.Discrete(100), 100),
    ]:
        assert len(action_codec(space).choices) == number


@every_action
def test_a_uniform_agent_draws_every_action_alike(name):
    """The mean of every number is that of the space's own draws, within 4 standard errors."""
    torch.manual_seed(0)
    space, draws = ACTIONS[name], 4000
    codes = Uniform(space).policy(torch.zeros(draws, 0)).sample()
    codec = action_codec(space)
    assert codes.shape == (draws, codec.size)
    actions = codec.decode(codes).numpy().astype(space.dtype)
    assert all(space.contains(action) for action in actions)
    expected = codec.encode(batch(members(space, draws))).double()
    found = codec.encode(torch.as_tensor(actions)).double()
    for one, other in ((found, expected), (found**2, expected**2)):
        error = (one.var(0) + other.var(0)).sqrt() / draws**0.5
        assert ((one.mean(0) - other.mean(0)).abs() <= 4 * error + 1e-6).all()


@every_action
@pytest.mark.parametrize("leading", [(), (5,), (2, 3)])
def test_policies_give_codes_that_are_actions(name, leading):
    torch.manual_seed(0)
    space, codec = ACTIONS[name], action_codec(ACTIONS[name])
    features = torch.randn(*leading, 4).requires_grad_()
    head = codec.head(4)
    policy = head(features)
    for code in (policy.sample(), policy.mode, head.placeholder.expand(*leading, codec.size)):
        assert code.shape == (*leading, codec.size)
        assert policy.log_prob(code).shape == policy.entropy().shape == leading
        assert policy.log_prob(code).isfinite().all()
        actions = codec.decode(code).detach().numpy().astype(space.dtype)
        actions = actions.reshape(-1, *space.shape)
        assert all(space.contains(action if space.shape else action[()]) for action in actions)
    drawn = policy.rsample()
    weights = torch.randn(codec.size)
    (gradient,) = torch.autograd.grad((drawn * weights).sum(), features)
    assert (gradient != 0).any()


def test_straight_through_codes_are_codes_with_the_gradient_of_their_probabilities():
    torch.manual_seed(0)
    weights = torch.randn(5).double()
    for space in (spaces.Discrete(5), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(5)):
        codec, head = action_codec(space), action_codec(space).head(4).double()
        features = torch.randn(30, 4).double().requires_grad_()
        drawn = head(features).rsample()
        assert torch.equal(codec.encode(codec.decode(drawn)).double(), drawn)
        found = torch.autograd.grad(drawn @ weights, features, torch.ones(30).double())[0]
        if isinstance(space, spaces.MultiBinary):
            probs = head.logits(features).sigmoid()
        else:
            split = head.logits(features).split(head.layout.rows.lt(5).sum(-1).tolist(), -1)
            probs = torch.cat([part.softmax(-1) for part in split], -1)
        expected = torch.autograd.grad(probs @ weights, features, torch.ones(30).double())[0]
        torch.testing.assert_close(found, expected)


@unspecified
@every_action
def test_every_action_is_acted_dreamt_and_checked(name):
    space, observations = ACTIONS[name], spaces.Discrete(3)
    imagined = dream(observations, space)
    check_env(DreamEnv(imagined), skip_render_check=True)
    check_env(BeliefWrapper(Echo(observations, space), imagined.model), skip_render_check=True)
    if "shaped" not in name and "one-point" not in name:  # unknown to stable-baselines3
        check_env_sb3(DreamEnv(imagined))
    world = GymEnvironment(SyncVectorEnv([lambda: Echo(observations, space)] * 2), seed=0)
    for agent in (Uniform(space), Human(Uniform(space), space)):
        core = GenCore(world, agent)
        sequences, _, _ = core.generate(6, core.initial_state(2))  # Echo asserts its actions
        assert sequences.rows.action.shape == (6, 2, action_codec(space).size)
        assert (sequences.rows.action[0] == 0).all()


def test_actions_without_bounds_are_refused_with_advice_that_helps():
    space = spaces.Box(-INF, INF, (2,))
    with pytest.raises(ValueError, match=r"have no bounds: wrap .*TransformAction"):
        action_codec(space)
    bounded = spaces.Box(-3, 3, (2,))
    env = gymnasium.wrappers.TransformAction(
        Echo(spaces.Discrete(2), space), lambda action: action, bounded
    )
    assert action_codec(env.action_space).size == 2


@pytest.mark.parametrize("name", ["multi-discrete", "multi-binary"])
def test_of_every_joint_action_tried_the_one_taken_goes_on(name):
    torch.manual_seed(0)
    space = ACTIONS[name]
    world = dream(spaces.Discrete(3), space)
    agent = BeliefAgent(world.model, action_codec(space).head(world.model.belief_size))
    critic = Critic(world.model.belief_size, 8)
    core = GenCore(world, agent)
    objective = AllActions(core, 64, 6, critic)
    rollout, _ = objective.roll(objective.start())
    choices = core.actions.choices
    assert rollout.tried.shape == (len(rollout.action), len(choices))
    taken = (rollout.action[:, None] == choices).all(-1)
    assert (taken.sum(-1) == 1).all()
    assert len(rollout.action.unique(dim=0)) == len(choices)
    torch.testing.assert_close(rollout.tried[taken], rollout.returns)
    loss, _, _ = objective(rollout, (), 0)
    assert loss.isfinite()


def test_an_image_a_vector_and_a_symbol_train_end_to_end():
    """Reality, learning, dreaming and believing, with MultiDiscrete actions."""
    torch.manual_seed(0)
    space, actions = OBSERVATIONS["dictionary"], spaces.MultiDiscrete([3, 2])
    world = GymEnvironment(SyncVectorEnv([lambda: Echo(space, actions, 20)] * 3), seed=0)
    core = GenCore(world, Uniform(actions))
    sequences, _, _ = core.generate(8, core.initial_state(3))
    model = model_for(space, actions, "rssm", 16, reward_support=range(1, 21))
    objective = ELBO(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for step in range(12):
        loss, _, _ = objective([sequences], (), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    games = DreamVectorEnv(Dream(model, 5, space, actions), 4)
    games.reset(seed=0)
    observation, *_ = games.step(games.action_space.sample())
    assert games.observation_space.contains(observation)
    wrapped = BeliefWrapper(Echo(space, actions), model)
    belief, _ = wrapped.reset(seed=0)
    assert wrapped.observation_space.contains(belief)

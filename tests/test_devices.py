"""Everything runs on another device than the processor's: on one that stands in for a GPU (see
`strict_device`), and in short on CUDA, where there is one. Its numbers are the processor's.
"""

import copy
import io
import json
import math
import shutil
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import strict_device
import torch
from command_line import assert_refused, worldmodel
from cores import CORES, make_model, padded, random_rows
from gymnasium import spaces
from kinds import MADE, config_for, write_files
from runs import TINY, assert_same_weights, at, outcome, train

from worldmodel import (
    ELBO,
    FIVO,
    IWAE,
    Episodes,
    Greedy,
    Learner,
    MemoryStore,
    Replay,
    Row,
    SequenceModel,
    nested,
)
from worldmodel.agents import AgentConfig, WorldModelAgent
from worldmodel.agents.components import Components, Statistics, optimizer_for
from worldmodel.agents.image_encoder import ImageEncoderTraining
from worldmodel.checkpoint import _on_host
from worldmodel.codecs.registry import HEADS, head_for
from worldmodel.devices import find_device
from worldmodel.envs import CodeView, collect
from worldmodel.experiments import load
from worldmodel.experiments.measure.calibration import calibration
from worldmodel.experiments.recordings.modality import modality_class
from worldmodel.experiments.rl.config import (
    EnvironmentConfig,
    EvaluationConfig,
    RLConfig,
    quick,
)
from worldmodel.experiments.rl.evaluation import played_for_it
from worldmodel.experiments.rl.run import Run, spaces_of, world_of
from worldmodel.experiments.runs.registry import config_of, new_run
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play import new_player
from worldmodel.experiments.show.video import Dreams, Plan, start_of
from worldmodel.likelihoods import BOUNDS, kl_closed_form
from worldmodel.noise import OwnNoise
from worldmodel.options import DeviceConfig, with_options
from worldmodel.run_folder import RunFolder

NUMBERS, PAIR = spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([2, 3])
DEVICE = strict_device.NAME
ONE_READING = {"tolist": 1}
KINDS = (
    *("rnn", "rnn lstm", "srnn smoothing res_q", "independent smoothing", "vrnn skip"),
    *("rssm gaussian", "rssm categorical", "vae"),
)
assert {name.split()[0] for name in KINDS} == {name.split()[0] for name in CORES}


@pytest.fixture(scope="module", autouse=True)
def device():
    with strict_device.plugged_in() as device:
        yield device


@pytest.fixture
def own_noise(monkeypatch):
    """The device has a generator of its own, as GPUs have."""
    monkeypatch.setattr(strict_device.noise, "own", torch.Generator().manual_seed(1))


def learned(model, objective, batch, device):
    """What a few updates give on a device: the figures of the last, and the weights."""
    model = copy.deepcopy(model).to(device)
    learner = Learner(model, objective(model), 0.01, 0.1, ema_decay=0.9, adaptive_clip=0.3)
    torch.manual_seed(0)
    for _ in range(2):
        with strict_device.reads() as reads:
            figures = learner.update(batch)
        assert device == "cpu" or reads == ONE_READING
    return figures, nested.to(dict(learner.averaged.state_dict()), "cpu")


@pytest.mark.parametrize("name", KINDS)
def test_an_update_is_the_processors_and_reads_its_figures_at_once(name):
    batch = [padded(random_rows(4, 3), [4, 2, 3])]
    model = make_model(name)
    objectives = [lambda model: ELBO(model, kl_balance=0.8, free_nats=0.1)]
    objectives += [lambda model: IWAE(model, 2)] if name == "vae" else []
    for objective in objectives:
        found, expected = (learned(model, objective, batch, place) for place in (DEVICE, "cpu"))
        assert found[0] == pytest.approx(expected[0], abs=1e-9)
        torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-9)


def test_a_tensor_of_the_processor_in_an_update_is_noticed():
    def forgetful(core, inference):
        return kl_closed_form(core, inference) + torch.zeros(3)

    batch = [padded(random_rows(4, 3), [4, 2, 3])]
    with pytest.raises(strict_device.MixedError, match=r"tensor of the processor.*\[3\]"):
        learned(make_model("vrnn"), lambda model: ELBO(model, kl=forgetful), batch, DEVICE)


def test_a_reading_within_an_update_is_noticed():
    def curious(core, inference):
        kl = kl_closed_form(core, inference)
        return kl if kl.sum() > 0 else -kl

    batch = [padded(random_rows(4, 3), [4, 2, 3])]
    with pytest.raises(AssertionError, match="_local_scalar_dense"):
        learned(make_model("vrnn"), lambda model: ELBO(model, kl=curious), batch, DEVICE)


@pytest.mark.parametrize("bound", BOUNDS)
def test_likelihoods_are_the_processors(bound):
    model, sequences = make_model("vrnn"), padded(random_rows(4, 3), [4, 2, 3])
    found = []
    for place in ("cpu", DEVICE):
        torch.manual_seed(0)
        by_key = BOUNDS[bound](copy.deepcopy(model).to(place), sequences, 3)
        found.append(nested.to(by_key, "cpu"))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)
    FIVO(copy.deepcopy(model).to(DEVICE), 2)([sequences], (), 0)[0].backward()


SPACES = [
    spaces.Discrete(3, start=1),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Box(-1, 2, (3,)),
    spaces.Box(0, 255, (8, 8, 3), np.uint8),
    spaces.MultiBinary([8, 8, 1]),
    spaces.Dict(offset=spaces.Box(-1, 1, (2,)), pen=spaces.Discrete(3)),
]


@pytest.mark.parametrize("name", HEADS)
def test_every_head_draws_and_scores_on_its_device(name):
    fitting = [space for space in SPACES if HEADS[name].fit.holds(space)]
    assert fitting
    for space in fitting:
        options = {"levels": 4} if name == "discretised-logistic" else {}
        if options and space.dtype == np.uint8:
            options = {}
        torch.manual_seed(0)
        head = head_for(name, space, 4, **options).to(DEVICE)
        features = torch.randn(5, 4, requires_grad=True, device=DEVICE)
        distribution = head(features)
        values = distribution.sample()
        scores = distribution.log_prob(values)
        scores.sum().backward()
        assert {leaf.device.type for leaf in [*nested.leaves(values), scores]} == {DEVICE}
        observed = nested.map(lambda leaf: leaf.cpu().numpy(), values)
        head.standardise(observed)
        head.meet(observed)
        assert isinstance(nested.leaves(head.placeholder)[0], torch.Tensor)


def parts_of(env, device, **options):
    """The world of a control run, and untrained components of its agent."""
    config = quick(RLConfig(EnvironmentConfig(env, time_limit=12)))
    config = replace(config, agent=with_options(config.agent, options))
    shown = spaces_of(config.environment)
    with OwnNoise(0)():
        components = Components(config.agent, Statistics(None, 1.0), *shown, torch.device(device))
    return world_of(config, *shown), components


WAYS = {
    "all actions": ("CartPole-v1", {"method": "all-actions", "core": "srnn"}),
    "pathwise": ("Pendulum-v1", {"method": "pathwise", "core": "vrnn"}),
    "from all rows": (
        "CartPole-v1",
        {"dream_starts": "rows", "recorded_values": 0.3, "slow_critic": 0.98, "critic": "two-hot"},
    ),
    "planning": ("CartPole-v1", {"agent": "planning", "plans": 4, "plan_iterations": 1}),
    "of others": (
        "CartPole-v1",
        {"agent": "sb3:RecurrentPPO", "agent_arguments": '{"n_epochs": 1}'},
    ),
}


@pytest.mark.filterwarnings("ignore:You are trying to run")
@pytest.mark.parametrize("way", WAYS)
def test_policies_learn_in_dreams_there_and_play_here(way):
    env, options = WAYS[way]
    world, components = parts_of(env, DEVICE, **options)
    replay, environment = Replay(components.actions, 0), world.environment(2, 0)
    with OwnNoise(1)():
        for episodes in collect(environment, components.player, 24):
            replay.add(episodes)
        optimizer = optimizer_for(components, replay, [(0, 2)])
        optimizer.begin()
        reads = read_by(optimizer.trainer) if hasattr(optimizer, "trainer") else []
        assert all(map(math.isfinite, optimizer.update().values()))
        saved = optimizer.state_dict()
        optimizer.load_state_dict(on_processor(saved))
        assert all(map(math.isfinite, optimizer.update().values()))
    environment.close()
    assert reads == [ONE_READING] * len(reads)
    assert (world.play(Greedy(components.player), 2, 0).lengths > 0).all()


def read_by(trainer):
    """What each update of a trainer reads from the device, from now on."""
    found, update = [], trainer.update

    def counted(batch):
        with strict_device.reads() as reads:
            figures = update(batch)
        found.append(dict(reads))
        return figures

    trainer.update = counted
    return found


def on_processor(state):
    """A state as a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(_on_host(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_images_are_encoded_and_drawn():
    image = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    config = quick(RLConfig()).agent
    space = spaces.Dict(camera=image, arm=NUMBERS)
    for shown, others in ((image, {}), (image, {"vae": "joint"}), (space, {})):
        agent = with_options(config, others)
        parts = Components(agent, Statistics(None, 1.0), shown, PAIR, torch.device(DEVICE))
        row = nested.map(torch.from_numpy, {"o": shown.sample()})["o"]
        observation = nested.map(lambda leaf: leaf[None], row)
        nothing = torch.zeros(1)
        first = Row(nothing == 0, torch.zeros(1, 5), observation, nothing, nothing == 1)
        thought, _ = parts.player.step(first, parts.player.initial_state(1))
        assert thought.device.type == DEVICE
        if parts.image_encoder is not None:
            learning = ImageEncoderTraining(parts.image_encoder, images_of(shown), agent.images, 0)
            assert math.isfinite(learning.update()["nats"])
            learning.finish()
            assert CodeView(parts.image_encoder).draw(torch.zeros(1, 4), "rgb_array")


def images_of(space):
    """An episode of images."""
    store = MemoryStore()
    shown = np.stack([space.sample() for _ in range(9)])
    nothing = {"reward": np.zeros(9, np.float32), "terminated": np.zeros(9, bool)}
    action = np.zeros((9, 2), np.int64)
    store.add(Episodes({"action": action, "observation": shown, **nothing}, np.array([9])))
    return store


CONFIG = RLConfig(
    EnvironmentConfig("CartPole-v1", time_limit=20),
    steps=50,
    agent=with_options(AgentConfig(seed=3), TINY | {"core": "rssm", "weight_decay": 0.1}),
    evaluation=EvaluationConfig(episodes=2, held_out=2, bound_particles=2),
    curve_episodes=0,
    computing=DeviceConfig(DEVICE),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that was trained on the device, whose generator is its own."""
    folder = new_run(tmp_path_factory.mktemp("runs") / "control", CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strict_device.noise, "own", torch.Generator().manual_seed(1))
        job = train(folder)
    assert job.is_done
    assert job.components.model.device.type == DEVICE
    return folder


def test_a_resumed_run_is_the_same_to_the_last_bit_there_too(folder, own_noise, tmp_path):
    resumed = new_run(tmp_path / "run", CONFIG)
    for kind, done in (("learn", 2), ("improve", 2)):
        assert not train(resumed, at(kind, 0, done)).is_done
        strict_device.noise.own.manual_seed(done)  # another process would not have this state
    assert train(resumed).is_done
    (metrics, weights), (expected, expected_weights) = outcome(resumed), outcome(folder)
    assert metrics == expected
    assert_same_weights(weights, expected_weights)


def test_a_run_opens_where_its_device_is_not(folder, tmp_path, monkeypatch):
    copied = shutil.copytree(folder.path, tmp_path / "run")
    agent = WorldModelAgent.load(copied)
    assert agent.device.type == DEVICE
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    monkeypatch.setattr(strict_device.Backend, "is_initialized", lambda _: False)
    with pytest.warns(UserWarning, match=f"no {DEVICE} here.*the processor computes"):
        here = WorldModelAgent.load(copied)
    assert here.device.type == "cpu"
    result = worldmodel("resume", copied, "--steps", 10)
    assert result.returncode == 0
    assert f"no {DEVICE} here" in result.stderr
    assert_refused(worldmodel("evaluate", copied, "--device", DEVICE), f"no {DEVICE} here")
    assert config_of(RunFolder.open(copied)).computing.device == DEVICE


def test_a_run_is_evaluated_and_calibrated_on_the_device(folder):
    result = worldmodel("evaluate", folder.path, "--device", DEVICE, "--json")
    assert result.returncode == 0
    assert math.isfinite(json.loads(result.stdout)["nats_per_step"])
    run = load(folder.path, device=DEVICE)
    episodes = played_for_it(run, CONFIG.evaluation, lambda *_: None)
    found = calibration(run.model, episodes.sequences(run.components.actions), 4)
    assert math.isfinite(found.end.error)


PLAN = Plan("grid", 2, 4.0, "agent", 0, 1.0, 1, 3, None)


@pytest.mark.parametrize("env", ["worldmodel/ToyGame-v0", "CartPole-v1"])
def test_a_player_shows_both_worlds(env):
    world, components = parts_of(env, DEVICE)
    config = replace(quick(RLConfig(EnvironmentConfig(env))), agent=components.config)
    player = new_player(Run(config, world, components), PlayConfig(temperature=0.9), 0)
    for key in ("0", "1", "r", "f", "0", "b"):
        player.press(key)
    assert player.frame().ndim == 3
    dreams = Dreams(player, start_of(player, PLAN.observed), PLAN)
    dreams.step()
    assert dreams.frame().ndim == 3
    player.close()


@pytest.mark.parametrize("kind", ["text", "midi", "strokes"])
def test_recordings_are_learned_and_generated_there(kind, tmp_path, monkeypatch):
    made = MADE[kind]
    monkeypatch.setattr(modality_class(made.config), "shown", 3)
    learning = {"updates": 2, "validations": 1, "window": 4, "validation_rows": 30}
    core = {"core": "vrnn"} if kind == "text" else {}
    config = config_for(made, write_files(made, tmp_path / "files", 2), model=core, **learning)
    folder = new_run(tmp_path / "run", replace(config, computing=DeviceConfig(DEVICE)))
    assert train(folder).is_done
    result = worldmodel("generate", folder.path, "--length", 3, "--samples", 1)
    assert result.returncode == 0, result.stderr
    model = load(folder.path, device="cpu").model
    assert model.device.type == "cpu"


def test_images_are_learned_there(tmp_path):
    images = np.random.default_rng(0).integers(0, 99, (40, 8, 8), np.uint8)
    np.save(tmp_path / "images.npy", images)
    data = ["--images", tmp_path / "images.npy", "--batch-size", 4]
    run = tmp_path / "run"
    result = worldmodel("train", "vae", *data, "--quick", "--device", DEVICE, "--out", run)
    assert result.returncode == 0, result.stderr
    assert load(run).model.device.type == DEVICE
    assert load(run, device="cpu").model.device.type == "cpu"


def test_a_sequence_model_remembers_its_device_and_can_do_without(tmp_path):
    model = SequenceModel(device=DEVICE, hidden_size=4, decoder_hidden=4, batch_size=2, window=4)
    model.fit(["ab" * 9], updates=2)
    model.save(tmp_path / "model")
    assert len(model.sample(5)) == 5
    assert SequenceModel.load(tmp_path / "model").device.type == DEVICE
    here = SequenceModel.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(here.log_prob("abab"), model.log_prob("abab"), rtol=1e-5)


def test_devices_are_found_by_name():
    assert find_device(None) == find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type == find_device(f"{DEVICE}:0").type == DEVICE
    for name in ("cuda", f"{DEVICE}:1"):
        said = []
        assert find_device(name, said.append).type == "cpu"
        assert len(said) == 1
        with pytest.raises(ValueError, match="take auto, or cpu"):
            find_device(name)
    with pytest.raises(ValueError, match="--device is auto"):
        DeviceConfig("a graphics card")


def test_runs_from_before_there_were_devices_open(folder, tmp_path):
    copied = shutil.copytree(folder.path, tmp_path / "run")
    run = RunFolder.open(copied)
    run.described({k: v for k, v in run.description.config.items() if k != "computing"})
    assert load(copied).model.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", KINDS)
def test_cuda_learns_as_the_processor_does(name):
    batch = [padded(random_rows(4, 3), [4, 2, 3])]
    ones = mock.patch("torch.randn_like", torch.ones_like)
    with ones:
        found = [learned(make_model(name), ELBO, batch, place) for place in ("cuda", "cpu")]
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)

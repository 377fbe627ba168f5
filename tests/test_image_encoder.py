"""Laws of worlds of images: codes are those of what was recorded, an image encoder stays as it has
learned to be, and what a policy reads in a dream is what it reads in reality."""

import games  # noqa: F401 (registers environments)
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import assert_same, at, train

from worldmodel import (
    BeliefAgent,
    Dream,
    Episodes,
    GenCore,
    MemoryStore,
    Replay,
    action_codec,
    as_recordings,
    autoencoder_for,
    decode_images,
    encode_images,
    experiments,
    model_for,
    prune_inactive,
)
from worldmodel.agents import (
    AgentConfig,
    AgentTraining,
    EncodedAgent,
    Imagination,
    Policy,
    Uniform,
)
from worldmodel.agents.config import ImageConfig
from worldmodel.agents.image_encoder import image_encoder_for
from worldmodel.agents.world import World
from worldmodel.envs import (
    BeliefWrapper,
    CodeView,
    DreamEnv,
    EnvironmentSource,
    GymEnvironment,
    ImageToCode,
    make_vector_env,
)
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig, quick
from worldmodel.experiments.runs.registry import new_run
from worldmodel.noise import OwnNoise
from worldmodel.options import with_options
from worldmodel.run_folder import RunFolder

SHAPE = (16, 16, 1)
PIXELS = {"pixels": 16, "grayscale": True}
COUNTING = EnvironmentSource("Counting-v0", **PIXELS)


def config_of(**images):
    agent = with_options(AgentConfig(seed=3), {"vae_growth": 1.3} | images)
    return quick(RLConfig(EnvironmentConfig("Counting-v0", **PIXELS), agent=agent))


def encoder_of(shape=SHAPE, latent=3):
    with OwnNoise(0)():
        return autoencoder_for(shape, latent=latent, hidden=8, width=2).requires_grad_(False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run that reads codes, and learns to encode twice."""
    folder = new_run(tmp_path_factory.mktemp("run") / "whole", config_of())
    return folder, train(folder)


def encodings(space, *steps, **images):
    """The rounds in which a training of so many steps learns to encode."""
    world = World(space, spaces.Discrete(4))
    job = AgentTraining(config_of(**images).agent, world, MemoryStore())
    for number in steps:
        job.extend(number)
    return [stage.round for stage in job.stages if stage.kind == "encode"]


def test_it_learns_to_encode_as_soon_as_there_is_so_much_more(run):
    image = COUNTING.one().observation_space  # 50 steps, then 70, then 90
    assert encodings(image, 90) == encodings(image, 70, 20) == [0, 1]
    assert encodings(image, 90, vae_growth=1.8) == [0, 2]
    assert encodings(image, 90, 20, vae_growth=2.1) == [0, 3]
    assert encodings(image, 90, vae="joint") == []
    assert encodings(spaces.Discrete(3), 90) == []
    encoded = [line["round"] for line in run[0].metrics() if line["stage"] == "encode"]
    assert encoded == [0] * 4 + [1] * 4


def test_the_model_is_shown_the_codes_of_what_was_recorded(run):
    _, job = run
    everything = np.arange(len(job.store))
    recorded = job.store.select(everything).columns
    shown = job.replay.episodes.select(everything).columns
    assert recorded["observation"].shape[1:] == SHAPE
    codes = encode_images(job.components.image_encoder, torch.from_numpy(recorded["observation"]))
    np.testing.assert_allclose(shown["observation"], codes.numpy(), rtol=1e-5, atol=1e-6)
    for key in set(Episodes.KEYS) - {"observation"}:
        np.testing.assert_array_equal(shown[key], recorded[key])


def test_an_image_encoder_changes_only_while_it_learns(tmp_path):
    folder = new_run(tmp_path / "run", config_of(vae_growth=9.0))
    found = {}

    def note(job):
        stage = job.stages[job.stage]
        if job.components is not None:
            weights = job.components.image_encoder.state_dict()
            weights = {key: weight.clone() for key, weight in weights.items()}
            found[(stage.round, stage.kind, job.done)] = weights
        return False

    job = train(folder, note)
    encoder = job.components.image_encoder
    begun, learned = found[(0, "encode", 1)], found[(0, "learn", 1)]
    assert any(not torch.equal(begun[key], learned[key]) for key in begun)
    for key, weight in encoder.state_dict().items():
        assert torch.equal(weight, learned[key])
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    ("kind", "number", "done"),
    [("encode", 0, 2), ("learn", 0, 1), ("collect", 1, 1), ("encode", 1, 3), ("improve", 1, 1)],
)
def test_a_resumed_run_equals_one_never_stopped(tmp_path, run, kind, number, done):
    folder = new_run(tmp_path / "run", config_of())
    assert not train(folder, at(kind, number, done)).is_done
    train(folder)
    assert_same(folder, run[0])


def test_more_steps_are_encoded_as_well(tmp_path, run):
    """By an encoder that learns again, once they are so many more."""
    folders = [new_run(tmp_path / name, config_of()) for name in "ab"]
    for folder in folders:
        train(folder)
        assert_same(folder, run[0])
    whole, cut = folders
    train(whole, steps=40)
    train(cut, at("encode", 3, 2), steps=40)
    train(cut)
    assert_same(cut, whole)
    assert [line["round"] for line in cut.metrics() if line["stage"] == "encode"] == [
        *[0] * 4,
        *[1] * 4,
        *[3] * 4,
    ]


def test_a_loaded_run_acts_in_reality_and_in_the_dream(run):
    folder, job = run
    loaded = experiments.load(folder.path)
    encoders = (loaded.components.image_encoder, job.components.image_encoder)
    assert torch.equal(*map(_weight, encoders))
    for world in (loaded.environment(2, seed=0), loaded.dream(5)):
        assert world.observation_space == loaded.observation_space
        core = GenCore(world, loaded.agent)
        sequences, _, _ = core.generate(6, core.initial_state(2))
        assert sequences.rows.observation.shape == (6, 2, 4)


def _weight(encoder):
    return encoder.percepts.encoder.observation.out.weight


def test_telling_an_agent_of_codes_is_a_world_of_codes():
    encoder = encoder_of()
    space = COUNTING.one().action_space
    codes = ImageToCode(COUNTING.vector(2), encoder)
    with OwnNoise(1)():
        model = model_for(codes.single_observation_space, space)
        agent = BeliefAgent(model, Policy(model.belief_size, action_codec(space), 8))
    thoughts = []
    worlds = (
        (GymEnvironment(COUNTING.vector(2), 0), EncodedAgent(agent, encoder)),
        (GymEnvironment(codes, 0), agent),
    )
    for world, mind in worlds:
        core = GenCore(world, mind)
        with OwnNoise(2)(), torch.no_grad():
            thoughts.append(core.generate(7, core.initial_state(2))[1])
    assert torch.equal(*thoughts)


def test_dreams_of_codes_are_shown_as_images(run):
    loaded = experiments.load(run[0].path)
    encoder = loaded.components.image_encoder
    env = DreamEnv(loaded.dream(5), render_mode="rgb_array", view=loaded.view())
    code, _ = env.reset(seed=0)
    for _ in range(2):
        expected = decode_images(encoder, torch.from_numpy(code)).expand(-1, -1, 3)
        np.testing.assert_array_equal(env.render(), expected)
        code, *_ = env.step(1)
    with pytest.raises(ValueError, match="rgb_array"):
        loaded.view().draw(torch.zeros(1, 4), "ansi")


def test_colours_are_shown_as_they_are():
    encoder = encoder_of((16, 16, 3))
    code = torch.randn(2, 3)
    shown = CodeView(encoder).draw(code, "rgb_array")
    np.testing.assert_array_equal(np.stack(shown), decode_images(encoder, code))


def test_numbers_that_tell_nothing_are_silent():
    encoder = encoder_of(latent=4).double()
    images = torch.randint(256, (50, *SHAPE), dtype=torch.uint8)
    last = encoder.core.posterior[-1]
    last.weight[[1, 3, 5, 7]] *= 1e-3  # means and stds of two numbers: nearly the prior's
    last.bias[[1, 3, 5, 7]] = torch.tensor([0.0, 0.0, 0.54, 0.54]).double()
    last.bias[:3:2] = 2.0
    before = encode_images(encoder, images)
    assert prune_inactive(encoder, images) == 2
    after = encode_images(encoder, images)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, [1, 3]] == 0).all()
    contexts, evidence, mask, _, core = encoder.read(as_recordings(images))
    prepared = encoder.core.prepare(contexts, evidence, mask, core)
    torch.testing.assert_close(prepared.std[0, :, [1, 3]], torch.ones(50, 2).double())
    assert prune_inactive(encoder, images) == 2


@pytest.mark.parametrize("core", ["rssm", "vrnn"])
def test_who_reads_features_reads_the_same_in_dreams_and_in_reality(core):
    """In reality the filter's, as the `BeliefWrapper` shows them; in dreams the generator's."""
    world = GymEnvironment(COUNTING.vector(), None)
    spaces_ = (world.observation_space, world.action_space)
    with OwnNoise(0)():
        model = model_for(*spaces_, core, 8, feedback=False, separate=True).requires_grad_(False)
        agent = BeliefAgent(
            model, Policy(model.core.feature_size, world.actions, 8), reads="features"
        )
    wrapped = BeliefWrapper(make_vector_env("Counting-v0", **PIXELS).envs[0], model, "features")
    shown, _ = wrapped.reset(seed=4)
    assert agent.thought_size == shown.shape[0] == model.core.feature_size
    replay = Replay(world.actions, 0)
    environment = GymEnvironment(COUNTING.vector(2), 0)
    core_ = GenCore(environment, Uniform(world.action_space))
    replay.add(Episodes.cut(core_.generate(20, core_.initial_state(2))[0], core_.actions))
    dream = Dream(model, 6, *spaces_, draw_observations=False)
    imagination = Imagination(agent, dream, replay, 5, 4, 0.5)
    state = imagination.begin()
    assert torch.equal(state.thought, model.core.features(state.world.model.core))
    (row, thought), state = imagination.core.step(state)
    assert row.observation.shape == (5, 0)
    assert torch.equal(thought, model.core.features(state.world.model.core))


def test_images_are_learned_jointly_and_it_is_said(tmp_path, capsys):
    config = ["--env", "Counting-v0", "--pixels", "16", "--vae", "joint", "--quick"]
    main(["train", "control", *config, "--out", str(tmp_path / "run")])
    assert "it may know more in dreams than it will" in " ".join(capsys.readouterr().err.split())
    loaded = experiments.load(tmp_path / "run")
    assert loaded.components.image_encoder is None
    assert loaded.agent.reads == "features"
    assert type(loaded.model.core).__name__ == "RSSM"
    assert not loaded.model.feedback


def test_an_image_among_other_observations_trains_end_to_end(tmp_path, capsys):
    """A dictionary of an image, a vector, a number and a pair; MultiDiscrete actions."""
    run = tmp_path / "run"
    main(["train", "control", "--env", "Nested-v0", "--quick", "--out", str(run)])
    assert "drawn in dreams" in capsys.readouterr().err
    lines = list(RunFolder.open(run).metrics())
    learned = [line for line in lines if line["stage"] == "learn"]
    assert all(np.isfinite(line["observation_nats"]) for line in learned)
    assert [line["stage"] for line in lines[-2:]] == ["evaluate", "final"]
    loaded = experiments.load(run)
    core = GenCore(loaded.dream(4), loaded.agent)
    rows = core.generate(3, core.initial_state(2))[0].rows
    assert rows.observation["image"].shape == (3, 2, 12, 16, 3)
    assert rows.action.shape == (3, 2, 6)


def test_atari_runs_end_to_end(tmp_path):
    pytest.importorskip("ale_py")
    config = ["--env", "ALE/Pong-v5", "--resize", "64", "--grayscale", "--action-repeat", "4"]
    config += ["--time-limit", "200", "--quick"]
    main(["train", "control", *config, "--out", str(tmp_path / "run")])
    *_, curve, final = RunFolder.open(tmp_path / "run").metrics()
    assert curve["real_returns"]
    assert final["dream_horizon"] == 50


def test_what_a_vae_cannot_read_is_named():
    with pytest.raises(ValueError, match="--vae joint"):
        image_encoder_for(spaces.Box(0, 9, SHAPE, np.uint8), ImageConfig())


@pytest.mark.parametrize(
    "config", [{"vae_growth": 1.0}, {"vae_kl_weight": -1.0}, {"vae_updates": 0}]
)
def test_what_makes_no_sense_is_refused(config):
    with pytest.raises(ValueError, match="--vae-"):
        ImageConfig(**config)

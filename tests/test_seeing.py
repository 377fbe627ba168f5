"""Laws of worlds of images: codes are those of what was recorded, eyes stay as they learned to be,
and what a policy reads in a dream is what it reads in reality."""

from dataclasses import replace

import games  # noqa: F401 (registers environments)
import numpy as np
import pytest
import torch
from gymnasium import spaces
from runs import assert_same
from worldmodel.experiments.rl.environments import real_environment, vector_env
from worldmodel.experiments.rl.seeing import eyes_for
from worldmodel.experiments.rl.training import Training, load, stages

from worldmodel import (
    BeliefAgent,
    Dream,
    Episodes,
    GenCore,
    Replay,
    action_codec,
    as_recordings,
    autoencoder_for,
    decode_images,
    encode_images,
    model_for,
    silence,
)
from worldmodel.agents import Imagination, Policy, Sighted, Uniform
from worldmodel.envs import (
    BeliefWrapper,
    CodeView,
    DreamEnv,
    GymEnvironment,
    ImageToCode,
    make_vector_env,
)
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.rl.config import (
    ControlConfig,
    EnvironmentConfig,
    SeeingConfig,
    quick_control,
)
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import new_run
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

SHAPE = (16, 16, 1)
COUNTING = EnvironmentConfig("Counting-v0", pixels=16, grayscale=True)


def config_of(environment=COUNTING, **seeing):
    told = quick_control(ControlConfig(environment, seed=3))
    return replace(told, seeing=replace(told.seeing, **({"vae_growth": 1.3} | seeing)))


def train(folder, stop_after=lambda training: False):
    training = Training(folder, Reporter())
    training.restore()
    training.run(stop_after)
    return training


def eyes_of(shape=SHAPE, latent=3):
    with OwnNoise(0)():
        return autoencoder_for(shape, latent=latent, hidden=8, width=2).requires_grad_(False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run that sees codes, and learns to see them twice."""
    folder = new_run(tmp_path_factory.mktemp("run") / "whole", config_of())
    return folder, train(folder)


def test_it_learns_to_see_as_soon_as_there_is_so_much_more(run):
    config = config_of()  # 50 steps, then 70, then 90
    assert [s.round for s in stages(config, sees=True) if s.kind == "see"] == [0, 1]
    later = replace(config, seeing=replace(config.seeing, vae_growth=1.8))
    assert [s.round for s in stages(later, sees=True) if s.kind == "see"] == [0, 2]
    assert not [s for s in stages(config) if s.kind == "see"]
    seen = [line["round"] for line in run[0].metrics() if line["stage"] == "see"]
    assert seen == [0] * 4 + [1] * 4


def test_the_model_is_shown_the_codes_of_what_was_recorded(run):
    _, training = run
    everything = np.arange(len(training.store))
    recorded = training.store.select(everything).columns
    shown = training.replay.episodes.select(everything).columns
    assert recorded["observation"].shape[1:] == SHAPE
    codes = encode_images(training.parts.eyes, torch.from_numpy(recorded["observation"]))
    np.testing.assert_allclose(shown["observation"], codes.numpy(), rtol=1e-5, atol=1e-6)
    for key in set(Episodes.KEYS) - {"observation"}:
        np.testing.assert_array_equal(shown[key], recorded[key])


def test_eyes_change_only_while_they_learn_to_see(tmp_path):
    folder = new_run(tmp_path / "run", config_of(vae_growth=9.0))
    found = {}

    def note(training):
        stage = training.stages[training.stage]
        weights = training.parts.eyes.state_dict()
        found[(stage.round, stage.kind, training.done)] = {
            k: v.clone() for k, v in weights.items()
        }
        return False

    training = train(folder, note)
    begun, learned = found[(0, "see", 1)], found[(0, "learn", 1)]
    assert any(not torch.equal(begun[key], learned[key]) for key in begun)
    for key, weight in training.parts.eyes.state_dict().items():
        assert torch.equal(weight, learned[key])
    assert not any(p.requires_grad for p in training.parts.eyes.parameters())


@pytest.mark.parametrize(
    ("kind", "number", "done"),
    [("see", 0, 2), ("learn", 0, 1), ("collect", 1, 1), ("see", 1, 3), ("improve", 1, 1)],
)
def test_a_resumed_run_equals_one_never_stopped(tmp_path, run, kind, number, done):
    folder = new_run(tmp_path / "run", config_of())

    def here(training):
        stage = training.stages[training.stage]
        return (stage.kind, stage.round, training.done) == (kind, number, done)

    with pytest.raises(Interrupted):
        train(folder, here)
    train(folder)
    assert_same(folder, run[0])


def test_a_loaded_run_acts_in_reality_and_in_the_dream(run):
    folder, training = run
    parts = load(folder.path)
    assert torch.equal(
        parts.eyes.percepts.encoder.observation.out.weight, _weight(training.parts.eyes)
    )
    for world in (parts.environment(2, seed=0), parts.dream(5)):
        assert world.observation_space == parts.observation_space
        core = GenCore(world, parts.agent)
        sequences, _, _ = core.generate(6, core.initial_state(2))
        assert sequences.rows.observation.shape == (6, 2, 4)


def _weight(eyes):
    return eyes.percepts.encoder.observation.out.weight


def test_telling_an_agent_of_codes_is_a_world_of_codes():
    eyes = eyes_of()
    space = vector_env(COUNTING, 1).single_action_space
    with OwnNoise(1)():
        model = model_for(
            ImageToCode(vector_env(COUNTING, 1), eyes).single_observation_space, space
        )
        agent = BeliefAgent(model, Policy(model.belief_size, action_codec(space), 8))
    thoughts = []
    worlds = (
        (real_environment(COUNTING, 2, 0), Sighted(agent, eyes)),
        (GymEnvironment(ImageToCode(vector_env(COUNTING, 2), eyes), 0), agent),
    )
    for world, mind in worlds:
        core = GenCore(world, mind)
        with OwnNoise(2)(), torch.no_grad():
            thoughts.append(core.generate(7, core.initial_state(2))[1])
    assert torch.equal(*thoughts)


def test_dreams_of_codes_are_shown_as_images(run):
    parts = load(run[0].path)
    env = DreamEnv(parts.dream(5), render_mode="rgb_array", view=parts.view())
    code, _ = env.reset(seed=0)
    expected = decode_images(parts.eyes, torch.from_numpy(code)).expand(-1, -1, 3)
    np.testing.assert_array_equal(env.render(), expected)
    code, *_ = env.step(1)
    expected = decode_images(parts.eyes, torch.from_numpy(code)).expand(-1, -1, 3)
    np.testing.assert_array_equal(env.render(), expected)
    with pytest.raises(ValueError, match="rgb_array"):
        parts.view().draw(torch.zeros(1, 4), "ansi")


def test_colours_are_shown_as_they_are():
    eyes = eyes_of((16, 16, 3))
    code = torch.randn(2, 3)
    shown = CodeView(eyes).draw(code, "rgb_array")
    np.testing.assert_array_equal(np.stack(shown), decode_images(eyes, code))


def test_numbers_that_tell_nothing_are_silent():
    eyes = eyes_of(latent=4).double()
    images = torch.randint(256, (50, *SHAPE), dtype=torch.uint8)
    last = eyes.core.posterior[-1]
    last.weight[[1, 3, 5, 7]] *= 1e-3  # means and stds of two numbers: nearly the prior's
    last.bias[[1, 3, 5, 7]] = torch.tensor([0.0, 0.0, 0.54, 0.54]).double()
    last.bias[:3:2] = 2.0
    before = encode_images(eyes, images)
    assert silence(eyes, images) == 2
    after = encode_images(eyes, images)
    assert torch.equal(after[:, [0, 2]], before[:, [0, 2]])
    assert (after[:, [1, 3]] == 0).all()
    contexts, evidence, mask, _, core = eyes.read(as_recordings(images))
    prepared = eyes.core.prepare(contexts, evidence, mask, core)
    torch.testing.assert_close(prepared.std[0, :, [1, 3]], torch.ones(50, 2).double())
    assert silence(eyes, images) == 2


@pytest.mark.parametrize("core", ["rssm", "vrnn"])
def test_who_reads_features_reads_the_same_in_dreams_and_in_reality(core):
    """In reality the filter's, as the `BeliefWrapper` shows them; in dreams the generator's."""
    world = real_environment(COUNTING, 1, None)
    spaces_ = (world.observation_space, world.action_space)
    with OwnNoise(0)():
        model = model_for(*spaces_, core, 8, feedback=False, separate=True).requires_grad_(False)
        agent = BeliefAgent(
            model, Policy(model.core.feature_size, world.actions, 8), reads="features"
        )
    wrapped = BeliefWrapper(
        make_vector_env("Counting-v0", pixels=16, grayscale=True).envs[0], model, "features"
    )
    shown, _ = wrapped.reset(seed=4)
    assert agent.thought_size == shown.shape[0] == model.core.feature_size
    replay = Replay(world.actions, 0)
    environment = GymEnvironment(vector_env(COUNTING, 2), 0)
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
    told = ["--env", "Counting-v0", "--pixels", "16", "--vae", "joint", "--quick"]
    main(["train", "control", *told, "--out", str(tmp_path / "run")])
    assert "privileged" in capsys.readouterr().err
    parts = load(tmp_path / "run")
    assert parts.eyes is None
    assert parts.agent.reads == "features"
    assert type(parts.model.core).__name__ == "RSSM"
    assert not parts.model.feedback


def test_an_image_among_other_observations_trains_end_to_end(tmp_path, capsys):
    """A dictionary of an image, a vector, a number and a pair; MultiDiscrete actions."""
    run = tmp_path / "run"
    main(["train", "control", "--env", "Nested-v0", "--quick", "--out", str(run)])
    assert "drawn in dreams" in capsys.readouterr().err
    lines = list(RunFolder.open(run).metrics())
    learned = [line for line in lines if line["stage"] == "learn"]
    assert all(np.isfinite(line["observation_nats"]) for line in learned)
    assert [line["stage"] for line in lines[-2:]] == ["evaluate", "final"]
    parts = load(run)
    core = GenCore(parts.dream(4), parts.agent)
    rows = core.generate(3, core.initial_state(2))[0].rows
    assert rows.observation["image"].shape == (3, 2, 12, 16, 3)
    assert rows.action.shape == (3, 2, 6)


def test_atari_runs_end_to_end(tmp_path):
    pytest.importorskip("ale_py")
    told = ["--env", "ALE/Pong-v5", "--resize", "64", "--grayscale", "--action-repeat", "4"]
    told += ["--time-limit", "400", "--quick"]
    main(["train", "control", *told, "--out", str(tmp_path / "run")])
    *_, curve, final = RunFolder.open(tmp_path / "run").metrics()
    assert curve["real_returns"]
    assert final["dream_horizon"] == 100


def test_what_a_vae_cannot_read_is_named():
    with pytest.raises(RunError, match="--vae joint"):
        eyes_for(spaces.Box(0, 9, SHAPE, np.uint8), SeeingConfig())


@pytest.mark.parametrize("told", [{"vae_growth": 1.0}, {"vae_beta": -1.0}, {"vae_updates": 0}])
def test_what_makes_no_sense_is_refused(told):
    with pytest.raises(ValueError, match="--vae-"):
        SeeingConfig(**told)

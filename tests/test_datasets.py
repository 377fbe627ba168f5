"""Laws of recorded episodes: what is written comes back, whatever the spaces and the format."""

import json
import resource
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from episodes import episodes_of, everything, same
from gymnasium import spaces
from runs import TINY

from worldmodel import DiskStore, Episodes, MemoryStore, action_codec, nested
from worldmodel.agents import WorldModelAgent
from worldmodel.envs.observations import InvalidValueError, as_tensors
from worldmodel.experiments.cli.settings import Export
from worldmodel.experiments.cli.verbs import export as export_command
from worldmodel.experiments.data.datasets import export, open_data, spec_of
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.runs.registry import new_run
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError
from worldmodel.space_json import from_json, read_spaces, to_json, write_spaces

OBSERVATIONS = {
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "bounded": spaces.Box(np.array([-1, 0.1]), np.array([1, np.inf]), dtype=np.float64),
    "image": spaces.Box(0, 255, (8, 6, 3), np.uint8),
    "integers": spaces.Box(-(2**62), 2**62, (2,), np.int64),
    "discrete": spaces.Discrete(5, start=-2),
    "multi-discrete": spaces.MultiDiscrete([3, 2], np.int32, start=[1, 0]),
    "binary": spaces.MultiBinary((2, 3)),
    "truths": spaces.Box(0, 1, (2, 3), bool),
    "dict": spaces.Dict(
        {
            "camera": spaces.Box(0, 255, (8, 6, 3), np.uint8),
            "b": spaces.Tuple([spaces.Discrete(3), spaces.Dict(z=spaces.MultiBinary(4))]),
            "a": spaces.Box(0, 1, ()),
        }
    ),
}
ACTIONS = {
    "discrete": spaces.Discrete(4, start=1),
    "box": spaces.Box(-2.0, 2.0, (2,)),
    "multi-discrete": spaces.MultiDiscrete([3, 2], np.int32),
    "multi-binary": spaces.MultiBinary(3),
}
FORMATS = ["npz", pytest.param("minari", marks=pytest.mark.filterwarnings("ignore::UserWarning"))]


def sampled(observation, action, lengths=(4, 2, 7), seed=0):
    """Episodes of random values, of the types that rows have; odd ones terminate. A first row has
    the second one's action."""
    observation.seed(seed)
    action.seed(seed)
    lengths = np.array(lengths)
    shown = [observation.sample() for _ in range(lengths.sum())]
    taken = np.array([action.sample() for _ in range(lengths.sum())])
    starts, ends = np.cumsum(lengths) - lengths, np.cumsum(lengths)
    taken[starts] = taken[np.minimum(starts + 1, ends - 1)]
    terminated = np.zeros(lengths.sum(), bool)
    terminated[ends[1::2] - 1] = True
    reward = np.arange(lengths.sum(), dtype=np.float32)
    reward[starts] = 0
    codec = action_codec(action)
    observations = as_tensors(nested.map(lambda *leaves: np.array(leaves), *shown), torch.float32)
    columns = {
        "observation": nested.map(torch.Tensor.numpy, observations),
        "action": codec.decode(codec.encode(torch.from_numpy(taken))).numpy(),
        "reward": reward,
        "terminated": terminated,
    }
    return Episodes(columns, lengths)


@pytest.mark.parametrize("name", [*OBSERVATIONS, *ACTIONS])
def test_spaces_come_back_from_json(name):
    space = {**ACTIONS, **OBSERVATIONS}[name]
    text = json.dumps(to_json(space), allow_nan=False)
    assert from_json(json.loads(text)) == space


def test_a_space_that_cannot_be_described_is_named():
    with pytest.raises(ValueError, match=r"Text\(1, 8"):
        to_json(spaces.Dict(note=spaces.Text(8)))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_exported_episodes_are_opened_as_they_were(tmp_path, observation, action, format):
    if format == "minari":
        pytest.importorskip("minari")
    seen, done = OBSERVATIONS[observation], ACTIONS[action]
    episodes = sampled(seen, done)
    export(episodes, seen, done, tmp_path / "out", format)
    data = open_data(tmp_path / "out")
    assert same(everything(data.episodes), episodes)
    assert (data.observation_space, data.action_space) == (seen, done)


@pytest.mark.parametrize("format", FORMATS)
def test_a_long_export_is_written_in_parts(tmp_path, monkeypatch, format):
    if format == "minari":
        pytest.importorskip("minari")
    monkeypatch.setattr("worldmodel.episodes.PORTION", 20)
    seen, done = OBSERVATIONS["vector"], ACTIONS["box"]
    episodes = sampled(seen, done, [7, 30, 2, 2, 2, 25, 3, 3, 9])
    store = DiskStore(tmp_path / "store", shard_bytes=300)
    for number in range(len(episodes)):
        store.add(episodes.select(np.array([number])))
    monkeypatch.chdir(tmp_path)
    export(store, seen, done, Path("out"), format)  # a relative path
    assert same(everything(open_data(tmp_path / "out").episodes), episodes)
    if format == "npz":
        assert len(list((tmp_path / "out").glob("*.npz"))) > 3


def test_a_store_and_a_run_are_opened(tmp_path):
    seen, done = spaces.Box(0, 1e6, (), np.int64), spaces.Discrete(3, start=1)
    (tmp_path / "config.json").write_text("{}")
    folder = tmp_path / "episodes"
    folder.mkdir()
    write_spaces(folder, seen, done)
    store = DiskStore(folder)
    store.add(episodes_of([3, 4]), weight=2.0)
    opened, *spaces_ = open_data(tmp_path)
    assert same(everything(opened), episodes_of([3, 4]))
    assert opened.weights.tolist() == [2.0, 2.0]
    assert spaces_ == [seen, done]


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    with pytest.raises(RunError, match="no folder of episodes at"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(RunError, match="holds no episodes: expected"):
        open_data(tmp_path)
    episodes_of([3]).save(tmp_path / "a.npz")
    with pytest.raises(RunError, match=r"no spaces\.json"):
        open_data(tmp_path)
    (tmp_path / "spaces.json").write_text('{"schema_version": 1, "observation": {}}')
    with pytest.raises(RunError, match=r"spaces\.json cannot be read"):
        open_data(tmp_path)
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(RunError, match=r"b\.npz is no file of episodes"):
        open_data(tmp_path)
    with pytest.raises(RunError, match="already exists"):
        export(MemoryStore(), ACTIONS["box"], ACTIONS["box"], tmp_path, "npz")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hdf5_on_a_full_disk_is_an_error_and_no_crash(tmp_path):
    pytest.importorskip("minari")
    seen, done = OBSERVATIONS["vector"], ACTIONS["box"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"too large|full"):
            export(sampled(seen, done, [30] * 20), seen, done, tmp_path / "out", "minari")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_a_data_set_that_minari_collected_is_read(tmp_path, monkeypatch):
    """Beside the rows as they happened, written down by hand."""
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = gymnasium.make("CartPole-v1", max_episode_steps=12)
    config, buffers = [], []
    for seed in range(4):
        shown, _ = env.reset(seed=seed)
        rows, ended = [(shown, None, 0.0, False)], False
        while not ended:
            action = (seed + len(rows)) % 2 if seed % 2 else 1
            shown, reward, terminated, truncated, _ = env.step(action)
            rows.append((shown, action, reward, terminated))
            ended = terminated or truncated
        config.append(rows)
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                observations=np.array([row[0] for row in rows]),
                actions=np.array([row[1] for row in rows[1:]]),
                rewards=[row[2] for row in rows[1:]],
                terminations=[row[3] for row in rows[1:]],
                truncations=[False] * (len(rows) - 2) + [not rows[-1][3]],
            )
        )
    minari.create_dataset_from_buffers("cartpole/hand-v0", buffers, env=env)
    data = open_data(tmp_path / "cartpole" / "hand-v0")
    assert data.observation_space == env.observation_space
    assert data.action_space == env.action_space
    episodes = everything(data.episodes)
    flat = [row for rows in config for row in rows]
    assert episodes.lengths.tolist() == [len(rows) for rows in config]
    assert np.array_equal(episodes.columns["observation"], [row[0] for row in flat])
    assert episodes.columns["reward"].tolist() == [row[2] for row in flat]
    assert episodes.columns["terminated"].tolist() == [row[3] for row in flat]
    assert episodes.columns["terminated"].any()
    for row, action in zip(flat, episodes.columns["action"], strict=True):
        assert row[1] in (None, action)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minari_recovers_the_environment_of_a_run_and_it_is_said_what_is_left_out(
    tmp_path, monkeypatch, capsys
):
    minari = pytest.importorskip("minari")
    options = EnvironmentConfig("CartPole-v1", arguments='{"sutton_barto_reward": true}')
    known = {
        "as it is": (replace(options, time_limit=7, num_envs=3), True),
        "seen otherwise": (replace(options, hide=(1,)), False),
        "of no registered id": (replace(options, env="mine:Mine-v0"), False),
    }
    for name, (environment, is_known) in known.items():
        folder = new_run(tmp_path / name, RLConfig(environment))
        seen, done = OBSERVATIONS["vector"], ACTIONS["discrete"]
        write_spaces(folder.episodes, seen, done)
        store = DiskStore(folder.episodes)
        store.add(sampled(seen, done, (4, 1, 7, 1)))
        store.close()
        out = tmp_path / f"out of {name}"
        export_command(Export(folder.path, out, "minari"), Reporter())
        assert "2 episodes, 9 steps" in (said := capsys.readouterr().err)
        assert "2 episodes of no step" in said
        recorded = minari.MinariDataset(out / "data")
        if is_known:
            env = recorded.recover_environment()
            assert env.unwrapped._sutton_barto_reward
            assert env.spec.max_episode_steps == 7
        else:
            assert recorded.env_spec is None


@pytest.mark.parametrize("arguments", ['"evil"', "evil", "[1]", "", "[" * 5_000])
def test_arguments_of_a_run_that_are_none_are_said(tmp_path, arguments):
    folder = new_run(
        tmp_path / "run", RLConfig(EnvironmentConfig("CartPole-v1", arguments=arguments))
    )
    with pytest.raises(ValueError, match="an environment's arguments"):
        spec_of(folder.path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_set_of_texts_is_refused_in_a_sentence(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    buffer = minari.data_collector.EpisodeBuffer(
        observations={"note": ["a", "b"]},
        actions=np.array([0]),
        rewards=[1.0],
        terminations=[True],
        truncations=[False],
    )
    seen = spaces.Dict(note=spaces.Text(8))
    minari.create_dataset_from_buffers(
        "texts-v0", [buffer], observation_space=seen, action_space=spaces.Discrete(2)
    )
    with pytest.raises(RunError, match=r"values of Text\(1, 8"):
        open_data(tmp_path / "texts-v0")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_of_recordings_too_what_cannot_be_read_is_left_out_and_images_are_turned(
    tmp_path, monkeypatch
):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    images = np.random.default_rng(0).integers(256, size=(2, 3, 20, 24)).astype(np.uint8)
    buffer = minari.data_collector.EpisodeBuffer(
        observations={"note": ["a", "b"], "image": images},
        actions=np.array([0]),
        rewards=[1.0],
        terminations=[True],
        truncations=[False],
    )
    seen = spaces.Dict(image=spaces.Box(0, 255, (3, 20, 24), np.uint8), note=spaces.Text(8))
    minari.create_dataset_from_buffers(
        "pictures-v0", [buffer], observation_space=seen, action_space=spaces.Discrete(2)
    )
    data = open_data(tmp_path / "pictures-v0")
    assert data.observation_space == spaces.Dict(image=spaces.Box(0, 255, (20, 24, 3), np.uint8))
    (read,) = everything(data.episodes).columns["observation"].values()
    np.testing.assert_array_equal(read, np.moveaxis(images, 1, -1))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minari_loads_what_was_exported(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    seen, done = OBSERVATIONS["dict"], ACTIONS["multi-discrete"]
    episodes = sampled(seen, done, [4, 1, 3])
    assert export(episodes, seen, done, tmp_path / "ours-v3", "minari") == 2  # one has no step
    loaded = minari.load_dataset("ours-v3")
    first, second = loaded.iterate_episodes()
    assert loaded.total_episodes == 2
    assert loaded.total_steps == 5
    assert np.array_equal(first.actions, episodes.columns["action"][1:4])
    assert np.array_equal(
        first.observations["b"][1]["z"], episodes.columns["observation"]["b"][1]["z"][:4]
    )
    assert first.truncations.tolist() == [False, False, True]
    assert not second.terminations.any()


def test_without_minari_one_is_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "minari", None)
    with pytest.raises(RunError, match=r"pip install 'worldmodel-gym\[minari\]'"):
        export(episodes_of([3]), ACTIONS["box"], ACTIONS["box"], tmp_path / "out", "minari")


@pytest.mark.parametrize("format", ["npz", "store"])
@pytest.mark.parametrize("place", [0, 1])
def test_spaces_of_other_episodes_are_refused(tmp_path, place, format):
    given = [spaces.Discrete(2_000), ACTIONS["discrete"]]
    episodes = episodes_of([3, 4])
    if format == "npz":
        export(episodes, *given, tmp_path / "data", format)
    else:
        with closing(DiskStore(tmp_path / "data")) as store:
            store.add(episodes)
    given[place] = OBSERVATIONS["dict"]
    write_spaces(tmp_path / "data", *given)
    with pytest.raises(RunError, match=f"{('observation', 'action')[place]}s are none of Dict"):
        open_data(tmp_path / "data")


def test_recorded_actions_that_there_are_not_are_refused():
    known = {
        "observation_space": spaces.Discrete(4_000),
        "action_space": spaces.Discrete(2, start=1),
    }
    agent = WorldModelAgent(data=episodes_of([3, 4, 5, 6]), **known, **TINY)
    with pytest.raises(InvalidValueError, match="have actions that are none of Discrete"):
        agent.learn(60)


def test_names_in_spaces_can_be_printed(tmp_path):
    named = spaces.Dict({"\x1b[2J": spaces.Discrete(2)})
    write_spaces(tmp_path, named, ACTIONS["box"])
    with pytest.raises(RunError, match="letters that can be printed"):
        read_spaces(tmp_path)


def test_spaces_are_read_from_their_folder(tmp_path):
    write_spaces(tmp_path, OBSERVATIONS["dict"], ACTIONS["box"])
    assert read_spaces(tmp_path) == (OBSERVATIONS["dict"], ACTIONS["box"])

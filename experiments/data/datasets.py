"""Recorded episodes: data to learn from without an environment.

`open_data` reads, and `export` writes, a folder that is one of

    episode files       *.npz, as `Episodes.save` writes them, and spaces.json
    a store             a folder of a `DiskStore`, and spaces.json
    a Minari data set   data/metadata.json and its like (https://minari.farama.org)

`open_data` reads the episodes of a run, too, given the run's folder or its packed file.
"""

import copy
import errno
import functools
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from worldmodel import (
    DiskStore,
    Episodes,
    EpisodeSource,
    Joined,
    MemoryStore,
    action_codec,
    nested,
)
from worldmodel.checkpoint import list_checkpoints
from worldmodel.codecs.spaces import parts_of
from worldmodel.envs import arguments_from_json
from worldmodel.envs.collector import saved_episodes
from worldmodel.envs.observations import as_read, as_tensors
from worldmodel.envs.wrappers import readable_space
from worldmodel.errors import naming_damage
from worldmodel.experiments.runs.registry import config_of
from worldmodel.files import PART, DamagedError, making
from worldmodel.run_folder import RunError, RunFolder
from worldmodel.space_json import read_spaces, write_spaces

AS_SHOWN = ("action_repeat", "hide", "hidden_velocities", "keys", "pixels", "resize", "grayscale")
"""Options of an environment that change what it shows or is told."""


class Data(NamedTuple):
    """Episodes and their spaces."""

    episodes: EpisodeSource
    observation_space: spaces.Space
    action_space: spaces.Space


def open_data(path: Path) -> Data:
    """The episodes of a folder: those of a store are read from disk, others lie in memory."""
    if not path.exists():
        raise RunError(f"there is no folder of episodes at {path}")
    is_run = (path / "config.json").is_file() and (path / "episodes").is_dir()
    data = _of_run(RunFolder.open(path)) if is_run or path.is_file() else _read(path)
    first = data.episodes.gather(data.episodes.starts[:1])
    for name, space in (("observation", data[1]), ("action", data[2])):
        if not _fits(first.get(name), space):
            raise DamagedError(
                f"{path} holds episodes whose {name}s are none of {space}, which its spaces.json "
                "says: it is damaged, or put together from two"
            )
    return data


def _read(path: Path) -> Data:
    """The episodes of a folder that is no run."""
    try:
        if (path / "data" / "metadata.json").is_file():
            return _open_minari(path)
        if (path / "store.json").is_file():
            return Data(DiskStore(path, writable=False), *read_spaces(path))
        episodes = MemoryStore()
        for file in sorted(path.glob("*.npz")):
            if not file.name.startswith(PART):  # what a kill has left
                episodes.add(Episodes.load(file))
        if len(episodes):
            return Data(episodes, *read_spaces(path))
    except ValueError as error:
        raise RunError(str(error)) from error
    raise RunError(
        f"{path} holds no episodes: expected .npz files and spaces.json, a store (store.json) "
        "or a Minari data set (data/metadata.json)"
    )


def _fits(values: Any, space: spaces.Space) -> bool:
    """True if values [n, ...] have the structure and the shapes of a space."""
    parts = parts_of(space)
    if not parts:
        return isinstance(values, np.ndarray) and values.shape[1:] == space.shape
    found = dict(enumerate(values)) if isinstance(values, tuple) else values
    return (
        isinstance(found, Mapping)
        and found.keys() == parts.keys()
        and all(_fits(found[key], part) for key, part in parts.items())
    )


def _of_run(folder: RunFolder) -> Data:
    """The episodes of a run, and their spaces."""
    folder.check_episodes()
    return Data(episodes_of(folder), *read_spaces(folder.episodes))


def episodes_of(folder: RunFolder) -> EpisodeSource:
    """The episodes of a run, as its checkpoint knows them: unfinished ones, which come last, are
    stored anew again and again, so that those of the checkpoint are taken."""
    if not list_checkpoints(folder.checkpoints):
        return DiskStore(folder.episodes, writable=False)
    checkpoint = folder.checkpoint()
    finished = checkpoint.values.get("finished", checkpoint.values.get("added"))
    store = DiskStore(folder.episodes, writable=False, as_of=finished)
    running: list[Episodes | None] = []
    if "running" in checkpoint.state:
        with naming_damage(folder.path):
            running = saved_episodes(checkpoint.state["running"])
    unfinished = [episode for episode in running if episode is not None]
    return Joined(store, Episodes.join(unfinished)) if unfinished else store


def export(
    episodes: EpisodeSource,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    path: Path,
    format: Literal["minari", "npz"],
    spec: EnvSpec | None = None,
) -> int:
    """Writes episodes to a new folder, some at a time; returns how many.

    minari: a data set whose id is the folder's name (with -v0 at its end, if it has no version);
    episodes of no step are left out, since Minari has none. spec: of their environment, which
    Minari then recovers.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} already exists: choose another --out")
    path = path.resolve()
    with making(path) as part:
        if format == "minari":
            of = episodes, observation_space, action_space, part, path.name, spec
            return _in_a_fork(functools.partial(_export_minari, *of))
        return _export_npz(episodes, observation_space, action_space, part)


def spec_of(path: Path) -> EnvSpec | None:
    """The spec of the environment that a run's episodes are of; None where there is none, where it
    is not registered with Gymnasium, or where options changed what it shows or is told. Nothing is
    made or imported."""
    if not path.is_file() and not (path / "config.json").is_file():
        return None
    options = getattr(config_of(RunFolder.open(path)), "environment", None)
    if options is None or options.env not in gymnasium.registry:
        return None
    if any(getattr(options, name) != getattr(type(options), name) for name in AS_SHOWN):
        return None
    spec = copy.deepcopy(gymnasium.registry[options.env])
    spec.kwargs |= arguments_from_json(options.arguments)
    spec.max_episode_steps = options.time_limit or spec.max_episode_steps
    return spec


def _export_npz(
    episodes: EpisodeSource,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    path: Path,
) -> int:
    write_spaces(path, observation_space, action_space)
    for number, part in enumerate(episodes.portions()):
        part.save(path / f"episodes-{number:05d}.npz")
    return len(episodes)


def _open_minari(path: Path) -> Data:
    minari = _minari()
    try:
        recorded = minari.MinariDataset(path / "data")
    except Exception as error:
        raise RunError(f"{path} is a Minari data set that cannot be read: {error}") from error
    spaces_ = readable_space(recorded.observation_space), recorded.action_space
    episodes = MemoryStore()
    for episode in recorded.iterate_episodes():
        if len(episode):
            episodes.add(_from_minari(episode, *spaces_))
    return Data(episodes, *spaces_)


def _from_minari(
    episode: Any, observation_space: spaces.Space, action_space: spaces.Space
) -> Episodes:
    """One episode, of the types of a real environment's rows.

    The placeholder of the first row's action is the second row's.
    """
    actions, codec = _of_space(episode.actions, action_space), action_codec(action_space)
    decoded = codec.decode(codec.encode(torch.from_numpy(actions[:1]))).numpy()
    read = as_read(observation_space, episode.observations, is_one=False)
    observations = as_tensors(_of_space(read, observation_space), torch.float32)
    columns = {
        "action": np.concatenate([decoded, actions]).astype(decoded.dtype),
        "observation": nested.map(torch.Tensor.numpy, observations),
        "reward": np.append(0, episode.rewards).astype(np.float32),
        "terminated": np.append(False, episode.terminations).astype(bool),
    }
    return Episodes(columns, np.array([len(columns["reward"])]))


def _of_space(values: Any, space: spaces.Space) -> Any:
    """Values [N, ...] in the order and of the types of `space`."""
    if isinstance(space, spaces.Dict):
        return {key: _of_space(values[key], part) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_of_space(v, part) for v, part in zip(values, space, strict=True))
    if space.dtype is None or space.dtype.kind not in "biuf":
        raise ValueError(
            f"episodes with values of {space} cannot be learned from: known are Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Dict and Tuple of these"
        )
    return np.asarray(values).astype(space.dtype)


def _export_minari(
    episodes: EpisodeSource,
    observation_space: spaces.Space,
    action_space: spaces.Space,
    path: Path,
    name: str,
    spec: EnvSpec | None,
) -> int:
    minari = _minari()
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    def buffers() -> Iterator[Any]:
        for part in episodes.portions():
            for start, length in zip(part.starts, part.lengths, strict=True):
                if length > 1:
                    columns = nested.index(part.columns, slice(start, start + length))
                    ended = columns["terminated"][1:]
                    yield EpisodeBuffer(
                        observations=columns["observation"],
                        actions=nested.index(columns["action"], slice(1, None)),
                        rewards=columns["reward"][1:],
                        terminations=ended,
                        truncations=np.append(np.zeros(length - 2, bool), ~ended[-1]),
                    )

    (path / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        path / "data", observation_space, action_space, spec, jpeg_encoding=False
    )
    named = name if re.search(r"-v\d+$", name) else f"{name}-v0"
    storage.update_metadata({"dataset_id": named, "minari_version": minari.__version__})
    storage.update_episodes(buffers())
    return int(storage.total_episodes)


def _in_a_fork(write: Callable[[], int]) -> int:
    """The result of a function, called in a process of its own: HDF5 crashes where a disk is full,
    after it has said so."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(write, send))
    process.start()
    send.close()
    try:
        answer = receive.recv()
    except EOFError as error:
        raise OSError("the process that writes has ended: is the disk full?") from error
    finally:
        process.kill()  # which has nothing more to say
        process.join()
    if isinstance(answer, BaseException):
        raise answer
    return int(answer)


def _answer(write: Callable[[], int], send: Connection) -> None:
    """Sends what a function returns, or raises, and ends without closing what HDF5 has open. What
    HDF5 prints as it crashes goes nowhere, and Ctrl-C is the other process's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        answer: Any = write()
    except (OSError, RuntimeError) as error:  # HDF5's own are of both kinds
        reason = str(error).partition("\n")[0]
        answer = OSError(getattr(error, "errno", None) or errno.EIO, reason)
    except BaseException as error:
        answer = error
    send.send(answer)
    os._exit(0)


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise RunError(
            "Minari data sets need the package minari: pip install 'worldmodel-gym[minari]'"
        ) from error
    return minari

"""Laws of checkpoints: bit for bit, whole or absent, and no code is run."""

import hashlib
import json
import os
import pickle
import resource
import shutil
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from worldmodel import checkpoint as module
from worldmodel.checkpoint import (
    SCHEMA_VERSION,
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    next_number,
    save_checkpoint,
    set_aside,
    write_checkpoint,
)
from worldmodel.experiments.cli.errors import sentence_of
from worldmodel.files import DamagedError

FILES = ["weights.safetensors", "state.pt", "values.json", "checkpoint.json"]


class Odd(nn.Module):
    """Weights that are easily lost: not a number, a negative zero, integers, two precisions."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        values = torch.tensor([0.1, -0.0, float("nan"), float("inf"), 1e-45])
        self.odd = nn.Parameter(values.roll(seed))
        self.long = nn.Parameter(torch.randn(3, 2, generator=generator, dtype=torch.float64).T)
        self.short = nn.Parameter(torch.randn(4, generator=generator).bfloat16())
        self.register_buffer("count", torch.randint(2**62, (2,), generator=generator))


def bits(tensor):
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def identical(one, other):
    kind = (one.dtype, one.shape) == (other.dtype, other.shape)
    return kind and torch.equal(bits(one), bits(other))


def save(folder, number, keep=2):
    """A checkpoint that knows its number in every file."""
    modules = {"net": nn.Linear(2, 1)}
    nn.init.constant_(modules["net"].weight, number)
    state = {"number": torch.tensor(number)}
    return save_checkpoint(folder, number, modules, state, {"number": number}, keep)


def newest(folder):
    return load_checkpoint(list_checkpoints(folder)[-1])


def number_of(checkpoint):
    """The number that all files agree on."""
    numbers = {
        int(checkpoint.weights["net.weight"][0, 0]),
        int(checkpoint.state["number"]),
        checkpoint.values["number"],
    }
    assert len(numbers) == 1
    return numbers.pop()


def test_everything_comes_back_to_the_last_bit(tmp_path):
    config = {"one": Odd(1), "two": nn.GRU(3, 4)}
    optimizer = torch.optim.AdamW(config["two"].parameters())
    config["two"](torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    random = torch.get_rng_state()
    state = {"optimizer": optimizer.state_dict(), "random": random, "list": [1, (2.5, "x", None)]}
    values = {"stage": 2, "random": 2**100 + 1, "seconds": 0.1, "nothing": None}
    path = save_checkpoint(tmp_path, 12, config, state, values)
    assert path == tmp_path / "checkpoint-000012"
    found = load_checkpoint(path)
    assert found.values == values
    assert found.state["list"] == state["list"]
    assert identical(found.state["random"], random)
    expected, loaded = optimizer.state_dict()["state"], found.state["optimizer"]["state"]
    assert expected.keys() == loaded.keys()
    for key, entry in expected.items():
        assert all(identical(entry[name], loaded[key][name]) for name in entry)
    fresh = {"one": Odd(2), "two": nn.GRU(3, 4)}
    found.load(fresh)
    for name, net in config.items():
        other = fresh[name].state_dict()
        assert all(identical(value, other[key]) for key, value in net.state_dict().items())


def test_only_the_newest_are_kept(tmp_path):
    for number in (1, 5, 20, 300):
        save(tmp_path, number)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint-000020",
        "checkpoint-000300",
    ]
    save(tmp_path, 400, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000400"]


def test_the_newest_has_the_highest_number(tmp_path):
    for number in (999_998, 999_999, 1_000_000):
        save(tmp_path, number)
    assert number_of(newest(tmp_path)) == 1_000_000


class Killed(BaseException):
    """Nothing in the program catches it, like a kill."""


STEPS = [
    (safetensors.torch, "save_file"),
    (torch, "save"),
    (module, "sync"),
    (shutil, "rmtree"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "rename"),
]


def kill_at(monkeypatch, moment):
    """The `moment`-th step that touches the disk does half its work, and then no more is done."""
    left = [moment]

    def watch(owner, name):
        work = getattr(owner, name)

        def step(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                if name in ("save_file", "save"):
                    Path(args[1]).write_bytes(b"half a file")
                if name == "write_text":
                    Path(args[0]).write_bytes(b'{"schema_version": 1, "sha')
                if name == "rmtree" and Path(args[0]).is_dir():
                    os.unlink(Path(args[0]) / "state.pt")
                raise Killed
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, step)

    for owner, name in STEPS:
        watch(owner, name)


def killed_everywhere(tmp_path, monkeypatch, before, number):
    """The numbers read back after a save of `number`, killed at every step in turn."""
    for moment in range(100):
        folder = tmp_path / str(moment)
        for each in before:
            save(folder, each)
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            try:
                save(folder, number)
            except Killed:
                pass
            else:
                assert moment > 8  # there were that many steps to be killed at
                return
        yield number_of(newest(folder))
        save(folder, number + 1)  # and a killed save is in nobody's way
        assert number_of(newest(folder)) == number + 1
        assert not {".part", ".gone"} & {path.name for path in folder.iterdir()}
    raise AssertionError("the save never ended")


@pytest.mark.parametrize("before", [[1], [1, 2], [1, 2, 3]])
def test_a_kill_at_any_moment_leaves_the_one_before(tmp_path, monkeypatch, before):
    found = list(killed_everywhere(tmp_path, monkeypatch, before, 7))
    assert set(found) == {before[-1], 7}
    assert found == sorted(found)


@pytest.mark.parametrize("size", [10, 5_000])
def test_what_a_full_disk_refuses_of_a_checkpoint_is_an_error_of_the_system(tmp_path, size):
    """Wherever a file then ends, and whichever library writes it."""
    state = {str(number): torch.zeros(10) for number in range(40)}
    content = Checkpoint({"w": torch.zeros(size)}, state, {})
    largest = max(file.stat().st_size for file in write_checkpoint(tmp_path, 1, content).iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sentences = []
    for most in range(8, largest - 1, 397):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            write_checkpoint(tmp_path, 2, content)
        except OSError as error:
            sentences.append(sentence_of(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(sentences) == len(range(8, largest - 1, 397)) > 9
    assert None not in sentences
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-000001"]
    write_checkpoint(tmp_path, 2, content)


def test_a_number_is_used_once(tmp_path):
    save(tmp_path, 7)
    with pytest.raises(FileExistsError, match="its own number"):
        save(tmp_path, 7)
    assert next_number(tmp_path) == 8


def damage(path, how):
    """Spoils one file of a checkpoint."""
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x55
        path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "truncated"])
def test_a_damaged_checkpoint_is_reported_and_never_removed(tmp_path, name, how):
    path = save(tmp_path, 1)
    damage(path / name, how)
    with pytest.raises(DamagedError, match="checkpoint-000001"):
        load_checkpoint(path)
    left = sorted(file.name for file in path.iterdir())
    for number in (2, 3, 4):
        save(tmp_path, number)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        *("checkpoint-000001", "checkpoint-000003", "checkpoint-000004")
    ]
    assert sorted(file.name for file in path.iterdir()) == left


@pytest.mark.parametrize("name", FILES[:3])
def test_a_single_wrong_byte_is_noticed(tmp_path, name):
    path = save(tmp_path, 1)
    damage(path / name, "flipped")
    with pytest.raises(DamagedError, match=rf"{name} is damaged \(its SHA-256 differs"):
        load_checkpoint(path)


def test_where_there_is_no_folder_there_is_no_checkpoint(tmp_path):
    assert list_checkpoints(tmp_path / "none") == []
    assert next_number(tmp_path) == 1


def test_what_may_not_be_read_is_neither_damaged_nor_absent(tmp_path, monkeypatch):
    """As it is where files belong to somebody else (root may read everything)."""
    path = save(tmp_path, 1)

    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refused)
        with pytest.raises(PermissionError):
            list_checkpoints(tmp_path)
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(PermissionError):
        load_checkpoint(path)


def test_a_checkpoint_that_is_set_aside_is_kept_and_counts_no_longer(tmp_path):
    for _ in range(2):
        aside = set_aside(save(tmp_path, 1))
        assert number_of(load_checkpoint(aside)) == 1
    assert list_checkpoints(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "hashes",
    [{}, {"/dev/zero": "0"}, {name: "0" for name in FILES}, None],
    ids=["none", "another", "one more", "no object"],
)
def test_exactly_the_known_files_are_hashed(tmp_path, hashes):
    """A list that others have written could switch the comparison off, or name any file."""
    file = save(tmp_path, 1) / "checkpoint.json"
    file.write_text(json.dumps({"schema_version": SCHEMA_VERSION, "sha256": hashes}))
    with pytest.raises(
        DamagedError, match=r"it has not the SHA-256 of weights\.safetensors, state"
    ):
        load_checkpoint(file.parent)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = save(tmp_path, 1)
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(DamagedError, match=f"{name} is no regular file"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", FILES)
def test_a_terabyte_is_refused_before_it_is_read(tmp_path, name):
    path = save(tmp_path, 1)
    os.truncate(path / name, 2**40)
    with pytest.raises(DamagedError, match=r"1,099,511,627,776 bytes"):
        load_checkpoint(path)


def sign(path):
    """Writes a checkpoint's checksums anew, as one who means to deceive does."""
    hashes = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES[:3]}
    (path / "checkpoint.json").write_text(
        json.dumps({"schema_version": SCHEMA_VERSION, "sha256": hashes})
    )


def test_an_archive_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    path = save(tmp_path, 1)
    with zipfile.ZipFile(path / "state.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**20))
    sign(path)
    with pytest.raises(DamagedError, match=r"state\.pt is compressed, which this program never"):
        load_checkpoint(path)


def test_a_state_that_is_no_dictionary_is_refused(tmp_path):
    path = save(tmp_path, 1)
    torch.save(torch.zeros(3), path / "state.pt")
    sign(path)
    with pytest.raises(DamagedError, match=r"state\.pt holds no values by name, but a Tensor"):
        load_checkpoint(path)


def test_another_schema_version_is_named(tmp_path):
    path = save(tmp_path, 1)
    file = path / "checkpoint.json"
    description = json.loads(file.read_text())
    file.write_text(json.dumps(description | {"schema_version": 99}))
    said = f"schema version 99, this program reads {SCHEMA_VERSION}; use the version"
    with pytest.raises(DamagedError, match=said):
        load_checkpoint(path)


class Payload:
    """What unpickles by making a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_pickle_with_code_is_refused(tmp_path, write):
    path, trace = save(tmp_path, 1), tmp_path / "executed"
    with open(path / "state.pt", "wb") as file:
        write({"number": Payload(trace)}, file)
    sign(path)
    with pytest.raises(DamagedError, match="cannot be read") as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)
    assert not trace.exists()


def test_modules_and_weights_must_agree(tmp_path):
    checkpoint = load_checkpoint(save(tmp_path, 1))
    with pytest.raises(RuntimeError, match="Missing key"):
        checkpoint.load({"other": nn.Linear(2, 1)})
    with pytest.raises(RuntimeError, match="size mismatch"):
        checkpoint.load({"net": nn.Linear(3, 1)})

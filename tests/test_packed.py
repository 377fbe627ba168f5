"""A packed run is the run, wherever it is opened; and a hostile file ends in one sentence."""

import json
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from command_line import assert_refused, worldmodel
from kinds import VERSE

from worldmodel import experiments, packed
from worldmodel.agents import WorldModelAgent
from worldmodel.checkpoint import weights_digest
from worldmodel.experiments.runs.cards import figures_of
from worldmodel.files import RunError, with_checksum
from worldmodel.packed import MANIFEST, read_manifest, unpacked
from worldmodel.run_folder import RunFolder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with two runs, and their packed files without and with episodes."""
    path = tmp_path_factory.mktemp("made")
    (path / "verse.txt").write_text(20 * VERSE)
    quick = ("--quick", "--threads", 1, "--out")
    env = ("--env", "CartPole-v1", "--keep", "best")
    assert worldmodel("train", "control", *env, *quick, path / "control").returncode == 0
    corpus = ("--corpus", path / "verse.txt")
    assert worldmodel("train", "text", *corpus, *quick, path / "text").returncode == 0
    for kind in ("control", "text"):
        facts = ("--licence", "MIT", "--data", "none")
        done = worldmodel("pack", path / kind, "--out", path / f"{kind}.wm", *facts)
        assert done.returncode == 0, done.stderr
        done = worldmodel("pack", path / kind, "--out", path / f"{kind}-full.wm", "--episodes")
        assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder of a user who has made nothing of what is opened."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # that nobody else writes into
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def evaluated(run: Path) -> dict:
    done = worldmodel("evaluate", run, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["control", "text"])
def test_a_run_packed_with_its_episodes_evaluates_as_its_folder_does(kind, made, here):
    shutil.copy(made / f"{kind}-full.wm", here / "mine.wm")
    ours, theirs = evaluated(here / "mine.wm"), evaluated(made / kind)
    assert (ours.pop("weights") == theirs.pop("weights")) == (kind == "control")  # all of them
    assert ours == theirs


def test_of_the_copies_that_learning_needs_one_is_packed(made):
    """The model that learns, its average, and the best of these are as large as each other."""
    folder = RunFolder.open(made / "text.wm")
    whole = RunFolder.open(made / "text").checkpoint().weights
    assert {key.partition(".")[0] for key in whole} == {"model", "average", "best"}
    packed_ = folder.checkpoint().weights
    assert packed_.keys() == {key for key in whole if key.startswith("best.")}
    assert all(torch.equal(value, whole[key]) for key, value in packed_.items())
    evaluation = json.loads(folder.evaluation_file.read_text())
    assert evaluation["weights"] == weights_digest(folder.checkpoint_path)


def test_a_run_packed_without_them_has_the_same_figures_but_for_units_of_errors(made, here):
    whole, packed_ = evaluated(made / "control"), evaluated(made / "control.wm")
    assert {k for k in whole if whole[k] != packed_[k]} == {"open_loop"}


def test_every_command_takes_the_file_and_nothing_is_written_beside_it(made, here):
    file = here / "inside" / "cart.wm"
    file.parent.mkdir()
    shutil.copy(made / "control-full.wm", file)
    for words in (
        ("video", file, "--steps", 2),
        ("plot", file, "--out", "curves.png"),
        ("export", file, "--out", "episodes"),
        ("generate", made / "text.wm", "--length", 5),
    ):
        done = worldmodel(*words)
        assert done.returncode == 0, done.stderr
    assert os.listdir(file.parent) == ["cart.wm"]
    written = {"curves.png", "episodes", "cart-videos", "text-generated"}
    assert {*os.listdir(here)} == written | {"inside"}


@pytest.mark.parametrize(
    "words", [("resume",), ("resume", "--steps", 5), ("repair",), ("evaluate", "--save")]
)
def test_it_is_only_read(words, made, here):
    verb, *options = words
    assert_refused(worldmodel(verb, made / "control.wm", *options), "which is only read")


def test_what_needs_the_episodes_says_who_has_them(made, here):
    for words in (("export", made / "control.wm", "--out", "x"), ("evaluate", made / "text.wm")):
        assert_refused(worldmodel(*words), "was packed without its episodes")


def test_a_loaded_agent_acts_and_does_not_go_on_learning(made):
    whole = WorldModelAgent.load(made / "control")
    for name, episodes in (("control", 0), ("control-full", len(whole.training.store))):
        agent = WorldModelAgent.load(made / f"{name}.wm")
        assert len(agent.training.store) == episodes
        assert (
            agent.evaluate(2, seed=1).returns.tolist()
            == whole.evaluate(2, seed=1).returns.tolist()
        )
        with pytest.raises(RunError, match="packed run"):
            agent.learn(5)


def test_a_loaded_model_dreams_and_does_not_go_on_learning(made):
    whole, model = experiments.load(made / "text"), experiments.load(made / "text.wm")
    assert model.log_prob(["the cat"]) == whole.log_prob(["the cat"])
    with pytest.raises(RunError, match="packed run"):
        model.fit("abc", updates=1)


def test_it_holds_no_path_of_the_machine_no_code_and_nothing_pickled(made):
    for file in made.glob("*.wm"):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                text = archive.read(name)
                assert str(made).encode() not in text, (file, name)
                assert str(Path.home()).encode() + b"/" not in text, (file, name)
                assert Path(name).suffix in packed.SUFFIXES
                assert not text.startswith(b"\x80")
            config = json.loads(archive.read("config.json"))["config"]
            assert not any(str(value).startswith("/") for value in leaves(config))


def leaves(value):
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)
    else:
        yield value


def test_the_card_has_the_figures_of_the_evaluation(made):
    for kind in ("control", "text"):
        manifest = read_manifest(made / f"{kind}.wm")
        evaluation = json.loads((made / kind / "evaluation.json").read_text())
        assert manifest.card["figures"] == figures_of(evaluation)
        folder = unpacked(made / f"{kind}.wm")
        page = (folder / "README.md").read_text()
        front = page.split("---")[1].strip().splitlines()
        said = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in front}
        assert said["license"] == "mit"
        (results,) = said["model-index"][0]["results"]
        metrics = results["metrics"]
        assert metrics
        for metric in metrics:
            key = {"mean_reward": "real_return_mean"}.get(metric["type"], metric["type"])
            assert metric["value"] == evaluation[key]


def test_packing_twice_gives_the_same_file(made, here):
    done = worldmodel(
        "pack", made / "text", "--out", "text.wm", "--licence", "MIT", "--data", "none"
    )
    assert done.returncode == 0, done.stderr
    assert Path("text.wm").read_bytes() == (made / "text.wm").read_bytes()


def test_the_folder_is_removed_when_the_program_ends(made, here, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(here))
    shutil.copy(made / "text.wm", "one.wm")
    read, write = os.pipe()
    if not (child := os.fork()):
        folder = RunFolder.open(Path("one.wm"))
        again = RunFolder.open(Path("one.wm"))
        os.write(write, b"1" if folder.path == again.path and folder.path.is_dir() else b"0")
        packed.atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    assert os.listdir(here) == ["one.wm"]


# Of a stranger.

EVIL = """
from pathlib import Path

Path({mark!r}).touch()
"""


def repacked(source: Path, target: Path, change=lambda files: None, **described) -> Path:
    """A packed run with other files, whose manifest is made right. change: of contents by name."""
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop(MANIFEST))
    change(files)
    digest = packed.hashlib.sha256
    listed = {name: [len(data), digest(data).hexdigest()] for name, data in files.items()}
    manifest |= {"files": listed} | described
    manifest.pop("checksum")
    files = {MANIFEST: json.dumps(with_checksum(manifest)).encode()} | files
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target


def test_looking_at_a_packed_run_imports_nothing_that_it_names(made, here):
    mark = here / "ran"
    (here / "evil.py").write_text(EVIL.format(mark=str(mark)))

    def change(files):
        described = json.loads(files["config.json"])
        del described["checksum"]
        described["config"]["environment"] |= {"env": "evil:Evil-v0", "env_path": str(here)}
        files["config.json"] = json.dumps(described).encode()

    file = repacked(made / "control.wm", here / "run.wm", change)
    assert worldmodel("video", file, "--steps", 2, "--out", "film.gif").returncode == 0
    assert worldmodel("plot", file, "--out", "curves.png").returncode == 0
    WorldModelAgent.load(file)
    assert_refused(worldmodel("evaluate", file), "run.wm was not made here", "--trust")
    assert not mark.exists()


def entry(name="x.json", **fields) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


LINK = (stat.S_IFLNK | 0o777) << 16
ENTRIES = {
    "which leads out": (entry("../out.json"), "leads out of a folder"),
    "of the root": (entry("/out.json"), "leads out of a folder"),
    "of the root of another system": (entry("C:\\out.json"), "is no path"),
    "that is hidden": (entry("checkpoints/.part"), "leads out of a folder"),
    "that is code": (entry("torch.py"), "no part of a run"),
    "that is a pickle": (entry("checkpoints/state.pt"), "no part of a run"),
    "that is a folder": (entry("episodes/"), "leads out of a folder"),
    "that is a link": (entry(external_attr=LINK), "no regular file"),
    "with a name of escapes": (entry("x\x1b[2J.json"), "is no path"),
    "of a strange method": (entry(compress_type=zipfile.ZIP_BZIP2), "never does"),
    "beside the others": (entry("extra.json"), "other files than its"),
    "of a name that is there": (entry("config.json"), "several files of one name"),
    "in the place of a folder": (entry("checkpoints"), "several files of one name"),
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_is_refused(name, made, here):
    """And nothing of the file is written."""
    info, sentence = ENTRIES[name]
    file = Path(shutil.copy(made / "text.wm", here / "run.wm"))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(info, b"owned", info.compress_type)
    refused(file, sentence)


def refused(file: Path, *words: str) -> None:
    before = {*os.listdir(file.parent)}, {*os.listdir(tempfile.gettempdir())}
    assert_refused(worldmodel("generate", file, "--length", 5), *words)
    assert_refused(worldmodel("evaluate", file), *words)
    assert ({*os.listdir(file.parent)}, {*os.listdir(tempfile.gettempdir())}) == before


def test_an_encrypted_entry_is_refused(made, here):
    data = bytearray((made / "text.wm").read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 8] |= 1
    (here / "run.wm").write_bytes(data)
    refused(here / "run.wm", "which is encrypted")


def test_a_bomb_is_refused_before_it_is_unpacked(made, here, monkeypatch):
    monkeypatch.setattr(packed, "SPARED", 2**16)

    def change(files):
        files["episodes/rows"] = bytes(2**25)

    refused(repacked(made / "text.wm", here / "run.wm", change), "would take", "is not read")


def test_what_is_larger_than_it_says_is_not_written_beyond(made, here):
    """The manifest and the list of files agree on a size; the content has another."""

    def change(files):
        files["episodes/rows"] = b"x" * 50_000

    file = repacked(made / "text.wm", here / "run.wm", change)
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("episodes/rows").header_offset
    data = bytearray(file.read_bytes())
    at = data.index(b"episodes/rows", data.index(b"PK\x01\x02", offset + 30)) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    data[at + 24 : at + 28] = struct.pack("<L", 10)
    file.write_bytes(data)
    refused(file, "other files than its manifest.json lists")


def test_a_long_list_of_files_is_refused_before_it_is_read(made, here):
    data = bytearray((made / "text.wm").read_bytes())
    data[-14:-10] = struct.pack("<2H", 65_000, 65_000)
    (here / "run.wm").write_bytes(data)
    refused(here / "run.wm", "more than 10,000")


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_ends_in_a_sentence(seed, made, here):
    import random

    chance = random.Random(seed)
    data = bytearray((made / "text.wm").read_bytes())
    if seed % 3 == 0:
        del data[chance.randrange(len(data)) :]
    elif seed % 3 == 1:
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
    else:
        end = data.index(b"PK\x01\x02")
        at = chance.randrange(end, len(data))
        data[at] ^= 1 << chance.randrange(8)
    (here / "run.wm").write_bytes(data)
    done = worldmodel("generate", here / "run.wm", "--length", 5)
    if done.returncode != 0:
        assert_refused(done)


def test_another_format_is_refused(made, here):
    file = repacked(made / "text.wm", here / "run.wm", format=2)
    refused(file, "format 2", "use the version of the package that made it")


@pytest.mark.parametrize("name", ["run.zip", ".wm", "a b.wm", "there.wm", "there.wm/run.wm"])
def test_a_target_that_is_no_name_is_refused(name, made, here):
    (here / "there.wm").write_text("mine")
    reason = "cannot be made" if "/" in name else "--out"
    assert_refused(worldmodel("pack", made / "text", "--out", name), reason)
    assert (here / "there.wm").read_text() == "mine"


def test_rows_that_are_all_the_same_can_be_packed_and_read(made, here, monkeypatch):
    """What a packed run may grow to is what packing keeps to."""
    monkeypatch.setattr(packed, "SPARED", 2**16)
    inside = here / "inside"
    shutil.copytree(unpacked(made / "text.wm"), inside)
    (inside / MANIFEST).unlink()
    (inside / "episodes" / "rows").write_bytes(bytes(2**23))
    facts = {"name": "x", "experiment": "text", "episodes": False, "card": {}}
    packed.pack(inside, here / "x.wm", facts)
    assert (unpacked(here / "x.wm") / "episodes" / "rows").stat().st_size == 2**23

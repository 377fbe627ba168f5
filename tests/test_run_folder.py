"""Run folders: what is done to one as a whole is done, or not, whenever the process is killed."""

import json
from pathlib import Path

import pytest

from worldmodel import run_folder
from worldmodel.files import DamagedError, write_json
from worldmodel.run_folder import RunError, RunFolder, put_in_place

RENAME = Path.rename


@pytest.fixture
def killed_at(monkeypatch):
    """Makes the `number`th renaming of what lies at the top of a run the end of the process."""

    def killed_at(number):
        left = [number]

        def rename(path, target):
            left[0] -= not path.name.startswith(".part")
            if not left[0]:
                raise KeyboardInterrupt
            return RENAME(path, target)

        monkeypatch.setattr(Path, "rename", rename)

    return killed_at


def created(path, seed=0):
    return RunFolder.create(path, "text", {"seed": seed})


def test_a_run_that_was_killed_as_it_was_made_can_be_made_again(tmp_path, monkeypatch):
    def killed(path, value):
        path.with_name(f".part-1234-{path.name}").write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            created(tmp_path / "run")
    assert created(tmp_path / "run").description.config == {"seed": 0}
    with pytest.raises(RunError, match="already exists"):
        created(tmp_path / "run")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_files_that_are_moved_together_are_all_moved(tmp_path, killed_at, number):
    folder = created(tmp_path / "run")
    old, new, aside, other = (folder.path / name for name in ("old", "new", "aside", "other"))
    old.write_text("old")
    new.write_text("new")
    killed_at(number)
    with folder.locked(), pytest.raises(KeyboardInterrupt):
        folder.move([(old, aside), (new, old), (aside, other)])
    killed_at(0)
    RunFolder.open(folder.path)
    assert (old.read_text(), other.read_text()) == ("new", "old")
    assert not new.exists()
    assert not aside.exists()
    assert not (folder.path / "moves.json").exists()


@pytest.mark.parametrize("name", ["../mine", "/tmp/mine", 3, None])
def test_nothing_is_moved_out_of_a_run(tmp_path, name):
    folder = created(tmp_path / "run")
    moves = [["config.json", name]] if name else None
    write_json(folder.path / "moves.json", {"moves": moves})
    if name == 3:
        (folder.path / "moves.json").write_text(json.dumps({"moves": [name]}))
    with pytest.raises(DamagedError, match=r"moves\.json is damaged"):
        RunFolder.open(folder.path)
    assert folder.config_file.exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_that_was_about_to_be_replaced_is_there(tmp_path, killed_at, number):
    target = created(tmp_path / "run", seed=1).path
    killed_at(number)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(created(tmp_path / "new", seed=2).path, target)
    killed_at(0)
    assert RunFolder.open(target).description.config == {"seed": 1}
    put_in_place(tmp_path / "new", target)
    assert RunFolder.open(target).description.config == {"seed": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]

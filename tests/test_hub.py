"""Runs go to the Hub and come back as they were; it is a stand-in of its client's interface."""

import inspect
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import assert_refused, worldmodel
from runs import TINY, assert_same_weights

from worldmodel.agents import WorldModelAgent


class Hub:
    """Repositories in a folder, by the functions of huggingface_hub that we call."""

    def __init__(self, place: Path):
        self.place = place
        self.calls: list[tuple[str, dict]] = []

    def create_repo(self, **options) -> str:
        self.calls.append(("create_repo", options))
        (self.place / options["repo_id"]).mkdir(parents=True, exist_ok=options["exist_ok"])
        return options["repo_id"]

    def upload_folder(self, **options) -> SimpleNamespace:
        self.calls.append(("upload_folder", options))
        target = self.place / options["repo_id"]
        shutil.copytree(options["folder_path"], target, dirs_exist_ok=True)
        return SimpleNamespace(commit_url=f"https://hub/{options['repo_id']}/commit/1")

    def hf_hub_download(self, **options) -> str:
        self.calls.append(("hf_hub_download", options))
        source = self.place / options["repo_id"] / options["filename"]
        if not source.exists():
            raise OSError(f"404: there is no {options['repo_id']}\nand more")
        target = Path(options["local_dir"]) / options["filename"]
        target.parent.mkdir(parents=True)
        return str(shutil.copy(source, target))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    module = SimpleNamespace(HfApi=lambda: made, hf_hub_download=made.hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.chdir(tmp_path)
    return made


def test_what_is_pushed_is_pulled(hub):
    agent = WorldModelAgent("CartPole-v1", **TINY).learn(50)
    agent.save("mine")
    done = worldmodel("push", "mine", "me/cart", "--private", "--licence", "MIT")
    assert done.returncode == 0, done.stderr
    assert "https://hub/me/cart/commit/1" in done.stderr
    there = hub.place / "me" / "cart"
    assert {file.name for file in there.iterdir()} == {"README.md", "run.wm"}
    assert (there / "README.md").read_text().startswith('---\nlibrary_name: "worldmodel-gym"\n')
    done = worldmodel("pull", "me/cart")
    assert done.returncode == 0, done.stderr
    pulled = WorldModelAgent.load("cart.wm")
    assert pulled.predict([0.0] * 4, deterministic=True)[0] in (0, 1)
    assert_same_weights(pulled.model.state_dict(), agent.model.state_dict())
    assert_refused(worldmodel("pull", "me/cart"), "already exists")
    done = worldmodel("push", "cart.wm", "you/again")  # as it is
    assert (hub.place / "you" / "again" / "run.wm").read_bytes() == Path("cart.wm").read_bytes()
    assert all(asked_as_they_are(name, options) for name, options in hub.calls)


def asked_as_they_are(name: str, options: dict) -> bool:
    """True if the client, where it is installed, understands a call."""
    kept = sys.modules.pop("huggingface_hub")
    try:
        real = pytest.importorskip("huggingface_hub")
        function = getattr(real, name)
        return set(options) <= set(inspect.signature(function).parameters)
    finally:
        sys.modules["huggingface_hub"] = kept


def test_what_is_pulled_is_checked_before_it_is_written(hub):
    there = hub.place / "me" / "evil"
    there.mkdir(parents=True)
    (there / "run.wm").write_text("no zip file")
    assert_refused(worldmodel("pull", "me/evil"), "no packed run")
    assert not Path("evil.wm").exists()


def test_the_errors_of_the_hub_are_sentences(hub):
    assert_refused(worldmodel("pull", "me/none"), "the Hub and me/none: 404", "logged in")
    for id in ("none", "me/", "a/b/c", "../x"):
        assert_refused(worldmodel("pull", id), "a run on the Hub has a name like")


def test_without_the_client_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    assert_refused(worldmodel("pull", "me/cart"), "pip install 'worldmodel-gym[hub]'")

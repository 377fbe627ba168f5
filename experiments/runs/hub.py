"""Runs on the Hugging Face Hub: a packed run and its card, as a repository of its own."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from worldmodel.experiments.runs.cards import CardConfig
from worldmodel.experiments.runs.packing import check_target, pack_run
from worldmodel.files import RunError, writing
from worldmodel.packed import CARD, SUFFIX, Manifest, unpack
from worldmodel.run_folder import RunFolder

FILE = f"run{SUFFIX}"  # of a repository
ID = "a name like you/your-run"


def push(
    folder: RunFolder, id: str, card: CardConfig, episodes: bool = False, private: bool = False
) -> str:
    """Packs a run, unless it is packed already, and puts it and its card on the Hub; returns where
    it is to be seen."""
    check_id(id)
    api = _hub().HfApi()
    with tempfile.TemporaryDirectory(prefix="worldmodel-") as temporary:
        place = Path(temporary)
        file = place / f"{id.rpartition('/')[2]}{SUFFIX}"
        if folder.packed is None:
            pack_run(folder, file, card, episodes)
        else:
            shutil.copy(folder.packed, file)
        inside = place / "inside"
        unpack(file, inside)
        upload = place / "upload"
        upload.mkdir()
        file.rename(upload / FILE)
        for name in (CARD, "evaluation.json"):
            if (inside / name).exists():
                shutil.copy(inside / name, upload)
        with _told(id):
            api.create_repo(repo_id=id, repo_type="model", private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=id, folder_path=str(upload), commit_message="A run, by worldmodel push"
            )
    return str(getattr(done, "commit_url", done))


def pull(id: str, target: Path, revision: str | None = None) -> Manifest:
    """Gets a packed run from the Hub, and writes it to a file once all of it has been checked."""
    check_id(id)
    check_target(target)
    with tempfile.TemporaryDirectory(prefix="worldmodel-") as temporary:
        place = Path(temporary)
        with _told(id):
            found = _hub().hf_hub_download(
                repo_id=id, filename=FILE, revision=revision, local_dir=str(place / "got")
            )
        manifest = unpack(Path(found), place / "inside")
        with writing(target) as part:
            shutil.copyfile(found, part)
    return manifest


def check_id(id: str) -> None:
    """Raises RunError for what is no name of a repository."""
    owner, _, name = id.partition("/")
    if not (owner and name) or "/" in name or id != id.strip() or ".." in id:
        raise RunError(f"a run on the Hub has {ID}, got {id!r}")


class _told:  # noqa: N801 (a context manager, as `contextlib`'s are)
    """Context manager that makes one sentence of the Hub's errors."""

    def __init__(self, id: str):
        self.id = id

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, RunError):
            first = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RunError(
                f"the Hub and {self.id}: {first}; is the name right, and are you logged in "
                "(`hf auth login`)?"
            ) from error


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise RunError(
            "the Hub needs the package huggingface_hub: pip install 'worldmodel-gym[hub]'"
        ) from error
    return huggingface_hub

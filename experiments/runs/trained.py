"""Trained runs that come with the package, by name; a path that exists is meant before a name."""

import difflib
from importlib.resources import files
from pathlib import Path

from worldmodel.packed import SUFFIX, Manifest, read_manifest
from worldmodel.run_folder import RunError

HERE = Path(str(files("worldmodel.experiments.trained")))


def trained_runs() -> dict[str, Path]:
    """The packed files of the runs that come with the package, by name."""
    return {file.stem: file for file in sorted(HERE.glob(f"*{SUFFIX}"))}


def manifests() -> dict[str, Manifest]:
    """The manifests of these runs, by name."""
    return {name: read_manifest(file) for name, file in trained_runs().items()}


def run_at(path: Path) -> Path:
    """The folder or file of a run: the path, if there is something at it, or else that of the run
    of this name that comes with the package.

    Raises RunError where there is neither.
    """
    if path.exists() or path.with_name(f".{path.name}.gone").exists():
        return path
    known = trained_runs()
    if str(path) in known:
        return known[str(path)]
    near = difflib.get_close_matches(str(path), known, n=1, cutoff=0.6)
    guess = f"; did you mean {near[0]}, which comes with the package?" if near else ""
    raise RunError(f"there is no run at {path}{guess}")


def is_run(word: str) -> bool:
    """True if a word of the command line is the path or the name of a run."""
    path = Path(word)
    if path.exists():
        return (path / "config.json").is_file() or (path.suffix == SUFFIX and path.is_file())
    return word in trained_runs()

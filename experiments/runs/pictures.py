"""Checks of picture files before long work."""

from importlib.util import find_spec
from pathlib import Path

from worldmodel.experiments.runs.places import make_parent
from worldmodel.run_folder import RunError


def check_picture(path: Path, option: str) -> None:
    """Raises the errors of drawing before the work, and makes the folder."""
    if find_spec("matplotlib") is None:
        raise RunError(f"{option} needs matplotlib: pip install 'worldmodel-gym[plots]'")
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise RunError(f"{option} expects a .png, .svg or .pdf, got {path}")
    make_parent(path)

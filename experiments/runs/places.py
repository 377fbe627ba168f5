"""Places of files that commands write."""

from pathlib import Path

from worldmodel.run_folder import RunError


def make_parent(path: Path) -> None:
    """Makes the folder that a file is to be written to, before the work that it holds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written: the folder {path.parent} cannot be made "
            f"({error.strerror}): choose another place"
        ) from error

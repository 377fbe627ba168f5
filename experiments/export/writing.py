"""The files that exported models are written to: a folder of ONNX graphs, or one page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from worldmodel.experiments.export.graphs import Exported
from worldmodel.experiments.export.page import page_of
from worldmodel.experiments.runs.places import make_parent
from worldmodel.files import making, write_json, write_text
from worldmodel.graphs.tape import ExportError
from worldmodel.run_folder import RunError

FILE = "model.json"
SCHEMA_VERSION = 1


class Writer(NamedTuple):
    """A format of exported models."""

    check: Callable[[Path], None]  # raises the errors of writing before the work
    write: Callable[[Exported, Path], None]


def check_folder(path: Path) -> None:
    """Refuses anything but a new or an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"{path} already exists: choose another --out")


def write_folder(exported: Exported, path: Path) -> None:
    """Writes a graph a file, and model.json, which describes them."""
    with making(path.resolve()) as part:
        graphs: dict[str, Any] = {}
        for name, graph in exported.graphs.items():
            (part / f"{name}.onnx").write_bytes(graph.model.SerializeToString())
            graphs[name] = {"file": f"{name}.onnx"} | graph.described()
        about = {"schema_version": SCHEMA_VERSION, **exported.about, "graphs": graphs}
        write_json(part / FILE, about)


def check_page(path: Path) -> None:
    """Refuses a page where no page can be, and makes the folder."""
    if path.is_dir() or path.suffix.lower() not in (".html", ".htm"):
        raise RunError(f"--out is the page to be written, such as dream.html, got {path}")
    make_parent(path)


def write_page(exported: Exported, path: Path) -> None:
    """Writes one page that plays the dream."""
    write_text(path, page_of(exported))


WRITERS = {"onnx": Writer(check_folder, write_folder), "html": Writer(check_page, write_page)}


@contextmanager
def exporting(run: Path) -> Iterator[None]:
    """Context manager in which what cannot be exported is a sentence about the run."""
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise RunError(
            f"models are exported with {' and '.join(missing)}, not installed here: "
            "pip install 'worldmodel-gym[onnx]'"
        )
    try:
        yield
    except ExportError as error:
        raise RunError(f"{run} cannot be exported: {error}") from error

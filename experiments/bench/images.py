"""Images on disk: throughput and resident memory of drawing batches.

    worldmodel bench images --gigabytes 4.4

Writes files of random images (.npy, and an uncompressed .npz), draws batches from them as
`worldmodel train vae` does, and then as many by numpy alone, from the same files mapped into
memory. Resident memory is the process's peak as the system reports it, read before numpy's turn,
whose mapped pages would count.
"""

import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from rich.table import Table

from worldmodel.experiments.bench.settings import ImagesSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.images.files import open_images
from worldmodel.image_batches import Batches
from worldmodel.progress import Reporter
from worldmodel.reports import peak_memory
from worldmodel.run_folder import RunError

SHAPE = (64, 64, 3)
FILES = 8
PIECE = 512  # images that are written at a time
BATCH, SUPER_BATCH = 128, 4_096


def run(settings: ImagesSettings, reporter: Reporter) -> dict[str, Any]:
    """Makes files in a folder (a temporary one by default), measures, and removes them."""
    if settings.dir is not None and not settings.dir.is_dir():
        raise RunError(f"there is no folder {settings.dir}; make it, or leave out --dir")
    with tempfile.TemporaryDirectory(dir=settings.dir, prefix="images-") as made:
        number = max(1, round(settings.gigabytes * 1e9 / FILES / np.prod(SHAPE)))
        with reporter.stage("writing images", FILES, 0, "files") as stage:
            for file in range(FILES):
                write(Path(made), file, number)
                stage.update(file + 1)
        return measure(Path(made), settings.samples)


def write(folder: Path, file: int, number: int) -> None:
    """One file of random images; the last one is an uncompressed archive."""
    path = folder / (f"{file}.npz" if file == FILES - 1 else f"{file}.npy")
    try:
        if path.suffix == ".npy":
            with open(path, "wb") as out:
                _write_array(out, file, number)
        else:
            with (
                zipfile.ZipFile(path, "w") as archive,
                archive.open("images.npy", "w", force_zip64=True) as out,
            ):
                _write_array(out, file, number)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}") from error


def _write_array(out: IO[bytes], seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    npy.write_array_header_1_0(
        out, {"descr": "|u1", "fortran_order": False, "shape": (number, *SHAPE)}
    )
    for begin in range(0, number, PIECE):
        size = (min(PIECE, number - begin), *SHAPE)
        out.write(random.integers(256, size=size, dtype=np.uint8).tobytes())


def measure(folder: Path, samples: int) -> dict[str, Any]:
    """Draws `samples` images from the files of a folder, by this package and by numpy."""
    paths = sorted(folder.iterdir())
    before = peak_memory()
    batches = Batches(open_images(folder), BATCH, SUPER_BATCH)
    ours = rate(samples, lambda: len(next(batches)))
    highest = peak_memory()
    arrays = [np.load(path, mmap_mode="r") for path in paths if path.suffix == ".npy"]
    random = np.random.default_rng(0)

    def by_numpy() -> int:
        """Draws a super-batch across the files that numpy can map."""
        drawn = [
            array[random.integers(len(array), size=SUPER_BATCH // len(arrays))] for array in arrays
        ]
        return sum(map(len, drawn))

    return {
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "images": sum(map(len, batches.datasets)),
        "resident_before_bytes": before,
        "resident_bytes": highest,
        "samples_per_second": ours,
        "numpy_samples_per_second": rate(samples, by_numpy),
    }


def rate(samples: int, draw: Callable[[], int]) -> float:
    """Images a second of `draw`, which returns how many it drew; called until `samples` were."""
    begun, drawn = time.perf_counter(), 0
    while drawn < samples:
        drawn += draw()
    return drawn / (time.perf_counter() - begun)


def tables(result: dict[str, Any]) -> list[Table]:
    """The table of `bench images`."""
    figures = (
        ("GB in files", f"{result['bytes'] / 1e9:.2f}"),
        ("files", str(result["files"])),
        ("images", f"{result['images']:,}"),
        ("GiB resident before", f"{result['resident_before_bytes'] / 2**30:.2f}"),
        ("GiB resident, at the most", f"{result['resident_bytes'] / 2**30:.2f}"),
        ("samples a second", f"{result['samples_per_second']:,.0f}"),
        ("numpy's own", f"{result['numpy_samples_per_second']:,.0f}"),
    )
    return [table("images on disk", ("", ""), figures)]

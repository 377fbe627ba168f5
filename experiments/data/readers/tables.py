"""Tables from files: .csv and .parquet by polars (the extra `series`), .npz by numpy alone."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.experiments.data.readers.files import BadFileError, contents, reason_of
from worldmodel.experiments.data.readers.npz import read_arrays
from worldmodel.sequence_model.tables import Columns, TableError, columns_of

TABLE_SUFFIXES = (".csv", ".parquet", ".npz")
MOST = 2**30  # bytes of a file
EMPTY = ["", "NA", "NaN", "nan", "null", "None"]  # cells of a .csv that are missing


def read_table(path: Path) -> Columns:
    """The columns of a table. Raises BadFileError, and nothing else, for whatever is in the
    file."""
    try:
        return columns_of(_read(path))
    except TableError as error:
        raise BadFileError(f"{path}: {error}") from error


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise BadFileError(
            f"{path} expects a table that ends in {', '.join(TABLE_SUFFIXES)}: convert it"
        )
    if suffix == ".npz":
        return _columns_in(path)
    if find_spec("polars") is None:
        raise BadFileError(
            f"{path} needs polars: pip install 'worldmodel-gym[series]'; .npz does without"
        )
    data = contents(path, MOST)
    import polars

    try:
        if suffix == ".parquet":
            return polars.read_parquet(data)
        return polars.read_csv(
            data, infer_schema_length=None, null_values=EMPTY, try_parse_dates=True
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of polars is no Exception
        raise BadFileError(
            f"{path} expects a table of {suffix[1:]} and cannot be read: "
            f"{reason_of(Exception(str(error)))[:150]}; write it again"
        ) from error


def _columns_in(path: Path) -> dict[str, np.ndarray]:
    """The columns of an .npz: arrays [T], and those of arrays [T, C] by name and place."""
    columns: dict[str, np.ndarray] = {}
    for name, array in read_arrays(path).items():
        if isinstance(array, list) or array.ndim not in (1, 2):
            shape = "a list" if isinstance(array, list) else list(array.shape)
            raise BadFileError(
                f"{path} expects columns [T] or [T, C], but {name!r} is {shape}: give one series "
                "a file, or all in one table with a column that tells them apart (--by)"
            )
        parts = {name: array} if array.ndim == 1 else _by_place(name, array)
        columns |= parts
    if not columns:
        raise BadFileError(f"{path} holds no array: write it again with np.savez")
    return columns


def _by_place(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}.{place}": array[:, place] for place in range(array.shape[1])}

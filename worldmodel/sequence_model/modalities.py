"""The library's own modalities: which fits data, and how it is saved."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodel.sequence_model.config import SeriesConfig
from worldmodel.sequence_model.modality import Arrays, Characters, Modality, recordings_of
from worldmodel.sequence_model.series import Series
from worldmodel.sequence_model.series_columns import Description
from worldmodel.sequence_model.tables import is_table
from worldmodel.space_json import from_json


def described(modality: Modality) -> dict[str, Any]:
    """A modality of the library as JSON."""
    if isinstance(modality, Characters):
        return {"symbols": modality.symbols}
    if isinstance(modality, Arrays):
        return modality.to_json()
    if isinstance(modality, Series):
        return {"series": modality.description.to_json()}
    raise ValueError(f"{type(modality).__name__} cannot be saved by itself")


def modality_from(saved: dict[str, Any]) -> Modality:
    """The modality whose description `described` gives."""
    if "symbols" in saved:
        return Characters(saved["symbols"])
    if "series" in saved:
        return Series(Description.from_json(saved["series"]))
    return Arrays(from_json(saved["space"]), saved["dtype"])


def modality_of(
    data: Any, space: spaces.Space | None = None, series: SeriesConfig | None = None
) -> Modality:
    """The modality of a user's data: time series, if they are tables, have missing values or are
    said to be `series`; else strings, or arrays of a space."""
    if series is not None or _are_tables(data):
        return Series.of(data, series)
    recordings = recordings_of(data)
    if space is not None:
        return Arrays(space, str(np.asarray(recordings[0]).dtype))
    if any(_has_missing(recording) for recording in recordings):
        return Series.of(data)
    if all(isinstance(recording, str) for recording in recordings):
        return Characters.of(recordings)
    return Arrays.of([np.asarray(recording) for recording in recordings])


def _are_tables(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return bool(data) and all(map(is_table, data))
    return is_table(data)


def _has_missing(recording: Sequence[Any]) -> bool:
    array = None if isinstance(recording, str) else np.asarray(recording)
    return array is not None and array.dtype.kind == "f" and bool(np.isnan(array).any())

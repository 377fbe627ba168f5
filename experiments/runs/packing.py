"""Packing of runs: what of a run's folder is passed on, and the card that goes with it.

A packed run has the configuration without paths of the machine, the metrics, the weights of the
checkpoint that the run keeps, its evaluation and a card; the episodes only if they are asked for.
"""

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cattrs

import worldmodel
from worldmodel.checkpoint import (
    Checkpoint,
    list_checkpoints,
    weights_digest,
    write_checkpoint,
)
from worldmodel.experiments.runs import cards
from worldmodel.experiments.runs.cards import CardConfig
from worldmodel.experiments.runs.command import command_of
from worldmodel.experiments.runs.places import make_parent
from worldmodel.experiments.runs.registry import config_of, implementation
from worldmodel.files import append_json, crc32_of, write_json, write_text
from worldmodel.packed import CARD, SUFFIX, Manifest, pack
from worldmodel.run_folder import SCHEMA_VERSION, RunError, RunFolder

PATH = re.compile(r"(?<![\w.:/~<])/(?:[^/\s\"',:]+/)*(?=[^/\s\"',:])")  # up to its last name


def pack_run(
    folder: RunFolder,
    target: Path,
    card: CardConfig = CardConfig(),
    episodes: bool = False,
) -> Manifest:
    """Packs a run as it is to be loaded: as the checkpoint that it keeps left it.

    target: the file, named NAME.wm; nothing may be there.
    """
    check_target(target)
    folder.check_writable()
    folder = folder.kept()
    if not list_checkpoints(folder.checkpoints):
        raise RunError(f"{folder.path} has learned nothing yet: there is nothing to pack")
    checkpoint, config = folder.checkpoint(), config_of(folder)
    experiment = implementation(folder.experiment)
    hook = getattr(experiment, "packed", None)
    if episodes and hook is None:
        raise RunError(f"runs of {folder.experiment} have no episodes to pack: leave it out")
    with tempfile.TemporaryDirectory(prefix="worldmodel-") as temporary:
        place = Path(temporary) / target.stem
        place.mkdir()
        described = {"experiment": folder.experiment, "config": folder.description.config}
        if hasattr(experiment, "anywhere"):
            config = experiment.anywhere(config)
            described["config"] = cattrs.unstructure(config)
        plain = portable(described)
        write_json(place / "config.json", {"schema_version": SCHEMA_VERSION, **plain})
        values = dict(checkpoint.values)
        if hook is not None:
            values = hook(folder, values, place, episodes)
        values |= _metrics(folder, place)
        name = folder.checkpoint_path.name
        number = int(name.rpartition("-")[2])
        weights = _shown(checkpoint, getattr(experiment, "shown", None))
        content = checkpoint._replace(weights=weights, state={}, values=values | {"best": None})
        written = write_checkpoint(place / folder.checkpoints.name, number, content)
        evaluation = _evaluation(folder, name)
        if evaluation is not None:
            if "weights" in evaluation:
                evaluation["weights"] = weights_digest(written)
            write_json(place / folder.evaluation_file.name, evaluation)
        facts = cards.facts_of(
            card,
            evaluation or {},
            command=portable(command_of(config, target.stem)),
            trained=checkpoint.values.get("saved"),
            seconds=checkpoint.values.get("seconds"),
            version=worldmodel.__version__,
        )
        write_text(place / CARD, cards.page(target.stem, folder.experiment, facts, episodes))
        what: dict[str, Any] = {"name": target.stem, "experiment": folder.experiment}
        return pack(place, target, what | {"episodes": episodes, "card": facts})


def _shown(checkpoint: Checkpoint, shown: Callable[..., str] | None) -> dict[str, Any]:
    """The weights of a checkpoint that are read where nothing is gone on with; shown: the name of
    the one module that has them, of an experiment whose others only learn."""
    if shown is None:
        return checkpoint.weights
    names = {key.partition(".")[0] for key in checkpoint.weights}
    kept = shown(checkpoint.values, names)
    return {key: value for key, value in checkpoint.weights.items() if key.startswith(f"{kept}.")}


def check_target(target: Path) -> None:
    """Raises RunError unless a packed run can be written to a path."""
    if target.suffix != SUFFIX or not target.stem:
        raise RunError(
            f"a packed run is named like run{SUFFIX}, got {target}: choose another --out"
        )
    if not re.fullmatch(r"[\w.-]+", target.stem) or target.stem.startswith("."):
        raise RunError(
            f"the name of a packed run has letters, digits, dots, dashes and underscores, got "
            f"{target.stem}: choose another --out"
        )
    if target.exists():
        raise RunError(f"{target} already exists: choose another --out, or remove it")
    make_parent(target)


def portable(value: Any) -> Any:
    """JSON without absolute paths: each is its last name.

    >>> portable({"data": ["/data/me/my music"], "env": "a/b-v0", "scored": "/x/y, 3 a/b"})
    {'data': ['my music'], 'env': 'a/b-v0', 'scored': 'y, 3 a/b'}
    """
    if isinstance(value, Mapping):
        return {key: portable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [portable(part) for part in value]
    if not isinstance(value, str):
        return value
    if value.startswith("/") and "," not in value and Path(value).name:
        return Path(value).name
    return PATH.sub("", value)


def _metrics(folder: RunFolder, place: Path) -> dict[str, int]:
    """Writes the metrics of a run; returns what a checkpoint says of them."""
    file = place / folder.metrics_file.name
    for record in folder.metrics():
        append_json(file, portable(record))
    size = file.stat().st_size if file.exists() else 0
    return {"metrics_size": size, "metrics_crc32": crc32_of(file, 0, size) if size else 0}


def _evaluation(folder: RunFolder, checkpoint: str) -> dict[str, Any] | None:
    """The evaluation of a checkpoint, if the run has one of it."""
    found = folder.evaluation()
    if found is None or found.get("checkpoint") != checkpoint:
        return None
    plain: dict[str, Any] = portable(json.loads(json.dumps(found)))
    return plain

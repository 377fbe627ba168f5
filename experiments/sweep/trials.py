"""The runs of a sweep, as they are planned and as they are found on disk."""

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cattrs

from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.cli.verbs import configured
from worldmodel.experiments.runs.processes import Needs, clock, sentence_in
from worldmodel.experiments.runs.registry import config_of, offers
from worldmodel.experiments.show.curves import LEAVES_ALONE, flat, points_of, spec_of
from worldmodel.experiments.sweep.spec import Options, Spec, needs_of, parsed
from worldmodel.files import DamagedError
from worldmodel.options import with_options
from worldmodel.run_folder import RunError, RunFolder

FINISHED, UNFINISHED, NEW, FAILED = "finished", "unfinished", "new", "failed"


@dataclass(frozen=True, eq=False)
class Trial:
    """A run of a sweep, as it is to be."""

    combination: str
    options: Options  # in which it differs from others
    seed: int
    path: Path
    config: Any
    words: list[str]  # of the command that makes it
    needs: Needs

    def __str__(self) -> str:
        return f"{self.combination}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """The file of what its process says."""
        return self.path.with_name(f"{self.seed}.log")


class Progress(NamedTuple):
    """The units of a run that are done, and those that it has."""

    done: float
    total: float
    unit: str
    best: float | None  # of its curve


def trials_of(spec: Spec, out: Path, name: str, options: Options, where: str) -> list[Trial]:
    """The runs of one combination, one for each seed; RunError for what cannot be trained, or
    where something else is in its place."""
    words = spec.words(options)
    settings = parsed([*words, "--seed", "0", "--out", str(out)], f"{where}, {name}")
    try:
        config = configured(settings)
    except (RunError, ValueError) as error:
        raise RunError(f"{where}, {name}: {error}") from error
    trials = []
    for seed in spec.all_seeds:
        path = out / name / str(seed)
        whole = [*words, "--seed", str(seed), "--out", str(path)]
        of_seed = with_options(config, {"seed": seed})
        trials.append(Trial(name, options, seed, path, of_seed, whole, needs_of(spec, config)))
        check_place(trials[-1])
    return trials


def check_place(trial: Trial) -> None:
    """Raises RunError if a trial's folder holds a run with other settings."""
    if not (trial.path / "config.json").exists():
        return
    wanted = _settings(json.loads(json.dumps(cattrs.unstructure(trial.config))))
    there = _settings(RunFolder.open(trial.path).description.config)
    for key in [*wanted, *there]:
        if wanted.get(key) != there.get(key):
            raise RunError(
                f"{trial.path} is a run with {key} {there.get(key)}, not {wanted.get(key)}: "
                "choose another --out, or take the plan that made it"
            )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flat(config) if key not in LEAVES_ALONE - SEEDS}


SEEDS = {"seed", "agent.seed"}


def state_of(path: Path) -> str:
    """The state of a run on disk."""
    if not (path / "config.json").exists():
        return NEW
    folder = RunFolder.open(path)
    if not list_checkpoints(folder.checkpoints):
        return UNFINISHED
    values = folder.values()
    is_trained = values["stage"] >= len(values["stages"])
    is_scored = folder.evaluation_file.exists() or not offers(folder, "evaluate")
    return FINISHED if is_trained and is_scored else UNFINISHED


def row_of(trial: Trial) -> dict[str, Any]:
    """A run as it is, for the table and for JSON."""
    sentence = ""
    try:
        state = state_of(trial.path)
        if state != FINISHED and (sentence := sentence_in(trial.log)):
            state = FAILED
    except DamagedError as error:
        state, sentence = FAILED, str(error)
    return {
        "path": str(trial.path),
        "settings": trial.options,
        "seed": trial.seed,
        "state": state,
        "sentence": sentence,
    }


def progress_of(path: Path) -> Progress:
    """The progress of a run, by its newest checkpoint."""
    done, total, unit, best = 0.0, 0.0, "units", None
    with suppress(RunError, OSError, KeyError, ValueError):
        folder = RunFolder(path)
        config, values = config_of(folder), folder.values()
        if "real_steps" in values:
            done, total, unit = values["real_steps"], config.steps, "steps"
        else:
            stages, place, unit = values["stages"], values["stage"], "updates"
            total = sum(units for kind, _, units in stages if kind == "learn")
            done = sum(units for kind, _, units in stages[:place] if kind == "learn")
            if place < len(stages) and stages[place][0] == "learn":
                done += values["done"]
        points = points_of(folder)[:, 1]
        best = float(points.min() if spec_of(folder).less_is_better else points.max())
    return Progress(done, total, unit, best)


def line_of(trial: Trial, before: Progress, seconds: float) -> str:
    """A line on how far a run is: its rate, its best figure, the time left. before: how far it was
    as many seconds ago."""
    now = progress_of(trial.path)
    if not now.total:
        return f"  {trial}: begins"
    if now.done >= now.total:
        return f"  {trial}: trained, is evaluated"
    rate = (now.done - before.done) / max(seconds, 1e-9)
    parts = [f"  {trial}: {now.done:,.0f} of {now.total:,.0f} {now.unit}"]
    if rate > 0:
        parts.append(f"{rate:.3g} {now.unit}/s")
    if now.best is not None:
        what = spec_of(RunFolder(trial.path)).labels(trial.config)[1]
        parts.append(f"best {what} {now.best:.4g}")
    if rate > 0:
        parts.append(f"about {clock((now.total - now.done) / rate)} left")
    return ", ".join(parts)

"""Sweeps: the runs of a plan, side by side, each of which goes on where it stopped.

    worldmodel sweep plan.toml --out runs/sweep

See docs/sweeps.md.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from worldmodel.errors import printable
from worldmodel.experiments.cli.settings import Sweep
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.experiments.runs.processes import Launcher, Queue, Slots, why
from worldmodel.experiments.show import comparison, curves
from worldmodel.experiments.show.report import write_comparison
from worldmodel.experiments.sweep.choosing import Chooser
from worldmodel.experiments.sweep.launchers import launcher_of
from worldmodel.experiments.sweep.spec import Spec, read_spec
from worldmodel.experiments.sweep.trials import (
    FAILED,
    FINISHED,
    Progress,
    Trial,
    line_of,
    progress_of,
    row_of,
    state_of,
    trials_of,
)
from worldmodel.files import lock
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

PLAN = "plan.toml"  # of a sweep's folder: the plan, as it was given last
PAGE, PICTURE = "compare.html", "curves.png"


def run(settings: Sweep, reporter: Reporter) -> None:
    """Makes the runs of a plan that are not finished; shows what came out. Ends with exit code 1
    if some failed, and 130 after Ctrl-C."""
    spec = read_spec(settings.spec)
    launch, places = launcher_of(settings, spec)
    slots = slots_of(settings, places)
    trials = planned(spec, settings, reporter)
    chooser = None
    if spec.optuna is not None:
        chooser = Chooser(spec, settings.out, str(settings.spec), reporter.say)
        trials = chooser.known
    check_room(spec, slots)
    settings.out.mkdir(parents=True, exist_ok=True)
    held = lock(settings.out / "lock", f"another sweep runs in {settings.out}: wait for it")
    try:
        shutil.copyfile(settings.spec, settings.out / PLAN)
        work = Work(spec, trials, chooser, slots, reporter, launch)
        is_whole = work.run()
    finally:
        os.close(held)
    result = result_of(work.trials, settings.out, reporter)
    _show(result, settings.json)
    if not is_whole:
        reporter.say("stopped, all is saved: the same command goes on")
        sys.exit(130)
    if any(row["state"] != FINISHED for row in result["runs"]):
        sys.exit(1)


def planned(spec: Spec, settings: Sweep, reporter: Reporter) -> list[Trial]:
    """The runs that are known from the beginning, seed by seed: all combinations have a run as
    early as can be."""
    combinations = list(spec.combinations())
    found = []
    for number, (name, options) in enumerate(combinations, 1):
        found.append(trials_of(spec, settings.out, name, options, str(settings.spec)))
        reporter.note("reading the plan", number, len(combinations))
    return [trial for of_seed in zip(*found, strict=True) for trial in of_seed]


def slots_of(settings: Sweep, places: int | None) -> Slots:
    """The cores and GPUs that the runs share. places: the number that a scheduler takes; None:
    they run here."""
    if places is not None:
        return Slots(settings.jobs or places, by_number=True)
    if settings.jobs is not None:
        return Slots(settings.jobs, gpus_here(), by_number=True)
    return Slots(len(os.sched_getaffinity(0)), gpus_here())


def gpus_here() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def check_room(spec: Spec, slots: Slots) -> None:
    """Raises RunError for runs that would wait for ever."""
    gpus = spec.needs.get("gpus", 0)
    if slots.is_sharing_gpus and gpus > len(slots.gpus):
        raise RunError(
            f"[needs] gpus: each run needs {gpus:g}, and this machine has {len(slots.gpus)}"
        )


class Work(Queue[Trial]):
    """The processes of a sweep's runs."""

    def __init__(
        self,
        spec: Spec,
        trials: Sequence[Trial],
        chooser: Chooser | None,
        slots: Slots,
        reporter: Reporter,
        launch: Launcher,
    ):
        self.trials = list(trials)
        self.spec = spec
        self.chooser = chooser
        self.failures: dict[Trial, int] = {}
        self.at_first: dict[Trial, tuple[float, Progress]] = {}  # when a process began, and where
        super().__init__(_unfinished(trials), slots, reporter, launch)
        if self.waiting:
            there = len(trials) - len(self.waiting)
            self.reporter.say(f"{len(self.waiting)} runs to do, {there} are there already")

    def words(self, task: Trial) -> list[str]:
        self.at_first[task] = time.monotonic(), progress_of(task.path)
        if (task.path / "config.json").exists():
            return ["resume", str(task.path)]
        return task.words

    def ended(self, task: Trial, code: int) -> None:
        if code == 0:
            self.reporter.say(f"{task}: finished")
            return
        sentence = why(task.log, code)
        self.failures[task] = self.failures.get(task, 0) + 1
        again = self.failures[task] <= self.spec.retries
        self.reporter.say(f"{task}: failed{', will be tried again' * again}: {sentence}")
        if again:
            self.waiting.append(task)

    def more(self) -> None:
        if self.chooser is not None:
            running = [*self.waiting, *self.running]
            for trial in self.chooser.more(running, self.slots.free > 0 and not self.waiting):
                self.trials.append(trial)
                self.waiting += _unfinished([trial])

    def tell(self) -> None:
        left = len(self.waiting) + len(self.running)
        self.reporter.say(f"{len(self.trials) - left} of {self.spec.number} runs done; now")
        now = time.monotonic()
        for trial in self.running:
            begun, before = self.at_first[trial]
            self.reporter.say(line_of(trial, before, now - begun))


def _unfinished(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if state_of(trial.path) != FINISHED]


def result_of(trials: Sequence[Trial], out: Path, reporter: Reporter) -> dict[str, Any]:
    """All figures of a sweep; writes its page and its picture."""
    rows = [row_of(trial) for trial in trials]
    finished = [RunFolder.open(Path(row["path"])) for row in rows if row["state"] == FINISHED]
    result: dict[str, Any] = {"runs": rows, "compared": None}
    try:
        if not finished:
            raise RunError("no run is finished yet")
        compared = comparison.compared(finished)
        write_comparison(compared, out / PAGE)
        reporter.say(f"written: {out / PAGE}")
        result["compared"] = comparison.as_json(compared)
        check_picture(out / PICTURE, "the picture")
        curves.plot(finished, out / PICTURE)
        reporter.say(f"written: {out / PICTURE}")
    except RunError as error:
        reporter.say(f"not compared: {error}")
    return result


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=2))
        return
    console = Console()
    if result["compared"] is not None:
        console.print(*comparison.tables(result["compared"]))
    if left := [row for row in result["runs"] if row["state"] != FINISHED]:
        for row in left:
            said = f"{row['state']}: {row['path']}{': ' * bool(row['sentence'])}{row['sentence']}"
            console.print(printable(said), markup=False, highlight=False, soft_wrap=True)
        failed = sum(row["state"] == FAILED for row in left)
        if failed:
            console.print(f"{failed} failed: the same command tries them again")

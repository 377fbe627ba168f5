"""The public suite: one recipe for all tasks, beside stable-baselines3 and published figures.

    worldmodel bench suite --seeds 5 --table docs/suite.md --plot docs/suite.png

Every run is a process of its own, `worldmodel train control` or `worldmodel bench control` with
nothing but the task's options, in an ordinary run folder: what is finished is read, what was
interrupted goes on, what fails is a row that says its sentence. docs/results.md lists expected
results.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from worldmodel.agents import AgentConfig
from worldmodel.experiments.bench.settings import SuiteSettings
from worldmodel.experiments.bench.suite_figures import (
    NO_POINTS,
    Outcome,
    markdown,
    named,
    plot,
    result_of,
    slug,
    tables,
    write_scores,
)
from worldmodel.experiments.bench.suite_tasks import TASKS
from worldmodel.experiments.rl.baseline_config import BaselineConfig
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.experiments.runs.interruption import InterruptFlag
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.show.curves import points_of
from worldmodel.files import reading, write_text
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

__all__ = ["run", "tables"]

COMMAND = (sys.executable, "-m", "worldmodel")
POLL = 0.2  # s
TOLD = 60.0  # s, between lines on how far the runs are
LAST = 20_000  # bytes of a log that are searched for what went wrong
PROGRAM = "worldmodel: "  # before an error's sentence
STOPPED = "stopped"  # by Ctrl-C
BOXED, BORDERS = "For full helptext", "╭─╮│╰╯ "  # of what is said about wrong options
QUICK_TASKS = ("CartPole-v1", "FrozenLake-v1")
QUICK_STEPS = 90  # as those of `train control --quick`
QUICK_BASELINE = {"every": 30, "episodes": 2}


class Planned(NamedTuple):
    """A run of the suite, as it is to be."""

    task: str
    method: str
    seed: int
    path: Path
    config: RLConfig | BaselineConfig
    options: tuple[str, ...]  # of its command, besides those of the configuration

    def __str__(self) -> str:
        return f"{self.task} by {self.method}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """The file of what its process says."""
        return self.path.with_name(f"{self.seed}.log")

    @property
    def words(self) -> list[str]:
        """The arguments of the command that makes it."""
        return [*arguments_of(self.config, self.path), *self.options]


def run(settings: SuiteSettings, reporter: Reporter) -> dict[str, Any]:
    """Trains what is not trained yet; all figures of the suite."""
    if settings.plot is not None:
        check_picture(settings.plot, "--plot")
    if settings.quick:
        settings = replace(
            settings, envs=settings.envs or QUICK_TASKS, seeds=1, out=settings.out / "quick"
        )
    plan = planned(settings)
    failed: dict[Path, str] = {}
    if not settings.show:
        failed = Work(plan, settings.jobs, reporter).run()
    outcomes = [outcome_of(one, failed) for one in plan]
    for file in write_scores(outcomes, settings.out / "scores"):
        reporter.say(f"written: {file}")
    result = result_of(outcomes)
    if settings.table is not None:
        write_text(settings.table, markdown(result))
        reporter.say(f"written: {settings.table}")
    if settings.plot is not None and result["tasks"]:
        plot(outcomes, settings.plot)
        reporter.say(f"written: {settings.plot}")
    return result


def planned(settings: SuiteSettings) -> list[Planned]:
    """The runs, seed by seed: all tasks have a row as early as can be."""
    return [
        _planned(settings, name, method, seed)
        for seed in range(settings.seeds)
        for name in dict.fromkeys(settings.envs or TASKS)
        for method in dict.fromkeys(settings.methods)
    ]


def _planned(settings: SuiteSettings, name: str, method: str, seed: int) -> Planned:
    task = TASKS[name]
    steps = QUICK_STEPS if settings.quick else task.steps
    environment = EnvironmentConfig(task.env, **task.options)
    whole = named(method, task)
    first, *options = shlex.split(whole)
    config: RLConfig | BaselineConfig
    if first == "own":
        config = RLConfig(environment, steps, agent=AgentConfig(seed=seed))
        options += ["--quick"] * settings.quick
    else:
        algorithm = first.partition(":")[2]
        small: Mapping[str, Any] = QUICK_BASELINE if settings.quick else {}
        config = BaselineConfig(environment, algorithm, steps, seed=seed, **small)
    path = settings.out / slug(name) / slug(whole) / str(seed)
    return Planned(name, method, seed, path, config, tuple(options))


def outcome_of(one: Planned, failed: Mapping[Path, str]) -> Outcome:
    """A run as it is, and why it is not finished. failed: sentences on those that have failed just
    now, by path; others are in the logs of their processes."""
    outcome = on_disk(one)
    if outcome.is_finished or outcome.sentence:
        return outcome
    sentence = failed.get(one.path) or sentence_in(one.log)
    return outcome._replace(state="failed", sentence=sentence) if sentence else outcome


def on_disk(one: Planned) -> Outcome:
    """A run as its folder shows it."""
    outcome = Outcome(one.task, one.method, one.seed, "new")
    try:
        return _read(one, outcome) if (one.path / "config.json").exists() else outcome
    except RunError as error:
        return outcome._replace(state="failed", sentence=str(error))


def _read(one: Planned, outcome: Outcome) -> Outcome:
    folder = RunFolder.open(one.path)
    config = config_of(folder)
    if _asked(config) != _asked(one.config):
        raise RunError(
            f"{one.path} is a run of another task, with other steps, or another seed "
            f"({', '.join(map(str, _asked(config)))}): choose another --out"
        )
    points, seconds = NO_POINTS, None
    with suppress(RunError):  # it has not been evaluated yet
        points = points_of(folder)
        seconds = max(line.get("seconds", 0.0) for line in folder.metrics())
    if isinstance(config, RLConfig):
        is_finished = folder.evaluation_file.exists() and len(points) > 0
    else:
        is_finished = len(points) > 0 and points[-1, 0] >= config.steps
    state = "finished" if is_finished else "unfinished"
    return outcome._replace(state=state, points=points, seconds=seconds)


def _asked(config: RLConfig | BaselineConfig) -> tuple[str | None, int, int]:
    """The environment, steps and seed, which a run has in common with its plan."""
    seed = config.agent.seed if isinstance(config, RLConfig) else config.seed
    return config.environment.env, config.steps, seed


class Work:
    """The processes of the runs that are not finished, some at a time."""

    def __init__(self, plan: Sequence[Planned], jobs: int, reporter: Reporter):
        self.plan = plan
        self.jobs = jobs
        self.reporter = reporter
        self.failed: dict[Path, str] = {}
        self.never_made: dict[tuple[str, str], str] = {}  # sentences, by task and method
        self.running: dict[Planned, subprocess.Popen] = {}
        self.begun = self.told = time.monotonic()
        self.waiting = [one for one in plan if on_disk(one).state in ("new", "unfinished")]
        self.number = len(self.waiting)  # of runs to do
        self.steps_before = sum(map(steps_of, self.waiting))

    def run(self) -> dict[Path, str]:
        """Runs them all, or until Ctrl-C, which saves; sentences on those that failed, by path."""
        if self.number:
            there = len(self.plan) - self.number
            self.reporter.say(f"{self.number} runs to do, {there} are there already")
        with InterruptFlag() as flag:
            is_told = False
            try:
                while self.running or (self.waiting and not flag.raised):
                    if flag.raised and not is_told:
                        self._interrupt()
                        is_told = True
                    while self.waiting and len(self.running) < self.jobs and not flag.raised:
                        self._begin(self.waiting.pop(0))
                    time.sleep(POLL)
                    self._collect(flag.raised)
                    if time.monotonic() - self.told > TOLD:
                        self._tell()
            finally:
                self._end()
        if flag.raised:
            self.reporter.say("stopped, all is saved: the same command goes on; so far:")
        return self.failed

    def _begin(self, one: Planned) -> None:
        """Starts the process of a run, unless it is known that it cannot be made."""
        sentence = self.never_made.get((one.task, one.method))
        if sentence is not None:
            self.failed[one.path] = sentence
            return
        words = one.words
        if (one.path / "config.json").exists():
            if isinstance(one.config, RLConfig):
                words = ["resume", str(one.path)]
            else:
                shutil.rmtree(one.path)  # an algorithm of others begins anew
        one.log.parent.mkdir(parents=True, exist_ok=True)
        with open(one.log, "wb") as log:
            self.running[one] = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C comes to this process alone, which passes it on, once
            )
        self._tell()

    def _collect(self, is_stopping: bool) -> None:
        """Takes in the processes that have ended."""
        for one, process in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[one]
            outcome = on_disk(one)
            if outcome.is_finished:
                last, wanted = outcome.points[-1, 1], TASKS[one.task].threshold
                self.reporter.say(f"{one}: return {last:.4g}, wanted {wanted:g}")
            elif not is_stopping or process.returncode != 130:
                self._fail(one, process.returncode)

    def _fail(self, one: Planned, code: int) -> None:
        sentence = sentence_in(one.log) or f"it ended with exit code {code}, see {one.log}"
        self.failed[one.path] = sentence
        if not (one.path / "config.json").exists():  # no seed will do
            self.never_made[one.task, one.method] = sentence
        self.reporter.say(f"{one}: failed: {sentence}")

    def _interrupt(self) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def _end(self) -> None:
        """Ends the processes that are left, if this one is told to end at once."""
        self._interrupt()
        for process in self.running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running.clear()

    def _tell(self) -> None:
        """Says what runs, and how long all will take."""
        self.told = time.monotonic()
        now = ", ".join(
            f"{one} ({steps_of(one):,} of {one.config.steps:,} steps)" for one in self.running
        )
        left = len(self.waiting) + len(self.running)
        self.reporter.say(f"{self.number - left} of {self.number} runs done; now {now}{self._eta}")

    @property
    def _eta(self) -> str:
        """The time left, as fast as steps were taken so far; "" as long as that is unknown."""
        todo = [one for one in self.plan if one.path not in self.failed]
        of_others = {*self.waiting, *self.running}
        done = sum(steps_of(one) for one in todo) - self.steps_before
        left = sum(max(0, one.config.steps - steps_of(one)) for one in todo if one in of_others)
        seconds = time.monotonic() - self.begun
        if done <= 0 or seconds < TOLD:
            return ""
        hours, minutes = divmod(round(left * seconds / done / 60), 60)
        return f"; about {hours} h {minutes:02d} min left"


def steps_of(one: Planned) -> int:
    """Real steps that a run has on disk; 0 where that cannot be read."""
    folder = RunFolder(one.path)
    with suppress(RunError, OSError, KeyError):
        if isinstance(one.config, RLConfig):
            return int(folder.values()["real_steps"])
        return int(np.max(points_of(folder)[:, 0]))
    return 0


def sentence_in(log: Path) -> str:
    """The sentence on why a command failed, in the log of its process; "" if there is none.

    What is wrong with options is said in a box.
    """
    if not log.exists():
        return ""
    with reading(log) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line.removeprefix(PROGRAM) for line in lines if line.startswith(PROGRAM)]
    if any(BOXED in line for line in lines):
        words = [line.strip(BORDERS) for line in lines if line.strip(f"{BORDERS}-")]
        said.append(" ".join(words))
    return said[-1] if said and said[-1] != STOPPED else ""

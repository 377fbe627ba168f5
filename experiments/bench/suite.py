"""The public suite: one recipe for all tasks, beside stable-baselines3 and published figures.

    worldmodel bench suite --seeds 5 --table docs/suite.md --plot docs/suite.png

Every run is a process of its own, `worldmodel train control` or `worldmodel bench control` with
nothing but the task's options, in an ordinary run folder: what is finished is read, what was
interrupted goes on, what fails is a row that says its sentence. Ours ends once its threshold is
held. docs/results.md lists expected results.
"""

import shlex
import shutil
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
from worldmodel.experiments.runs.pictures import check_picture
from worldmodel.experiments.runs.processes import (
    TOLD,
    Needs,
    Queue,
    Slots,
    clock,
    sentence_in,
    why,
)
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.show.curves import points_of
from worldmodel.files import write_text
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

__all__ = ["run", "tables"]

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
    def needs(self) -> Needs:
        """The same for all: --jobs says how many run at a time."""
        return Needs()

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
        work = Work(plan, settings.jobs, reporter)
        work.run()
        failed = work.failed
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
        config = RLConfig(environment, steps, agent=AgentConfig(seed=seed), stop_at=task.least)
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
    points, seconds, final = NO_POINTS, None, None
    with suppress(RunError):  # it has not been evaluated yet
        points = points_of(folder)
        lines = folder.metrics()
        seconds = max(line.get("seconds", 0.0) for line in lines)
        for line in lines:
            if line["stage"] == "final":
                final = line["real_return_mean"], line["dream_return_mean"]
    if isinstance(config, RLConfig):
        is_finished = folder.evaluation_file.exists() and len(points) > 0
    else:
        is_finished = len(points) > 0 and points[-1, 0] >= config.steps
    state = "finished" if is_finished else "unfinished"
    return outcome._replace(state=state, points=points, seconds=seconds, final=final)


def _asked(config: RLConfig | BaselineConfig) -> tuple[str | None, int, int]:
    """The environment, steps and seed, which a run has in common with its plan."""
    seed = config.agent.seed if isinstance(config, RLConfig) else config.seed
    return config.environment.env, config.steps, seed


class Work(Queue[Planned]):
    """The processes of the runs that are not finished, some at a time."""

    def __init__(self, plan: Sequence[Planned], jobs: int, reporter: Reporter):
        waiting = [one for one in plan if on_disk(one).state in ("new", "unfinished")]
        super().__init__(waiting, Slots(jobs, by_number=True), reporter)
        self.plan = plan
        self.failed: dict[Path, str] = {}  # sentences on those that failed
        self.never_made: dict[tuple[str, str], str] = {}  # sentences, by task and method
        self.number = len(waiting)  # of runs to do
        self.steps_before = sum(map(steps_of, waiting))

    def run(self) -> bool:
        if self.number:
            there = len(self.plan) - self.number
            self.reporter.say(f"{self.number} runs to do, {there} are there already")
        is_whole = super().run()
        if not is_whole:
            self.reporter.say("stopped, all is saved: the same command goes on; so far:")
        return is_whole

    def words(self, task: Planned) -> list[str] | None:
        sentence = self.never_made.get((task.task, task.method))
        if sentence is not None:
            self.failed[task.path] = sentence
            return None
        if (task.path / "config.json").exists():
            if isinstance(task.config, RLConfig):
                return ["resume", str(task.path)]
            shutil.rmtree(task.path)  # an algorithm of others begins anew
        return task.words

    def ended(self, task: Planned, code: int) -> None:
        outcome = on_disk(task)
        if outcome.is_finished:
            last, wanted = outcome.points[-1, 1], TASKS[task.task].threshold
            self.reporter.say(f"{task}: return {last:.4g}, wanted {wanted:g}")
            return
        sentence = why(task.log, code)
        self.failed[task.path] = sentence
        if not (task.path / "config.json").exists():  # no seed will do
            self.never_made[task.task, task.method] = sentence
        self.reporter.say(f"{task}: failed: {sentence}")

    def tell(self) -> None:
        """Says what runs, and how long all will take."""
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
        return f"; about {clock(left * seconds / done)} left"


def steps_of(one: Planned) -> int:
    """Real steps that a run has on disk; 0 where that cannot be read."""
    folder = RunFolder(one.path)
    with suppress(RunError, OSError, KeyError):
        if isinstance(one.config, RLConfig):
            return int(folder.values()["real_steps"])
        return int(np.max(points_of(folder)[:, 0]))
    return 0

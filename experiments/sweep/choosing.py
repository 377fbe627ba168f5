"""Options that optuna chooses, by the figures of the runs before."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from worldmodel.experiments.runs.registry import experiment_of
from worldmodel.experiments.show.curves import spec_named
from worldmodel.experiments.sweep.spec import Direction, Options, Range, Spec, numbered
from worldmodel.experiments.sweep.trials import FINISHED, Trial, state_of, trials_of
from worldmodel.files import read_json
from worldmodel.run_folder import RunError

STUDY = "optuna.log"  # of a sweep's folder: what optuna knows


class Chooser:
    """Asks optuna for combinations, and tells it the mean figure of the seeds of each.

    Its study is a file in the sweep's folder, so that a sweep that was ended goes on with it.
    """

    def __init__(self, spec: Spec, out: Path, where: str, say: Callable[[str], None]):
        """where: the plan, in sentences."""
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ModuleNotFoundError as error:
            raise RunError(
                "[optuna] needs optuna: pip install 'worldmodel-gym[optuna]'"
            ) from error
        assert spec.optuna is not None
        self.spec, self.search, self.out, self.where, self.say = (
            *(spec, spec.optuna, out),
            *(where, say),
        )
        (example, *_), _ = (self._trials("ends", options) for options in self._ends())
        curve = spec_named(experiment_of(example.config))
        self.figure = self.search.figure or next(iter(curve.figures(example.config).values()))
        best: Direction = "minimize" if curve.less_is_better else "maximize"
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        out.mkdir(parents=True, exist_ok=True)
        file = JournalFileBackend(str(out / STUDY))
        self.study = optuna.create_study(
            storage=optuna.storages.JournalStorage(file),
            study_name="sweep",
            direction=self.search.direction or best,
            sampler=optuna.samplers.TPESampler(seed=self.search.seed),
            load_if_exists=True,
        )
        self.ends = optuna.trial.TrialState
        self.running: dict[int, list[Trial]] = {}  # by optuna's number
        self.known: list[Trial] = []  # all of them
        for trial in self.study.get_trials():
            made = self._trials(numbered(trial.number), dict(trial.params))
            self.known += made
            if not trial.state.is_finished():  # a sweep was ended
                self.running[trial.number] = made

    def more(self, active: Collection[Trial], has_room: bool) -> list[Trial]:
        """Tells optuna what has come out, and asks it for a combination if there is room for its
        runs. active: trials that wait or run."""
        for number, trials in list(self.running.items()):
            if not any(trial in active for trial in trials):
                del self.running[number]
                self._tell(number, trials)
        if not has_room or len(self.study.get_trials(deepcopy=False)) >= self.search.number:
            return []
        asked = self.study.ask(self._distributions())
        try:
            trials = self._trials(numbered(asked.number), dict(asked.params))
        except RunError as error:
            self.say(f"{numbered(asked.number)} cannot be: {error}")
            self.study.tell(asked.number, state=self.ends.FAIL)
            return []
        self.running[asked.number] = trials
        self.known += trials
        return trials

    def _tell(self, number: int, trials: list[Trial]) -> None:
        if all(state_of(trial.path) == FINISHED for trial in trials):
            values = [self._value(trial) for trial in trials]
            self.study.tell(number, float(np.mean(values)))
        else:
            self.study.tell(number, state=self.ends.FAIL)

    def _value(self, trial: Trial) -> float:
        found = read_json(trial.path / "evaluation.json").get(self.figure)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise RunError(
                f"{self.where}: figure {self.figure} is no number of {trial.path}/evaluation.json"
            )
        return float(found)

    def _trials(self, name: str, options: Options) -> list[Trial]:
        return trials_of(self.spec, self.out, name, options, self.where)

    def _ends(self) -> list[Options]:
        """Both ends of all that may be chosen, to be tried before anything starts."""
        choices = self.search.choices.items()
        return [
            {n: (c.low, c.high)[end] if isinstance(c, Range) else c[-end] for n, c in choices}
            for end in (0, 1)
        ]

    def _distributions(self) -> dict[str, Any]:
        from optuna import distributions as of

        made: dict[str, Any] = {}
        for name, choice in self.search.choices.items():
            if not isinstance(choice, Range):
                made[name] = of.CategoricalDistribution(choice)
            elif choice.is_whole:
                low, high = int(choice.low), int(choice.high)
                made[name] = of.IntDistribution(low, high, log=choice.log)
            else:
                made[name] = of.FloatDistribution(choice.low, choice.high, log=choice.log)
        return made

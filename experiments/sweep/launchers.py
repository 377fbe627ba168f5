"""Places where the runs of a sweep run: here, a Slurm cluster by submitit, or a Ray cluster.

Elsewhere means machines that see the same files. A scheduler places the runs there, so it is asked
for what each needs, and has its own queue.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodel.experiments.cli.settings import Sweep
from worldmodel.experiments.runs.cluster import connected
from worldmodel.experiments.runs.processes import INTERRUPTED, Launcher, Local, Needs, attended
from worldmodel.experiments.sweep.spec import Spec
from worldmodel.run_folder import RunError

PLACES = 1_000  # runs that a scheduler is given at a time
SUBMITTED = "slurm"  # of a sweep's folder: what submitit writes
FAILED = 1


def launcher_of(settings: Sweep, spec: Spec) -> tuple[Launcher, int | None]:
    """The launcher, and how many runs a scheduler takes at a time; None: they run here."""
    if settings.ray is not None:
        return OnRay(settings.ray), PLACES
    if settings.launcher == "slurm":
        return Submitit(settings.out.resolve() / SUBMITTED, spec.slurm), PLACES
    return Local, None


class Submitit:
    """Submits runs by submitit."""

    def __init__(self, folder: Path, parameters: dict[str, Any]):
        """parameters: of `submitit.AutoExecutor`; `cluster` is its cluster."""
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise RunError(
                "--launcher slurm needs submitit: pip install 'worldmodel-gym[slurm]'"
            ) from error
        given = dict(parameters)
        try:
            self.executor = submitit.AutoExecutor(folder, given.pop("cluster", "slurm"))
            self.executor.update_parameters(**given)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise RunError(f"--launcher slurm: submitit refuses it: {error}") from error

    def __call__(
        self, words: Sequence[str], log: Path, needs: Needs, gpus: tuple[str, ...] | None
    ) -> "Submitted":
        self.executor.update_parameters(cpus_per_task=needs.cores)
        if needs.gpus:
            self.executor.update_parameters(gpus_per_node=math.ceil(needs.gpus))
        return Submitted(self.executor.submit(attended, list(words), log.resolve()))


class Submitted:
    """A run that was submitted by submitit."""

    def __init__(self, job: Any):
        self.job = job
        self.without_result = FAILED  # the exit code of a job that leaves none

    def poll(self) -> int | None:
        if not self.job.done():
            return None
        error = self.job.exception()
        return self.without_result if error is not None else int(self.job.result())

    def interrupt(self) -> None:
        self.without_result = INTERRUPTED
        self.job.cancel(check=False)

    def kill(self) -> None:
        self.job.cancel(check=False)


class OnRay:
    """Starts runs as tasks of a Ray cluster."""

    def __init__(self, address: str):
        self.ray = connected(address)
        self.task = self.ray.remote(attended)

    def __call__(
        self, words: Sequence[str], log: Path, needs: Needs, gpus: tuple[str, ...] | None
    ) -> "OnRayRunning":
        task = self.task.options(num_cpus=needs.cores, num_gpus=needs.gpus, max_retries=0)
        return OnRayRunning(self.ray, task.remote(list(words), log.resolve()))


class OnRayRunning:
    """A task of a Ray cluster."""

    def __init__(self, ray: Any, reference: Any):
        self.ray = ray
        self.reference = reference
        self.without_result = FAILED  # the exit code of a task that leaves none

    def poll(self) -> int | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(self.reference))
        except self.ray.exceptions.RayError:
            return self.without_result

    def interrupt(self) -> None:
        self.without_result = INTERRUPTED
        self.ray.cancel(self.reference)

    def kill(self) -> None:
        self.ray.cancel(self.reference, force=True)

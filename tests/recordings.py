"""Small runs of recordings, for tests."""

import contextlib

from worldmodel.experiments.recordings.experiment import training
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder


def train(folder: RunFolder, stop_after=lambda job: False) -> None:
    """To the end, or until it is stopped."""
    running = training(folder, Reporter())
    running.restore()
    with contextlib.suppress(Interrupted):
        running.run(stop_after)

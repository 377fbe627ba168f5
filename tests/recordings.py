"""Small runs of recordings, for tests."""

import contextlib

from worldmodel.experiments.recordings.training import Training
from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder


def train(folder: RunFolder, stop_after=lambda training: False) -> None:
    """To the end, or until it is stopped."""
    training = Training(folder, Reporter())
    training.restore()
    with contextlib.suppress(Interrupted):
        training.run(stop_after)

"""Small runs of recordings, for tests."""

import contextlib

from experiments.progress import Interrupted, Reporter
from experiments.recordings.training import Training
from experiments.run import RunFolder


def train(folder: RunFolder, stop_after=lambda training: False) -> None:
    """To the end, or until it is stopped."""
    training = Training(folder, Reporter())
    training.restore()
    with contextlib.suppress(Interrupted):
        training.run(stop_after)

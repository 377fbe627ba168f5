"""Runs that are trained, stopped and gone on with; what they learned, compared to the last bit."""

import contextlib

import torch

from worldmodel.experiments.runs.interruption import Interrupted
from worldmodel.experiments.runs.registry import offered
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

TINY = {
    **{"hidden_size": 4, "decoder_hidden": 8, "policy_hidden": 8, "prefill": 50},
    **{"collect_steps": 20, "first_updates": 4, "update_ratio": 0.1, "window": 8},
    **{"batch_size": 8, "first_rollouts": 4, "rollout_ratio": 0.1, "num_imagined": 8},
    **{"rollout_length": 4, "horizon": 10, "vae_latent": 4, "vae_hidden": 8, "vae_width": 2},
    **{"vae_updates": 4, "vae_batch_size": 8},
}
"""Options of an agent that learns next to nothing, within seconds."""


def train(folder: RunFolder, stop_after=lambda job: False, steps=None):
    """Goes on with a run as `worldmodel resume` does, to the end or until it is stopped; the job.

    steps: that are added before.
    """
    torch.manual_seed(99)  # another process would not have our random state either
    training = offered(folder, "training")(folder, Reporter())
    job = training.job
    try:
        training.restore()
        if steps is not None:
            assert training.extend(steps)
        with contextlib.suppress(Interrupted):
            training.run(stop_after)
    finally:
        if hasattr(job, "store"):
            job.store.close()  # as the end of a process does
    return job


def at(kind, number, done):
    """Where a run is to be stopped: after so many units of a stage."""

    def here(job) -> bool:
        stage = job.stages[job.stage]
        return (stage.kind, stage.round, job.done) == (kind, number, done)

    return here


def outcome(folder: RunFolder) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What a run measured and learned."""
    metrics = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.metrics()]
    return metrics, folder.checkpoint().weights


def known(folder: RunFolder) -> dict:
    """What a run's newest checkpoint says, but for times and the names of others."""
    times = ("seconds", "saved", "best", "metrics_size", "metrics_crc32")
    return {key: value for key, value in folder.values().items() if key not in times}


def assert_same(one: RunFolder, other: RunFolder) -> None:
    """Two runs measured and learned the same, to the last bit."""
    (metrics, weights), (expected, expected_weights) = outcome(one), outcome(other)
    assert metrics == expected
    assert known(one) == known(other)
    assert_same_weights(weights, expected_weights)


def assert_same_weights(weights, expected) -> None:
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        assert weight.numpy().tobytes() == expected[name].numpy().tobytes(), name

"""What runs measured and learned, compared to the last bit."""

import torch

from worldmodel.checkpoint import load_newest
from worldmodel.run_folder import RunFolder


def outcome(folder: RunFolder) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What a run measured and learned."""
    metrics = [{k: v for k, v in line.items() if k != "seconds"} for line in folder.metrics()]
    return metrics, load_newest(folder.checkpoints)[0].weights


def assert_same(one: RunFolder, other: RunFolder) -> None:
    """Two runs measured and learned the same, to the last bit."""
    (metrics, weights), (expected, expected_weights) = outcome(one), outcome(other)
    assert metrics == expected
    assert weights.keys() == expected_weights.keys()
    for name, weight in weights.items():
        assert weight.numpy().tobytes() == expected_weights[name].numpy().tobytes(), name

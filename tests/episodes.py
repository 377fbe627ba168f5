"""Small episodes for tests of replay: every row tells its episode and its place there."""

import numpy as np
import torch
from gymnasium import spaces

from worldmodel import Episodes, EpisodeSource, action_codec, nested

ACTIONS = action_codec(spaces.Discrete(3, start=1))


def episodes_of(lengths, first=0):
    """Episodes whose row r of episode e shows 1000 e + r; odd episodes terminate.

    first: the number of the first of them.
    """
    lengths = np.array(lengths)
    number = first + np.repeat(np.arange(len(lengths)), lengths)
    row = np.concatenate([np.arange(length) for length in lengths])
    last = row == lengths[number - first] - 1
    columns = {
        "action": 1 + (number + row) % 3,
        "observation": 1000 * number + row,
        "reward": (0.5 * row).astype(np.float32),
        "terminated": last & (number % 2 == 1) & (row > 0),
    }
    return Episodes(columns, lengths)


def rich(episodes: Episodes) -> Episodes:
    """The same episodes, observed and steered otherwise: nested leaves that all tell the row."""
    shown = episodes.columns["observation"]
    observation = {
        "camera": np.repeat(shown[:, None], 12, 1).reshape(-1, 2, 2, 3).astype(np.uint8),
        "arms": (shown[:, None] * np.ones(3, np.float32), {"a.b/c": shown > 1000}),
    }
    columns = episodes.columns | {
        "observation": observation,
        "action": np.stack([episodes.columns["action"]] * 2, 1),
    }
    return Episodes(columns, episodes.lengths)


class Pairs:
    """Stands for a codec of two numbers; the code is the action, in float."""

    def encode(self, action: torch.Tensor) -> torch.Tensor:
        return action.float()

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        return code.long()


def same(one: Episodes, other: Episodes) -> bool:
    """Equal lengths, and equal leaves in equal structures."""
    if nested.names(one.columns) != nested.names(other.columns):
        return False
    pairs = zip(nested.leaves(one.columns), nested.leaves(other.columns), strict=True)
    return np.array_equal(one.lengths, other.lengths) and all(
        np.array_equal(x, y) and x.dtype == y.dtype for x, y in pairs
    )


def everything(source: EpisodeSource) -> Episodes:
    return source.select(np.arange(len(source)))

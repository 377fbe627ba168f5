"""The replay bench measures what it says, on a small scale."""

import numpy as np

from worldmodel.experiments.bench import replay
from worldmodel.experiments.bench.settings import ReplaySettings
from worldmodel.progress import Reporter


def test_replays_of_three_sizes_are_measured(tmp_path):
    result = replay.run(ReplaySettings(20_000, tmp_path), Reporter())
    assert [row["rows"] for row in result] == [200, 2_000, 20_000]
    assert all(row["microseconds_per_batch"] > 0 for row in result)
    assert result[2]["megabytes"] > 20_000 * 29 / 1e6  # 16 + 8 + 4 + 1 bytes a row
    assert not list(tmp_path.iterdir())
    assert replay.tables(result)[0].row_count == 3


def test_random_episodes_have_the_rows_that_were_asked_for():
    lengths = [episodes.lengths for episodes in replay.random_episodes(120_000)]
    assert sum(part.sum() for part in lengths) == 120_000
    assert np.concatenate(lengths).max() < 90
    assert np.concatenate(lengths).min() > 0

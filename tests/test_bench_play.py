"""The player's bench measures what it says, on a small scale."""

import torch
from faces import toy_run

from worldmodel.experiments.bench import play
from worldmodel.experiments.bench.settings import PlaySettings
from worldmodel.progress import Reporter


def test_games_of_images_are_measured():
    result = play.run(PlaySettings(steps=3), Reporter())
    assert [row["game"].split()[-1] for row in result] == ["frozen", "joint"]
    for row in result:
        assert row["threads"] == torch.get_num_threads()
        for name in ("dream_step", "row", "frame"):
            assert 0 < row[f"{name}_ms"] <= row[f"{name}_ms_99"]
        assert row["frames_per_second"] > 0
    assert play.tables(result)[0].row_count == 2


def test_a_run_is_measured():
    row = play.measure("a run", toy_run(), 3, Reporter())
    assert row["game"] == "a run"
    assert row["frame_ms"] > row["dream_step_ms"] > 0

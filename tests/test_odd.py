"""The campaign of odd environments and files, in short."""

import sys
from pathlib import Path

import pytest
from campaigns import odd

SOME = {
    "learn_in_workers: exits at once",
    "evaluate: prints",
    "learn: exits",
    "check: hangs",
    "learn: closed",
    "learn: metadata of None",
    "audio model: nan",
    "midi model: runs for ever",
    "strokes model: a claim",
}


@pytest.mark.timeout(0)  # whose alarm would be that of patience
def test_odd_things_are_used_or_refused_in_a_sentence(tmp_path: Path, monkeypatch) -> None:
    chosen = tuple(case for case in odd.ALL if case.name in SOME)
    assert len(chosen) == len(SOME)
    monkeypatch.setattr(odd, "ALL", chosen)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tally,) = odd.run(len(chosen), 0, tmp_path, sys.stderr)
    assert tally.counts.total() == len(chosen)
    assert tally.wrong == []

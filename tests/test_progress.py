"""What is said of long jobs: enough, and no more."""

import io
import re
import types

import pytest
from rich.console import Console

from worldmodel import progress
from worldmodel.job import Stage
from worldmodel.progress import Reporter
from worldmodel.reports import Pace


def test_what_is_noted_often_is_said_when_it_begins_and_when_it_ends():
    said = io.StringIO()
    reporter = Reporter(Console(file=said, width=80))
    for what in ("playing", "scoring"):
        for done in (*range(101), 100):
            reporter.note(what, done, 100)
    lines = said.getvalue().splitlines()
    assert lines == ["playing: 0/100", "playing: 100/100", "scoring: 0/100", "scoring: 100/100"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_end_of_a_bar_is_cut_but_no_number_before_it(width):
    out = io.StringIO()
    reporter = Reporter(Console(file=out, width=width, force_terminal=True))
    with reporter.stage("learning the model (round 12 of 25)", 12_000, 0, "updates") as stage:
        stage.update(6_000, "loss 1.2345 nats per step, of which " * 5, in_all=5_025)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).splitlines()[-1].split("\r")[-1]
    for whole in ("(round 12 of 25)", " 6000/12000 ", "of 1:23:45 in all", "…"):
        assert whole in last


def test_what_is_left_in_all_is_that_of_every_later_stage(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    seconds = {"learn": 2.0, "play": 30.0}
    stages = [Stage(kind, turn, n) for turn in range(3) for kind, n in (("learn", 4), ("play", 1))]
    job, pace, whole = types.SimpleNamespace(stages=stages), Pace(), 3 * (8 + 30)
    for job.stage, stage in enumerate(stages):
        pace.begin()
        for job.done in range(1, stage.units + 1):
            clock[0] += seconds[stage.kind]
            pace.note(stage)
            is_known = 0 < job.stage < len(stages) - 1
            assert pace.left(job) == (whole - clock[0] if is_known else None)
        clock[0] += 100.0  # between stages, such as to save
        whole += 100.0

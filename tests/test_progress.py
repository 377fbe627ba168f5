"""What is said of long jobs: enough, and no more."""

import io

from rich.console import Console

from worldmodel.progress import Reporter


def test_what_is_noted_often_is_said_when_it_begins_and_when_it_ends():
    said = io.StringIO()
    reporter = Reporter(Console(file=said, width=80))
    for what in ("playing", "scoring"):
        for done in (*range(101), 100):
            reporter.note(what, done, 100)
    lines = said.getvalue().splitlines()
    assert lines == ["playing: 0/100", "playing: 100/100", "scoring: 0/100", "scoring: 100/100"]

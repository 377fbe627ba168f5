"""The campaign of crowds, in short: silent connections, and visitors who come and go."""

import sys

import pytest

pytest.importorskip("starlette", reason="needs worldmodel-gym[browser]")
pytest.importorskip("uvicorn", reason="needs worldmodel-gym[browser]")
pytest.importorskip("websockets", reason="needs worldmodel-gym[browser]")

from campaigns import crowds


def test_who_sends_a_request_is_served_however_many_do_not(monkeypatch):
    """In a process that may open fewer files than there are connections. How soon is measured by
    the campaign."""
    monkeypatch.setattr(crowds, "FIRST_FRAME", 30.0)
    tally = crowds.silence(1, sys.stderr)
    assert tally.counts["right"] == 2
    assert tally.wrong == []


def test_visitors_come_and_go(monkeypatch):
    monkeypatch.setattr(crowds, "SEATS", 3)
    monkeypatch.setattr(crowds, "VISIT", 0.5)
    tally = crowds.visits(8, 0, sys.stderr)
    assert tally.counts["right"] == tally.measured["games compared"] == 8
    assert tally.wrong == []

"""Runs that are killed, or find the disk full, end bit for bit as if nothing had been; what other
commands write is whole or as it was. A few cases of the campaign `kills`."""

import io
from signal import Signals

import pytest
from campaigns import kills
from campaigns.attacks import AtChange, FullDisk
from campaigns.processes import prepare

from worldmodel import checkpoint

KILL = Signals.SIGKILL


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


@pytest.fixture(scope="module")
def reference(place):
    """A run that was left alone: the quickest."""
    prepare()
    return kills.reference("vae", place / "vae")


def changes(reference, number):
    """Changes of files of a run, evenly spread, of which some are within checkpoints."""
    return range(1, reference.scale.changes, reference.scale.changes // number)


def test_a_run_killed_at_any_change_of_a_file_is_the_run_that_never_was(reference, place):
    for number in changes(reference, 6):
        fate = kills.fate_of(reference, [AtChange(number, KILL)], place / "killed")
        assert not fate.wrong, number
        assert fate.ends[0].code == -KILL


def test_a_run_killed_again_and_again_is_the_run_that_never_was(reference, place):
    attacks = [AtChange(number, KILL) for number in (1, 5, 9, 30, 40, 50)]
    fate = kills.fate_of(reference, attacks, place / "killed", oldest=[False, True] * 3)
    assert not fate.wrong
    assert len(fate.ends) > 4


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_room(reference, place):
    attacks = [FullDisk(number) for number in (1, 30, 40)]
    fate = kills.fate_of(reference, attacks, place / "full")
    assert not fate.wrong
    assert [end.code for end in fate.ends] == [2, 2, 2]
    assert all("make room on the disk" in end.sentence for end in fate.ends)


def test_checkpoints_that_are_not_put_in_place_whole_would_be_noticed(
    reference, place, monkeypatch
):
    """Those that are being written have a name that counts."""
    monkeypatch.setattr(checkpoint, "PART", "checkpoint-999999")
    wrong = [
        kills.fate_of(reference, [AtChange(number, KILL)], place / "broken").wrong
        for number in range(40, 60, 4)
    ]
    assert any("cannot be read" in said for said in wrong)


def test_what_is_written_by_one_command_is_whole_or_as_it_was(place):
    tally = kills.of_writers(4, 1, place / "of-writers", io.StringIO(), ("repair", "export"))
    assert not tally.wrong

"""Threads that cost more than they bring: a run is told so, and learns with one."""

import json

import pytest
import torch

from worldmodel.experiments.cli.main import main
from worldmodel.experiments.runs import processor


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def slow(monkeypatch, factor):
    """A machine where several threads take so many times as long as one."""
    monkeypatch.setattr(processor, "_seconds_with", lambda n: factor if n > 1 else 1.0)


def test_a_run_learns_with_one_thread_where_more_take_far_longer(tmp_path, monkeypatch, capsys):
    slow(monkeypatch, 2.1)
    (tmp_path / "corpus.txt").write_text("the cat sat on the mat\n" * 50)
    run = tmp_path / "run"
    words = ["train", "text", "--corpus", str(tmp_path / "corpus.txt"), "--out", str(run)]
    main([*words, "--quick", "--threads", "2"])
    assert json.loads((run / "config.json").read_text())["config"]["threads"] == 1
    assert torch.get_num_threads() == 1
    assert "2 threads take 2.1 times as long as one" in capsys.readouterr().err


def test_threads_that_pay_are_kept(monkeypatch):
    slow(monkeypatch, 1.9)
    assert processor.paying_threads(2, pytest.fail) == 2
    monkeypatch.setattr(processor, "_seconds_with", lambda n: pytest.fail("measured"))
    assert processor.paying_threads(1, pytest.fail) == 1


def test_a_measurement_leaves_the_threads_as_they_were():
    torch.set_num_threads(1)
    assert processor._seconds_with(2) > 0
    assert torch.get_num_threads() == 1

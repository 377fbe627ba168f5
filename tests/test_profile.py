"""Laws of traces: each kind of stage that is long enough has one, and nothing else changes."""

import gzip
import json

import pytest
import torch
from runs import TINY

from worldmodel import nested
from worldmodel.agents import WorldModelAgent
from worldmodel.experiments.runs.profile import TRACED, WARM_UP, Profile


def trained(*watchers):
    options = TINY | {"first_updates": WARM_UP + TRACED + 2, "first_rollouts": WARM_UP}
    agent = WorldModelAgent("CartPole-v1", **options)
    agent.training.extend(50)
    agent.training.run(*watchers)
    return agent


def test_stages_that_are_long_enough_are_traced_once_and_learn_the_same(tmp_path):
    agent = trained(Profile(tmp_path / "profile"))
    files = {file.name: file for file in (tmp_path / "profile").iterdir()}
    assert "learn.json.gz" in files
    assert "improve.json.gz" not in files  # as short as the units that are not traced
    with gzip.open(files["learn.json.gz"]) as file:
        names = [event.get("name", "") for event in json.load(file)["traceEvents"]]
    assert sum("backward" in name.lower() for name in names) >= TRACED
    for found, expected in zip(
        nested.leaves(dict(agent.model.state_dict())),
        nested.leaves(dict(trained().model.state_dict())),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_trace_ends_with_its_job(tmp_path):
    """By an error amid it, too: the next one begins anew."""

    class Stops(Profile):
        def unit(self, job, stage, metrics):
            super().unit(job, stage, metrics)
            if self._running is not None:
                raise ZeroDivisionError
            return True

    with pytest.raises(ZeroDivisionError):
        trained(Stops(tmp_path / "profile"))
    assert not (tmp_path / "profile").exists()
    trained(Profile(tmp_path / "profile"))
    assert (tmp_path / "profile" / "learn.json.gz").exists()

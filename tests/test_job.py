"""Laws of jobs and of their records: in any pieces they are the same work, whatever stops them."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from worldmodel import timing
from worldmodel.checkpoint import list_checkpoints
from worldmodel.experiments.runs.interruption import Interrupted, InterruptFlag
from worldmodel.experiments.runs.training import Training
from worldmodel.files import DamagedError, RunError
from worldmodel.job import Job, Stage, Title, Watcher
from worldmodel.noise import get_states
from worldmodel.progress import Reporter
from worldmodel.recorder import Recorder
from worldmodel.reports import ProgressReport, TimeReport
from worldmodel.run_folder import RunFolder, logged_in


class Walk(Job):
    """A random walk, in two kinds of stages, of which the second one adds a module at its end."""

    titles = {  # noqa: RUF012
        "walk": Title("walking", "steps"),
        "rest": Title("resting", "breaths"),
    }

    def __init__(self, seed=0):
        super().__init__(seed)
        self.place = torch.zeros(3)
        self.legs = 0
        self.shoes: nn.Module | None = None
        self.stages = [Stage("walk", 0, 3), Stage("rest", 0, 1), Stage("walk", 1, 4)]

    @property
    def modules(self):
        return {} if self.shoes is None else {"shoes": self.shoes}

    def work(self, stage):
        draw = torch.randn(3)
        self.place = self.place + draw if stage.kind == "walk" else self.place / 2
        if self.shoes is not None:
            self.shoes.weight.data += draw
        return {"place": self.place.tolist()}

    def note(self, stage, metrics):
        return f"at {metrics['place'][0]:.0f}"

    def end_stage(self, stage):
        self.legs += 1
        if stage.kind == "rest":
            self.shoes = nn.Linear(3, 3)

    def tensors(self):
        return {"place": self.place}

    def values(self):
        return {"legs": self.legs}

    def build(self, values):
        if values["legs"] > 1:
            self.shoes = nn.Linear(3, 3)

    def load(self, tensors, values):
        self.place, self.legs = tensors["place"], values["legs"]


class Log(Watcher):
    """What a watcher is told, and when it says stop."""

    def __init__(self, *stops):
        self.stops = stops
        self.said = []

    def begin(self, job, stage):
        self.said.append(("begin", stage.kind, job.done))

    def unit(self, job, stage, metrics):
        self.said.append(("unit", stage.kind, job.done))
        return (stage.kind, stage.round, job.done) not in self.stops

    def end(self, job, stage):
        self.said.append(("end", stage.kind, job.done))

    def stop(self, job):
        self.said.append(("stop",))

    def close(self):
        self.said.append(("close",))


def state_of(job):
    """All of it, comparable."""
    tensors, values = job.state()
    weights = [w.tolist() for m in job.modules.values() for w in m.state_dict().values()]
    return [tensors["place"].tolist(), [s.tolist() for s in tensors["noise"]], values, weights]


def test_watchers_are_told_of_stages_and_units_in_their_order():
    log = Log()
    assert Walk().run(log)
    walk = [("begin", "walk", 0), *(("unit", "walk", n) for n in (1, 2, 3)), ("end", "walk", 0)]
    assert log.said[:5] == walk
    assert log.said[5:8] == [("begin", "rest", 0), ("unit", "rest", 1), ("end", "rest", 0)]
    assert log.said[-2:] == [("end", "walk", 0), ("close",)]


def test_a_watcher_stops_a_job_and_all_of_them_hear_of_it():
    """Even those that were asked after it; the job goes on where it stopped."""
    job, stopping, other = Walk(), Log(("walk", 0, 2)), Log()
    assert not job.run(stopping, other)
    for log in (stopping, other):
        assert log.said[-3:] == [("unit", "walk", 2), ("stop",), ("close",)]
    assert (job.stage, job.done, job.is_done) == (0, 2, False)
    assert job.run(other)
    assert other.said.count(("begin", "walk", 2)) == 1  # the same stage again
    assert job.is_done


def test_a_job_stopped_anywhere_goes_on_to_the_same_end():
    whole = Walk()
    whole.run()
    for stop in [("walk", 0, 1), ("walk", 0, 3), ("rest", 0, 1), ("walk", 1, 2), ("walk", 1, 4)]:
        job = Walk()
        job.run(Log(stop))
        job.run()
        assert state_of(job) == state_of(whole)


def test_the_end_of_a_last_stage_may_be_left_to_be_done():
    """Stopped after the last unit of a stage, a job ends the stage when it goes on."""
    job = Walk()
    assert not job.run(Log(("walk", 1, 4)))
    assert job.legs == 2
    assert job.run()
    assert job.legs == 3


def test_the_global_generator_is_left_alone_and_asked_for_nothing():
    torch.manual_seed(3)
    before = get_states()
    one, other = Walk(seed=1), Walk(seed=1)
    one.run()
    assert all(torch.equal(a, b) for a, b in zip(before, get_states(), strict=True))
    torch.manual_seed(4)
    other.run()
    assert state_of(one) == state_of(other)
    third = Walk(seed=2)
    third.run()
    assert third.place.tolist() != one.place.tolist()


def test_watchers_are_closed_by_an_error_too():
    class Broken(Walk):
        def work(self, stage):
            raise RuntimeError("a leg broke")

    log, before = Log(), torch.get_rng_state()
    with pytest.raises(RuntimeError, match="a leg broke"):
        Broken().run(log)
    assert log.said == [("begin", "walk", 0), ("close",)]
    assert torch.equal(torch.get_rng_state(), before)


def test_rounds_are_counted():
    job = Walk()
    assert job.rounds == 2
    job.stages = []
    assert job.rounds == 1
    assert job.is_done


# Records.


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "run", "walks", {})


def go_on(folder, *watchers, seconds=1e9):
    """As another process does."""
    torch.manual_seed(99)
    job, recorder = Walk(), Recorder(folder, seconds)
    recorder.restore(job)
    job.run(recorder, *watchers)
    return job


def metrics(folder):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in folder.metrics()]


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_a_recorded_job_stopped_after_every_unit_is_the_one_that_never_was(
    folder, tmp_path, seconds
):
    """However often checkpoints are written in between."""
    whole = RunFolder.create(tmp_path / "whole", "walks", {})
    expected = go_on(whole)
    stops = [(s.kind, s.round, n + 1) for s in Walk().stages for n in range(s.units)]
    for stop in [*stops, None]:
        job = go_on(folder, Log(stop), seconds=seconds)
    assert state_of(job) == state_of(expected)
    assert metrics(folder) == metrics(whole)
    assert [line["unit"] for line in metrics(whole)] == [1, 2, 3, 1, 1, 2, 3, 4]
    one, other = (f.checkpoint().weights for f in (folder, whole))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert set(other) == {"shoes.weight", "shoes.bias"}


def test_a_job_that_was_killed_goes_on_from_its_last_checkpoint(folder, tmp_path):
    """What was logged after it is forgotten."""

    class Kill(Watcher):
        def unit(self, job, stage, metrics):
            if (stage.round, job.done) == (1, 3):
                raise KeyboardInterrupt
            return True

    whole = RunFolder.create(tmp_path / "whole", "walks", {})
    expected = go_on(whole)
    with pytest.raises(KeyboardInterrupt):
        go_on(folder, Kill())
    assert metrics(folder)[-1]["unit"] == 3
    assert state_of(go_on(folder)) == state_of(expected)
    assert metrics(folder) == metrics(whole)


def test_a_first_checkpoint_is_written_before_anything_is_done(folder):
    Recorder(folder).restore(Walk())
    assert len(list_checkpoints(folder.checkpoints)) == 1
    assert folder.values()["stage"] == 0


def everything_in(folder):
    """The content of every file of a run."""
    files = [path for path in sorted(folder.path.rglob("*")) if path.is_file()]
    return {str(path): path.read_bytes() for path in files}


def test_a_run_whose_checkpoint_cannot_be_read_is_not_begun_anew(folder):
    go_on(folder)
    newest = list_checkpoints(folder.checkpoints)[-1]
    (newest / "state.pt").write_bytes(b"damaged")
    before = everything_in(folder)
    with pytest.raises(DamagedError, match=r"state\.pt is damaged.*--from checkpoint-0000"):
        Recorder(folder).restore(Walk())
    shutil.rmtree(folder.checkpoints)
    with pytest.raises(DamagedError, match="is empty, but the run has metrics"):
        Recorder(folder).restore(Walk())
    assert {path: before[path] for path in everything_in(folder)} == everything_in(folder)


def test_an_older_checkpoint_is_gone_on_from_if_it_is_named(folder):
    expected = go_on(folder)
    older, newest = list_checkpoints(folder.checkpoints)
    (newest / "state.pt").write_bytes(b"damaged")
    said = []
    job, recorder = Walk(), Recorder(folder.at(older.name))
    recorder.restore(job, said.append)
    assert len(said) == 1
    assert f"{newest.name} is not used; it is kept as" in said[0]
    assert (folder.checkpoints / f"aside-1-{newest.name}" / "state.pt").read_bytes() == b"damaged"
    job.run(recorder)
    assert state_of(job) == state_of(expected)
    with pytest.raises(RunError, match="has no checkpoint 'checkpoint-9', only checkpoint-0000"):
        folder.at("checkpoint-9")


@pytest.mark.parametrize("end", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_came_after_a_checkpoint_is_not_gone_on_from_once_that_was_gone_back_to(folder, end):
    """Its episodes may be gone, when a disk is full or Ctrl-C comes while they are removed."""

    class Stopped(Walk):
        def load(self, tensors, values):
            raise end

    class Refused(Walk):
        def load(self, tensors, values):
            raise DamagedError("refused")

    expected = go_on(folder)
    older, newest = list_checkpoints(folder.checkpoints)
    with pytest.raises(DamagedError, match="refused"):
        Recorder(folder.at(older.name)).restore(Refused())
    assert list_checkpoints(folder.checkpoints) == [older, newest]
    said = []
    with pytest.raises(type(end)):
        Recorder(folder.at(older.name)).restore(Stopped(), said.append)
    assert f"{newest.name} is not used; it is kept as" in said[0]
    assert list_checkpoints(folder.checkpoints) == [older]
    assert state_of(go_on(folder)) == state_of(expected)


def cut_off(file):
    os.truncate(file, file.stat().st_size - 1)


def other_digit(file):
    file.write_text(file.read_text().replace('"unit": 1', '"unit": 2', 1))


@pytest.mark.parametrize("spoil", [cut_off, other_digit, Path.unlink])
def test_metrics_are_read_as_they_were_written(folder, spoil):
    """And no run goes on beside others."""
    go_on(folder)
    spoil(folder.metrics_file)
    before = everything_in(folder)
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is"):
        folder.metrics()
    with pytest.raises(DamagedError, match=r"metrics\.jsonl is"):
        Recorder(folder).restore(Walk())
    assert everything_in(folder) == before


def test_what_is_measured_after_the_last_checkpoint_is_compared_too(folder):
    go_on(folder)
    there = folder.metrics()
    folder.log({"stage": "final", "found": 1})
    file = folder.metrics_file
    file.write_text(file.read_text().replace('"found": 1', '"found": 2'))
    with pytest.raises(
        DamagedError, match=rf"line {len(there) + 1} \(its checksum differs\).*repair"
    ):
        folder.metrics()
    assert folder.readable_metrics() == there
    os.truncate(file, 2**40)
    with pytest.raises(DamagedError, match="1,099,511,627,776 bytes, more than"):
        folder.metrics()


@pytest.mark.parametrize("size", [None, "x", -1, True, 1.5])
def test_a_checkpoint_says_how_far_its_metrics_go(size):
    with pytest.raises(DamagedError, match="does not say how far its metrics go"):
        logged_in({"metrics_size": size, "metrics_crc32": 0})


def test_a_line_that_is_being_written_is_not_read_yet(folder):
    go_on(folder, Log(("walk", 0, 2)))
    there = folder.metrics()
    with open(folder.metrics_file, "a") as file:
        file.write('{"stage": "wa')
    assert folder.metrics() == there


def test_one_process_writes(folder):
    program = "import sys; from worldmodel.run_folder import RunFolder; from pathlib import Path\n"
    program += "with RunFolder(Path(sys.argv[1])).locked(): print('in')"
    command = [sys.executable, "-c", program, str(folder.path)]
    root = Path(__file__).parents[1]
    with folder.locked():
        second = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert "InUseError: another process writes to" in second.stderr
    assert subprocess.run(command, cwd=root, capture_output=True).stdout == b"in\n"


def test_times_add_up_and_tell_when_it_was_saved(folder):
    go_on(folder, Log(("walk", 0, 2)))
    first = folder.values()
    recorder = Recorder(folder)
    recorder.restore(Walk())
    assert recorder.seconds >= first["seconds"] > 0
    assert recorder.seconds_before == first["seconds"]
    assert first["saved"].endswith("+00:00")


# Runs in progress.


def test_a_training_is_a_job_in_a_folder_that_may_be_stopped(folder):
    quiet = Reporter()
    training = Training(folder, quiet, Walk())
    training.restore()
    with pytest.raises(Interrupted):
        training.run(lambda job: job.done == 2)
    again = Training(folder, quiet, Walk())
    again.restore()
    assert again.job.done == 2
    again.run()
    assert again.job.is_done
    assert not again.extend(3)  # walks have an end


def test_ctrl_c_ends_a_unit_that_leaves_nothing(folder):
    """All else is ended by the second one only."""

    class Looks(Walk):
        looks: ClassVar = frozenset({"rest"})

        def work(self, stage):
            for _ in range(1 if stage.kind == "rest" else 2):
                signal.raise_signal(signal.SIGINT)
            return super().work(stage)

    training = Training(folder, Reporter(), Looks())
    training.restore()
    training.job.stage = [stage.kind for stage in training.job.stages].index("rest")
    for _ in ("rest", "walk"):
        with pytest.raises(KeyboardInterrupt):
            training.run()
        training.job.stage = 0
    assert folder.metrics() == []


def test_a_training_that_is_extended_keeps_its_plan(folder):
    class Endless(Walk):
        def extend(self, steps):
            self.stages.append(Stage("walk", self.rounds, steps))

        def values(self):
            return super().values() | {"stages": [list(stage) for stage in self.stages]}

        def build(self, values):
            super().build(values)
            self.stages = [Stage(*stage) for stage in values["stages"]]

    training = Training(folder, Reporter(), Endless())
    training.restore()
    training.run()
    assert training.extend(2)
    again = Training(folder, Reporter(), Endless())  # it was killed at once
    again.restore()
    assert not again.job.is_done
    again.run()
    units = [line["unit"] for line in folder.metrics() if line["round"] == 2]
    assert units == [1, 2]


def test_progress_is_reported_by_stage_with_its_round(capsys):
    with contextlib.suppress(Interrupted):
        Walk().run(ProgressReport(Reporter()))
    said = capsys.readouterr().err
    for words in ("walking (round 1 of 2): 3 steps", "resting (round 1 of 2): 1 breaths"):
        assert words in said
    assert "walking (round 2 of 2): 4/4" in said
    assert "at " in said


def test_where_the_time_went_is_told_with_rates_and_memory(capsys, monkeypatch):
    """Of seven steps of 20 s, 5 s of which it reads, a breath of 40 s, and 20 s between stages:
    200 s in all. Each step takes two of an environment."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Timed(Walk):
        def work(self, stage):
            if stage.kind == "walk":
                with timing.spent(timing.READING):
                    now[0] += 5
            now[0] += 15 if stage.kind == "walk" else 40
            return super().work(stage)

        def steps(self, stage, metrics):
            return 2 if stage.kind == "walk" else 0

        def end_stage(self, stage):
            now[0] += 20 if stage.kind == "rest" else 0
            super().end_stage(stage)

    Timed().run(TimeReport(Reporter(), "rank 1: "))
    said = capsys.readouterr().err
    assert said.startswith(
        "rank 1: 0:03:20 in all: walking 70% at 0.1 steps/s, resting 20% at 0.025 breaths/s, "
        "the rest 10% (reading 18%); at most "
    )
    assert said.endswith(" MiB of memory\n")


def test_values_of_a_checkpoint_are_for_json(folder):
    go_on(folder)
    values = folder.values()
    assert json.loads(json.dumps(values)) == values
    assert {"stage", "done", "legs", "seconds", "saved", "metrics_size"} <= values.keys()


class Dropping:
    """Raises an exception where Python drops it."""

    def __init__(self, error):
        self.error = error

    def __del__(self):
        raise self.error


def test_a_second_ctrl_c_that_python_drops_leaves_no_traceback(monkeypatch):
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    with InterruptFlag():
        Dropping(KeyboardInterrupt())
        assert not said
        Dropping(ValueError())
    assert [error.exc_type for error in said] == [ValueError]

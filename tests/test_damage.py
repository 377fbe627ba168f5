"""Laws of damaged runs, of every kind: nothing is begun anew, nothing older is shown, nothing
removed; what is read is what was written, or a sentence."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from campaigns import damage as campaign
from campaigns.subjects import Subject
from command_line import assert_refused, worldmodel
from damage import KINDS, MUTATIONS, READS, RefusedError, faults, files_of, flipped, made, piped

from worldmodel.checkpoint import list_checkpoints
from worldmodel.files import read_json, write_json

ROOT = Path(__file__).parents[1]
WEIGHTS = "weights.safetensors"


@pytest.fixture(scope="session")
def run_of(tmp_path_factory):
    """A run of each kind, made once."""
    found = {}

    def run(kind):
        if kind not in found:
            found[kind] = made(kind, tmp_path_factory.mktemp(kind))
        return found[kind]

    return run


@pytest.fixture
def copy_of(run_of, tmp_path):
    """A copy of a run of a kind, to be damaged."""
    return lambda kind: Path(shutil.copytree(run_of(kind), tmp_path / "run"))


def checkpoints_of(run):
    return list_checkpoints(run / "checkpoints")


def everything_in(run):
    """The content of every file, but for the lock."""
    files = (file for file in sorted(run.rglob("*")) if file.is_file() and file.name != "lock")
    return {file.relative_to(run): file.read_bytes() for file in files}


def cut_off(checkpoint):
    os.truncate(checkpoint / WEIGHTS, 100)


def newer_schema(checkpoint):
    file = checkpoint / "checkpoint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"schema_version": 99}))


@pytest.mark.parametrize("spoil", [cut_off, newer_schema, shutil.rmtree])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_cannot_be_read_is_not_begun_anew(copy_of, kind, spoil):
    run = copy_of(kind)
    for checkpoint in checkpoints_of(run):
        spoil(checkpoint)
    before = everything_in(run)
    assert_refused(worldmodel("resume", run), "checkpoint")
    assert everything_in(run) == before


@pytest.mark.parametrize("kind", ["control", "text", "vae"])
def test_an_older_checkpoint_is_used_only_if_it_is_named(copy_of, kind):
    run = copy_of(kind)
    *_, older, newest = checkpoints_of(run)
    flipped(newest / WEIGHTS)
    before = everything_in(run)
    for read in (READS[kind].get(name) for name in ("evaluate", "generate", "load")):
        if read is not None:
            with pytest.raises(RefusedError, match=f"damaged.*--from {older.name}"):
                read(run)
    assert_refused(worldmodel("resume", run), "damaged", f"--from {older.name}")
    assert everything_in(run) == before
    result = worldmodel("resume", run, "--from", older.name)
    assert result.returncode == 0, result.stderr
    assert f"as {older.name} left it" in result.stderr
    assert f"{newest} is not used; it is kept as" in result.stderr
    assert before[(newest / WEIGHTS).relative_to(run)] in everything_in(run).values()
    for read in READS[kind].values():
        read(run)


def test_what_is_shown_of_an_older_checkpoint_says_so(copy_of):
    run = copy_of("text")
    older, _ = checkpoints_of(run)
    before = everything_in(run)
    result = worldmodel("evaluate", run, "--json", "--from", older.name)
    assert f"as {older.name} left it" in result.stderr
    assert json.loads(result.stdout)["checkpoint"] == older.name
    assert everything_in(run) == before
    assert_refused(worldmodel("evaluate", run, "--from", "checkpoint-7"), "no checkpoint 'check")


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_goes_on_with_a_run(copy_of, kind):
    run = copy_of(kind)
    program = "import sys; from worldmodel.run_folder import RunFolder; from pathlib import Path\n"
    program += "with RunFolder(Path(sys.argv[1])).locked(): print('in', flush=True), input()"
    command = [sys.executable, "-c", program, str(run)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as other:
        assert other.stdout.readline() == "in\n"
        before = everything_in(run)
        assert_refused(worldmodel("resume", run), "another process writes to")
        if "evaluate" in READS[kind]:
            assert_refused(worldmodel("evaluate", run, "--save"), "another process writes to")
        assert everything_in(run) == before
        other.communicate("\n")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written_through_a_link_in_a_run(copy_of, kind, tmp_path):
    run, precious = copy_of(kind), tmp_path / "precious"
    precious.write_text("mine")
    for name in ("evaluation.json.part", "metrics.jsonl", "checkpoints/.part", "episodes/lock"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(precious)
        assert_refused(worldmodel("resume", run), "is a link")
        (run / name).unlink()
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipe_in_a_run_is_not_waited_for(copy_of, kind):
    run = copy_of(kind)
    piped(run / files_of(run)[-1])
    for read in READS[kind].values():
        with pytest.raises(RefusedError, match="neither a file nor a folder"):
            read(run)
    assert_refused(worldmodel("resume", run), "neither a file nor a folder")


@pytest.mark.parametrize("kind", ["control", "text", "vae"])
def test_what_is_read_of_a_damaged_run_is_what_was_written_or_a_sentence(run_of, kind, tmp_path):
    """Each file with one mutation, the next file with the next."""
    run = run_of(kind)
    cases = zip(files_of(run), itertools.cycle(MUTATIONS[:4]))
    assert list(faults(run, READS[kind], cases, tmp_path)) == []


def test_a_slice_of_the_campaign(tmp_path):
    """Of damaged files, in all ways, and what verbs in other processes make of them."""
    (tally,) = campaign.run(24, 0, tmp_path, sys.stderr, only=("text", "episodes"))
    assert tally.wrong == []
    assert tally.counts.total() == 24
    assert tally.counts["sentence"] > 5
    assert tally.counts["right"] > 1


def test_every_mutation_is_tried_on_every_kind_of_file_before_any_is_tried_again(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (run / name).write_text("{}\n")
    made = {"one": Subject("one", run, dict.fromkeys(["load", "plot"]))}
    every = {(case.kind, case.mutation, case.verb) for case in campaign.all_cases(made)}
    drawn = campaign.drawn(made, np.random.default_rng(0))
    for _ in range(2):
        some = list(itertools.islice(drawn, len(every)))
        assert {(case.kind, case.mutation, case.verb) for case in some} == every


def rows_of(run, kind):
    """The file of a run's observations."""
    place = "train/" if kind == "text" else ""
    return run / "episodes" / f"{place}000000000000" / "observation"


@pytest.mark.parametrize("kind", ["control", "text"])
def test_a_damaged_episode_is_named_and_can_be_left_out(copy_of, kind):
    run = copy_of(kind)
    flipped(rows_of(run, kind))
    before = everything_in(run)
    read = READS[kind]["export" if kind == "control" else "evaluate"]
    with pytest.raises(RefusedError, match=r"the rows of episode .*worldmodel repair"):
        read(run)
    result = worldmodel("repair", run)
    assert result.returncode == 0, result.stderr
    assert re.search(r"the rows of 1 of \d+ episodes are damaged \(number \d+\)", result.stderr)
    assert "nothing is changed" in result.stderr
    assert everything_in(run) == before
    result = worldmodel("repair", run, "--yes")
    assert result.returncode == 0, result.stderr
    assert "what was there is kept as" in result.stderr
    assert before[rows_of(run, kind).relative_to(run)] in everything_in(run).values()
    assert "no episode is damaged" in worldmodel("repair", run).stderr
    for read in READS[kind].values():
        read(run)
    more = ("--steps", 20) if kind == "control" else ()
    result = worldmodel("resume", run, *more)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("read", ["evaluate", "export"])
def test_an_unfinished_episode_whose_record_is_damaged_changes_nothing(copy_of, run_of, read):
    """The last record of an index may be what a kill left, so it is dropped; but what is shown are
    the episodes of the checkpoint, which has the unfinished ones itself."""
    run = copy_of("control")
    counts = [json.loads(line).get("unfinished") for line in (run / "metrics.jsonl").open()]
    assert [count for count in counts if count is not None][-1] == 1
    (index,) = (run / "episodes").glob("*/index")
    raw = bytearray(index.read_bytes())
    raw[-7] ^= 1
    index.write_bytes(raw)
    assert READS["control"][read](run) == READS["control"][read](run_of("control"))


def test_metrics_that_are_damaged_can_be_left_out(copy_of):
    run = copy_of("control")
    file = run / "metrics.jsonl"
    file.write_text(file.read_text().replace('"stage": "improve"', '"stage: "improve"', 1))
    assert_refused(worldmodel("resume", run), "metrics.jsonl is damaged", "worldmodel repair RUN")
    lines = len(file.read_text().splitlines())
    result = worldmodel("repair", run, "--yes")
    assert f"{lines - 1} lines of it can be read" in result.stderr
    READS["control"]["plot"](run)
    assert worldmodel("resume", run).returncode == 0


def test_statistics_of_another_type_get_a_sentence(copy_of):
    """Though whoever changed them has mended their checksum."""
    run = copy_of("audio")
    file = run / "episodes" / "statistics.json"
    described = read_json(file)
    described["statistics"]["std"] = None
    write_json(file, described)
    assert_refused(worldmodel("evaluate", run), "statistics.json cannot be read", "damaged")

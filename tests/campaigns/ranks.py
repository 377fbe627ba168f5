"""Ranks: every core by every objective on 2 and 4 of them, and runs whose ranks are killed.

However often ranks were killed, a run has to end bit for bit as the one of as many ranks that was
left alone.
"""

import itertools
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TextIO

from cores import CASES as CORES
from kinds import MADE, config_for, write_files
from rank_laws import check, of_cores, of_policies
from ranks import ended, started
from runs import assert_same

from campaigns.processes import Ended
from campaigns.tally import Tally
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.runs.command import arguments_of
from worldmodel.run_folder import RunFolder

CASES = 100
SIZES = (2, 4)
ENDS = {0, 2, -signal.SIGTERM, -signal.SIGKILL}  # exit codes of a run whose rank is killed
LONGEST = 5.0  # seconds after which a rank is killed, at most
MEETING = 20.0  # seconds in which the others notice that a rank has ended which had come
LOST = "another rank of this run has ended"


def run(cases: int, seed: int, place: Path, to: TextIO) -> Iterator[Tally]:
    """The law, and then runs that are attacked."""
    yield of_laws(to)
    yield of_kills(cases, seed, place, to)


def of_laws(to: TextIO) -> Tally:
    """Gradients, figures, states and noise of each core by each objective, and of policies."""
    works = of_cores(CORES) | of_policies()
    tally = Tally("law of ranks", len(SIZES) * len(works), to)
    for size, name in itertools.product(SIZES, works):
        try:
            check(size, {name: works[name]})
            tally.right()
        except AssertionError as error:
            tally.fault(f"{name} on {size}", str(error))
    return tally


def of_kills(cases: int, seed: int, place: Path, to: TextIO) -> Tally:
    """Commands one of whose ranks is killed, again and again until the run ends."""
    tally = Tally("killed ranks", cases, to)
    files = write_files(MADE["text"], place / "files")
    config = config_for(MADE["text"], files, updates=60, model={"core": "vrnn"})
    config = replace(config, checkpoint_seconds=1e-6)
    expected = {size: _left_alone(config, place / f"expected-{size}", size) for size in SIZES}
    for number in count():
        if tally.counts.total() >= cases:
            return tally
        chance, size = random.Random(seed + number), SIZES[number % len(SIZES)]
        path = place / "attacked"
        shutil.rmtree(path, ignore_errors=True)
        said = _attacked(config, path, size, chance)
        if not said:
            try:
                assert_same(RunFolder.open(path), expected[size])
            except AssertionError:
                said = "it ended otherwise"
        tally.fault(f"run {number} on {size}", said) if said else tally.right()


def _left_alone(config: object, path: Path, size: int) -> RunFolder:
    words = arguments_of(config, path)
    for end in ended(started(size, lambda: main(words))):
        assert end.code == 0, end
    return RunFolder.open(path)


def _attacked(config: object, path: Path, size: int, chance: random.Random) -> str:
    """A run one of whose ranks is killed until one command ends by itself; what is wrong."""
    words = arguments_of(config, path)
    for restarts in count():
        forks = started(size, lambda: main(words), restarts)
        victim = chance.choice(forks)
        if not victim.ends_within(chance.uniform(0, LONGEST)):
            victim.send(signal.SIGKILL)
            for fork in forks:  # that wait for one that had not come yet: torchrun ends them
                if not fork.ends_within(MEETING):
                    fork.send(signal.SIGTERM)
        ends = ended(forks)
        if all(end.code == 0 for end in ends):
            return ""
        if said := _wrong(ends):
            return said
    return ""


def _wrong(ends: list[Ended]) -> str:
    """What is wrong with how ranks ended, one of which was killed; "": nothing."""
    codes = [end.code for end in ends]
    if codes.count(-signal.SIGKILL) != 1 or {*codes} - ENDS:
        return f"exit codes {codes}: {[end.sentence for end in ends]}"
    told = [end.sentence for end in ends if LOST in end.error]
    return "" if len(told) == (2 in codes) else f"told {len(told)} times: {told}"

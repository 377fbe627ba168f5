"""Damage: every file of every kind of run, changed in every way, under every verb that reads it.

A case is a folder, one file of it, a mutation and a verb. The verb gives what it gave before, or
ends in one sentence; it writes nothing into the folder that it reads, takes no memory for numbers
that only a header knows of, and waits for nothing. Half of the cases have their checksums mended:
then other results are what somebody has written, and all else holds.

Every kind of file meets every mutation under every verb once, at places that are drawn, before
any does so again.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from campaigns.mutations import Mutation, forbidden, mutations_for, of_another, sign
from campaigns.subjects import CHANGING, TELLING, Subject, everything_in, results, subjects, tried
from campaigns.tally import Tally
from worldmodel.checkpoint import list_checkpoints

CASES = 5_500
UNREAD = ("videos", "samples", "generated", "report.html")
NO_MEMORY = "there is not enough memory"


class Case(NamedTuple):
    """A damage, and the verb that meets it."""

    subject: str
    file: Path  # relative
    kind: str  # of the file
    mutation: Mutation
    verb: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.file} {self.mutation.__name__}, {self.verb}"


def run(
    cases: int, seed: int, place: Path, to: TextIO, only: Sequence[str] = ()
) -> Iterator[Tally]:
    """Tries some cases. only: names of subjects; all, if there are none."""
    place.chmod(0o755)  # for `forbidden`
    os.environ["XDG_STATE_HOME"] = str(place / "state")
    made = subjects(place, only)
    tally = Tally("damage", cases, to)
    random = np.random.default_rng(seed)
    attempt = partial(_attempt, made, {}, place, tally)
    for case, _ in zip(drawn(made, random), range(cases), strict=False):
        attempt(case, random)
    yield tally


def drawn(made: dict[str, Subject], random: np.random.Generator) -> Iterator[Case]:
    """Endless cases, evenly over kinds of files, mutations and verbs."""
    groups: dict[tuple[str, str, str], list[Case]] = defaultdict(list)
    for case in all_cases(made):
        groups[case.kind, case.mutation.__name__, case.verb].append(case)
    while groups:
        for number in random.permutation(len(groups)):
            group = list(groups.values())[number]
            yield group[random.integers(len(group))]


def all_cases(made: dict[str, Subject]) -> Iterator[Case]:
    """Every file of every subject, with every mutation that fits it, under every verb."""
    for name, subject in made.items():
        for file in sorted(subject.path.rglob("*")):
            if not file.is_file():
                continue
            relative = file.relative_to(subject.path)
            for mutation in mutations_for(file, others(made, subject, relative)):
                for verb in subject.verbs:
                    yield Case(name, relative, kind_of(subject, relative), mutation, verb)


def kind_of(subject: Subject, file: Path) -> str:
    """The kind of a file, by what reads it."""
    older = list_checkpoints(subject.path / "checkpoints")[:-1]
    if file.parts[0] in UNREAD:
        return "unread"
    if subject.name.endswith("files"):
        return file.suffix
    if any(folder.name in file.parts for folder in older):
        return f"older {file.name}"
    if not file.suffix and file.name not in ("index", "lock"):
        return "rows"
    return file.suffix if file.suffix == ".npz" else file.name


def others(made: dict[str, Subject], subject: Subject, file: Path) -> list[Path]:
    """Files of the same name of others, and of the subject's older checkpoint.

    A configuration is whole without them, and may have been exchanged on purpose: it has none.
    """
    if file.name == "config.json":
        return [s.path / file for s in made.values() if _is_other_kind(s, subject, file)]
    found = [s.path / file for s in made.values() if s.path != subject.path]
    found += [path / file.name for path in list_checkpoints(subject.path / "checkpoints")[:-1]]
    same = (subject.path / file).read_bytes()
    return [path for path in found if path.is_file() and path.read_bytes() != same]


def _is_other_kind(one: Subject, other: Subject, file: Path) -> bool:
    return (one.path / file).is_file() and one.name.split()[0] != other.name.split()[0]


def _attempt(
    made: dict[str, Subject],
    references: dict[tuple[str, str], list[tuple[str, str]]],
    place: Path,
    tally: Tally,
    case: Case,
    random: np.random.Generator,
) -> None:
    subject = made[case.subject]
    verb = subject.verbs[case.verb]
    key = case.subject, case.verb
    if key not in references:
        copy, out = _fresh(subject, place)
        end = tried(verb, copy, out)
        assert end.code == 0, (key, end)
        references[key] = results(end, case.verb, out)
    copy, out = _fresh(subject, place)
    file = copy / case.file
    case.mutation(file, random, others(made, subject, case.file))
    is_signed = bool(random.integers(2)) and sign(copy, file)
    as_nobody = case.mutation is forbidden and os.getuid() == 0
    if as_nobody:
        for path in (copy, out, *copy.rglob("*")):
            shutil.chown(path, 65_534, 65_534)
    before = everything_in(copy)
    end = tried(verb, copy, out, as_nobody)
    name = f"{case}{' (signed)' * is_signed}"
    if case.verb not in CHANGING and everything_in(copy) != before:
        tally.fault(name, "the folder is changed")
    elif NO_MEMORY in end.error:
        tally.fault(name, f"memory is asked for: {end.sentence}")
    elif end.code == 0 and (is_signed or case.verb in TELLING or _is_free(case)):
        tally.right("accepted")
    else:
        right = end.code == 0 and results(end, case.verb, out) == references[key]
        tally.end(name, end, right)


def _is_free(case: Case) -> bool:
    """True where other results are no fault: recordings of the user's have no checksum, nor does
    what was logged after the last checkpoint before a kill."""
    return case.subject.endswith("files") or (
        case.mutation is of_another and case.file.name == "config.json"
    )


def _fresh(subject: Subject, place: Path) -> tuple[Path, Path]:
    """A copy of a subject's folder, and an empty folder for what a verb writes."""
    copy, out = place / "copy", place / "out"
    for old in (copy, out, place / "trained"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(subject.path, copy)
    out.mkdir()
    return copy, out

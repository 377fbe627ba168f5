"""The count of a campaign: cases tried, those that went right, ended in a sentence, went wrong."""

import time
from collections import Counter
from typing import Any, TextIO

from campaigns.processes import Ended

SECONDS_BETWEEN_LINES = 10
SENTENCE_LENGTH = 300


class Tally:
    """Counts cases and says how far it is; what went wrong is kept and printed at once."""

    def __init__(self, name: str, cases: int, to: TextIO):
        self.name, self.cases = name, cases
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.measured: dict[str, float] = {}  # figures besides, by name and unit
        self._to, self._begun, self._said = to, time.monotonic(), 0.0

    def right(self, kind: str = "right") -> None:
        """Counts a case in which all was as if nothing had been (or another good end, by name)."""
        self._count(kind)

    def sentence(self) -> None:
        """Counts a case that ended with one sentence."""
        self._count("sentence")

    def fault(self, case: str, what: str) -> None:
        """Counts a case that went wrong, and prints it."""
        self.wrong.append(f"{case}: {what}")
        print(f"WRONG {case}: {what}", file=self._to, flush=True)
        self._count("wrong")

    def end(self, case: str, end: Ended, right: bool | None = None) -> None:
        """Counts how a command ended: with exit code 0 it is right if `right`, with 2 it has to be
        one sentence; all else is wrong."""
        if end.code == 0:
            self.right() if right else self.fault(case, "exit code 0 and other results")
        elif problem := problem_of(end):
            self.fault(case, problem)
        else:
            self.sentence()

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        now, done = time.monotonic(), self.counts.total()
        if now - self._said > SECONDS_BETWEEN_LINES or done == self.cases:
            self._said = now
            rate = done / max(now - self._begun, 1e-9)
            left = max(self.cases - done, 0) / rate
            kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.counts.items()))
            line = f"{self.name}: {done}/{self.cases}  {rate:.2f} cases/s  {kinds}"
            print(f"{line}  {left:.0f} s left", file=self._to, flush=True)

    def as_json(self) -> dict[str, Any]:
        """The figures: tried, right and its other names, sentence, wrong, minutes, what else was
        measured."""
        minutes = round((time.monotonic() - self._begun) / 60, 1)
        counts = {kind: self.counts[kind] for kind in ("right", "sentence", "wrong")}
        named = counts | dict(sorted(self.counts.items()))
        measured = {name: float(f"{value:.3g}") for name, value in self.measured.items()}
        tried = {"campaign": self.name, "tried": self.counts.total()}
        return tried | named | {"minutes": minutes} | measured


def problem_of(end: Ended) -> str:
    """What is wrong with the end of a refused command; empty for one sentence and exit code 2."""
    if end.code is None:
        return "hangs"
    if "Traceback" in end.error + end.out:
        return f"traceback (exit code {end.code}): {end.sentence}"
    if end.code != 2:
        return f"exit code {end.code}: {end.sentence}"
    if not end.sentence.startswith("worldmodel: "):
        return f"no sentence: {end.error[-200:]!r}"
    if len(end.sentence) > SENTENCE_LENGTH:
        return f"a sentence of {len(end.sentence)} characters: {end.sentence}"
    return ""

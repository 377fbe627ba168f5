"""Text, character by character: any UTF-8 or UTF-16, with a vocabulary from the corpus."""

import codecs
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from worldmodel.experiments.data.readers.files import (
    BadFileError,
    OnError,
    Recording,
    Split,
    files_of,
    readable,
)
from worldmodel.experiments.recordings.modality import FileModality, Report
from worldmodel.run_folder import RunError, write_text
from worldmodel.sequence_model.modality import RARE, Characters

LONGEST = 2**20  # characters of a recording: longer texts are cut
BLOCK = 2**16  # bytes read at once
FEWEST = 2  # characters of a file
MOST_ZEROS = 0.1  # share of the bytes of a text that is no UTF-16
LISTED = 5  # characters that a sentence lists


class Text(FileModality):
    """Characters of text.

    statistics: {"symbols": the characters that have a number, the first for all others}.
    """

    frame = "character"
    default_head = "categorical"
    suffixes = (".txt",)

    def __init__(self, data: Any, statistics: dict[str, Any]):
        super().__init__(data, statistics)
        self.characters = Characters(statistics["symbols"])
        self.symbols = self.characters.symbols

    @classmethod
    def first_statistics(cls, data: Any, report: Report) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        files = files_of([Path(path) for path in data.data], cls.suffixes)
        for of_file in readable(files, _counted, data.on_error, report):
            counts.update(of_file)
        common = sorted(c for c, n in counts.items() if n >= data.rare and c != RARE)
        if len(common) < 2:
            raise RunError(
                f"the corpus has {sum(counts.values())} characters, {len(common)} of them "
                "different and frequent enough: there is nothing to learn; give more text, or "
                "less --rare"
            )
        rare = counts.total() - sum(counts[c] for c in common)
        also = f" and {rare:,} rare ones as one symbol" if rare else ""
        report(f"{sum(counts.values()):,} characters, {len(common)} different ones{also}")
        return {"symbols": RARE + "".join(common)}

    @property
    def observation_space(self) -> spaces.Discrete:
        return self.characters.observation_space

    def recordings(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[Recording]:
        unseen: Counter[str] = Counter()
        for file, _ in self._files(paths, on_error, report):
            for done, text in _cut(characters(file), 0):
                unseen.update(set(text) - self.characters.numbers.keys())
                yield Recording(self.encode(text), _place(file, done))
        if unseen:
            shown = ", ".join(repr(c) for c, _ in unseen.most_common(LISTED))
            report(
                f"{len(unseen)} different characters, such as {shown}, were never learned: each "
                "is taken for the one symbol of rare characters"
            )

    def learned(self, report: Report) -> Iterator[Recording]:
        """The recordings of each file; its last share is for validation."""
        for file, total in self._files(self.data.data, self.data.on_error, report):
            learned = int(total * (1 - self.data.held_out))
            for done, text in _cut(characters(file), learned):
                split: Split = "train" if done < learned else "valid"
                yield Recording(self.encode(text), _place(file, done), split)

    def _files(
        self, paths: Sequence[str], on_error: OnError, report: Report
    ) -> Iterator[tuple[Path, int]]:
        """Readable files, and the number of characters of each."""

        def measured(file: Path) -> Iterator[tuple[Path, int]]:
            yield file, sum(map(len, characters(file)))

        files = files_of([Path(path) for path in paths], self.suffixes)
        return readable(files, measured, on_error, report)

    @property
    def orders(self) -> int:
        return 6

    def encode(self, recording: str) -> np.ndarray:
        return self.characters.encode(recording)

    def decode(self, observation: np.ndarray) -> str:
        return self.characters.decode(observation)

    def prompt(self, given: str, length: int, report: Report) -> np.ndarray:
        unseen = sorted(set(given) - self.characters.numbers.keys())
        if not given:
            raise RunError("--prompt is empty: leave it out, or give some characters")
        if unseen:
            shown = ", ".join(map(repr, unseen[:LISTED]))
            report(f"never learned: {shown}; taken for the one symbol of rare characters")
        return self.encode(given)

    def write(self, samples: list[np.ndarray], stem: Path, report: Report) -> list[Path]:
        file = stem.with_name(f"{stem.name}.txt")
        ruler = "\n" + "-" * 72 + "\n"
        write_text(file, ruler.join(map(self.decode, samples)) + "\n")
        return [file]

    def words(self, sample: np.ndarray) -> str:
        return self.decode(sample)

    def figures(self, nats: float) -> dict[str, float]:
        with np.errstate(over="ignore"):  # a model that has gone astray has an infinite one
            return {"bits_per_character": nats / math.log(2), "perplexity": float(np.exp(nats))}

    def parts(self, recording: Recording, nats: np.ndarray) -> Iterator[dict[str, Any]]:
        """The lines of a recording, with their line breaks."""
        text = self.decode(recording.observation)
        begin = 0
        for line in text.splitlines(keepends=True):
            end = begin + len(line)
            yield {"text": line, "rows": len(line), "nats": float(nats[begin:end].sum())}
            begin = end


def characters(file: Path) -> Iterator[str]:
    """The text of a file, block by block, without its byte order mark: UTF-8, or UTF-16 if such a
    mark says so."""
    found = done = 0
    try:
        with open(file, "rb") as opened:
            decoder = codecs.getincrementaldecoder(_code(file, opened.peek(BLOCK)))()
            while block := opened.read(BLOCK):
                text = _decoded(decoder, block, False, file, done)
                done += len(block)
                found += len(text)
                if text:
                    yield text
    except OSError as error:
        raise BadFileError(f"{file} cannot be read ({error.strerror}); leave it out") from error
    _decoded(decoder, b"", True, file, done)
    if found < FEWEST:
        raise BadFileError(
            f"{file} has {found} characters: there is nothing to learn from less than {FEWEST}"
        )


def _code(file: Path, begin: bytes) -> str:
    """The codec of a text that begins with these bytes."""
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [begin[at::2].count(0) for at in (0, 1)]  # at even places, and at odd ones
    if max(zeros) > len(begin) * MOST_ZEROS:
        raise BadFileError(
            f"{file} is no UTF-8 text: many of its bytes are 0, as in UTF-16; convert it, for "
            f"example by iconv -f UTF-16{'BE' if zeros[0] > zeros[1] else 'LE'} -t UTF-8"
        )
    return "utf-8-sig"


def _decoded(decoder: Any, block: bytes, final: bool, file: Path, done: int) -> str:
    waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        wide = "16" in error.encoding
        place = done - waiting + error.start
        raise BadFileError(
            f"{file} is no {'UTF-16' if wide else 'UTF-8'} text: byte {place} ({error.reason}); "
            + ("copy it again" if wide else "convert it, for example by iconv -f LATIN1 -t UTF-8")
        ) from error


def _counted(file: Path) -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()
    for block in characters(file):
        counts.update(block)
    yield counts


def _cut(blocks: Iterator[str], learned: int) -> Iterator[tuple[int, str]]:
    """Cuts text into pieces of at most `LONGEST` characters, one of which ends after `learned` of
    them; yields the number of characters before each, and the piece."""
    waiting, done = "", 0
    for block in blocks:
        waiting += block
        while waiting:
            size = min(LONGEST, learned - done) if done < learned else LONGEST
            if len(waiting) < size:
                break
            yield done, waiting[:size]
            waiting, done = waiting[size:], done + size
    if waiting:
        yield done, waiting


def _place(file: Path, done: int) -> str:
    return f"{file}, from character {done + 1} on" if done else str(file)

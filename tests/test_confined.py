"""Laws of readers in a process of their own: what ends them is one bad file, and no more."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from worldmodel.experiments.data.readers import confined as module
from worldmodel.experiments.data.readers.confined import confined
from worldmodel.experiments.data.readers.files import BadFileError, readable

HERE = Path("a.wav")


def numbers(path, first, count):
    """A reader without a fault."""
    for number in range(first, first + count):
        yield np.full(3, number), path.name


def process(path):
    yield os.getpid()


def hanging(path):
    yield 1
    while True:
        pass


def waiting(path):
    time.sleep(1)
    yield 1


def crashing(path):
    yield 1
    os.kill(os.getpid(), signal.SIGSEGV)


def greedy(path, size):
    yield bytearray(size)


def wrong(path):
    yield 1
    raise ValueError("two\nlines")


def bad(path):
    yield 1
    raise BadFileError(f"{path} is a bad file; leave it out")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.3)


def test_items_come_as_they_are_and_in_order():
    found = list(confined(numbers, HERE, 5, 100))
    assert [array.tolist() for array, _ in found] == [[n] * 3 for n in range(5, 105)]
    assert {name for _, name in found} == {"a.wav"}
    assert list(confined(numbers, HERE, 5, 0)) == []


def test_it_is_another_process_and_the_same_for_the_next_file():
    (first,) = confined(process, HERE)
    (second,) = confined(process, HERE)
    assert first == second != os.getpid()


@pytest.mark.parametrize(
    ("read", "arguments", "said"),
    [
        (hanging, (), "takes more than 0.3 seconds"),
        (crashing, (), "ended with SIGSEGV"),
        (greedy, (2**40,), "MemoryError"),
        (wrong, (), "cannot be read: two lines"),
        (bad, (), "is a bad file"),
    ],
)
def test_a_fault_is_a_bad_file_after_what_came_before(read, arguments, said):
    found = []
    with pytest.raises(BadFileError, match=rf"^a\.wav .*{said}.*leave it out$") as error:
        found.extend(confined(read, HERE, *arguments))
    assert "\n" not in str(error.value)
    assert len(list(confined(numbers, HERE, 0, 2))) == 2  # the next is read


def test_a_bad_file_among_others_is_left_out():
    readers = {"a.wav": process, "b.wav": hanging, "c.wav": crashing, "d.wav": process}
    files, lines = [Path(name) for name in readers], []
    found = list(readable(files, lambda f: confined(readers[f.name], f), "skip", lines.append))
    assert len(found) == 4  # of b and c, what came before
    assert [line.split()[0] for line in lines] == ["b.wav", "c.wav"]


def test_the_limit_is_of_work_and_not_of_waiting():
    assert list(confined(waiting, HERE)) == [1]


def test_readers_that_are_left_early_or_taken_in_turns_do_not_mix():
    one, other = confined(numbers, HERE, 0, 50), confined(numbers, HERE, 100, 50)
    pairs = zip(one, other, strict=True)
    assert all(b[0][0] - a[0][0] == 100 for a, b in (next(pairs) for _ in range(20)))
    one.close()
    assert next(confined(numbers, HERE, 7, 1))[0][0] == 7
    assert [array[0] for array, _ in other] == [*range(120, 150)]


def test_a_process_that_waited_too_long_is_replaced(monkeypatch):
    (first,) = confined(process, HERE)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    (second,) = confined(process, HERE)
    assert first != second
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)

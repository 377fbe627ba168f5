"""Damaged files, made by the tests."""

from pathlib import Path

import numpy as np


def mutant(data: bytes, random: np.random.Generator) -> bytes:
    """`data` with one to four damages."""
    bytes_ = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at, to = sorted(random.integers(0, len(bytes_) + 1, 2).tolist())
        match random.integers(7):
            case 0:
                for place in random.integers(0, max(1, len(bytes_)), 3).tolist():
                    bytes_[place : place + 1] = random.bytes(1)
            case 1:
                bytes_[at : at + 1] = bytes([random.choice([0, 1, 0x7F, 0x80, 0xFF])])
            case 2:
                del bytes_[at : min(to, at + 16)]
            case 3:
                bytes_[at:at] = random.bytes(random.integers(1, 9))
            case 4:
                bytes_[at:at] = bytes_[at:to]
            case 5:
                middle = (at + to) // 2
                bytes_[at:to] = bytes_[middle:to] + bytes_[at:middle]
            case _ if random.random() < 0.2:
                del bytes_[at:]
    return bytes(bytes_)


def put(path: Path, data: bytes) -> None:
    """A new file: cutting an old one off waits for the disk, on some."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)

"""Tiny piano rolls, made up by the tests."""

import numpy as np

LENGTHS = {"train": [5, 9, 3, 7, 4, 6], "valid": [4, 6], "test": [3, 8, 2]}


def made_up(seed: int = 0) -> dict[str, np.ndarray]:
    """The arrays of a file: few pitches, held for some frames."""
    random = np.random.default_rng(seed)
    arrays = {}
    for split, lengths in LENGTHS.items():
        frames = np.zeros((sum(lengths), 88), np.uint8)
        frames[:, 30:50] = random.random((sum(lengths), 20)) < 0.2
        frames[1::2] = frames[::2][: len(frames[1::2])]
        arrays |= {f"{split}_roll": frames, f"{split}_len": np.array(lengths, np.int32)}
    return arrays


def write(folder, name="JSB_Chorales.npz", **changes):
    """A file of made-up rolls with some arrays changed; None leaves one out."""
    arrays = {key: value for key, value in (made_up() | changes).items() if value is not None}
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **arrays)
    return folder

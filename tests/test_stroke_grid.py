"""Strokes as classes: probabilities of the very rows, by enumeration."""

import numpy as np
import pytest

from worldmodel.experiments.data.readers.files import BadFileError, Recording
from worldmodel.experiments.data.readers.stroke_grid import PENS, Grid, grid_of


def drawing(*rows: tuple[float, float, int]) -> Recording:
    """rows: dx, dy, pen."""
    values = np.array(rows)
    offset, pen = values[:, :2].astype(np.float32), values[:, 2].astype(np.int64)
    return Recording({"offset": offset, "pen": pen}, "a drawing")


def walks(count: int, reach: int = 3) -> list[Recording]:
    random = np.random.default_rng(0)
    moves = random.binomial(2 * reach, 0.5, (count, 6, 2)) - reach
    pens = (random.random((count, 6)) < 0.3).astype(np.int64)
    pens[:, -1] = 2
    rows = np.concatenate([moves, pens[..., None]], axis=-1)
    return [drawing(*map(tuple, each)) for each in rows.tolist()]


def everything(grid: Grid) -> np.ndarray:
    """Each row that the box holds, int64 [N, 3]."""
    line = np.arange(grid.edges[0], grid.edges[-1])
    x, y, pen = np.meshgrid(line, line, np.arange(PENS), indexing="ij")
    return np.stack([x.ravel(), y.ravel(), pen.ravel()], axis=-1)


GRIDS = [(growth, least) for growth in (0.0, 0.3, 1.0) for least in (1, 2, 5)]


@pytest.mark.parametrize(("growth", "least"), GRIDS)
def test_every_row_of_the_box_has_one_class(growth: float, least: int) -> None:
    grid = grid_of(walks(40), growth, least)
    codes = grid.encode(drawing(*map(tuple, everything(grid).tolist())))
    found = np.bincount(codes, minlength=grid.classes)
    np.testing.assert_array_equal(found, grid.sizes)
    assert (grid.sizes > 0).all()


@pytest.mark.parametrize(("growth", "least"), GRIDS)
def test_probabilities_of_all_rows_sum_to_one(growth: float, least: int) -> None:
    """Those of any categorical over the classes."""
    grid = grid_of(walks(40), growth, least)
    chances = np.random.default_rng(1).dirichlet(np.ones(grid.classes))
    rows = drawing(*map(tuple, everything(grid).tolist()))
    codes = grid.encode(rows)
    assert (chances[codes] / grid.sizes[codes]).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("growth", "least"), GRIDS)
def test_decoded_rows_have_the_class_they_were_decoded_from(growth: float, least: int) -> None:
    grid = grid_of(walks(40), growth, least)
    codes = np.repeat(np.arange(grid.classes), 50)
    decoded = grid.decode(codes, np.random.default_rng(0))
    assert decoded["offset"].dtype == np.float32
    assert decoded["pen"].dtype == np.int64
    np.testing.assert_array_equal(grid.encode(Recording(decoded, "decoded")), codes)


def test_decoded_rows_are_even_within_their_class() -> None:
    grid = grid_of(walks(40), growth=1.0, least=20)
    size = int(grid.sizes[-1])
    decoded = grid.decode(np.full(100 * size, grid.classes - 1), np.random.default_rng(0))
    rows = np.column_stack([decoded["offset"], decoded["pen"]])
    found, counts = np.unique(rows, axis=0, return_counts=True)
    assert len(found) == size
    chi2 = ((counts - 100) ** 2 / 100).sum()
    assert abs(chi2 - (size - 1)) < 5 * np.sqrt(2 * size)


def test_rows_of_a_fine_grid_come_back_as_they_were() -> None:
    train = walks(40)
    grid = grid_of(train, least=1)
    for each in train:
        back = grid.decode(grid.encode(each), np.random.default_rng(0))
        for leaf, values in each.observation.items():
            np.testing.assert_array_equal(back[leaf], values)


def test_the_escape_is_met_in_training_where_cells_are_rare() -> None:
    train = [*walks(40), drawing((3, 3, 2))]
    grid = grid_of(train, least=2)
    seen = np.concatenate([grid.encode(each) for each in train])
    rows = np.concatenate(
        [np.column_stack([d.observation["offset"], d.observation["pen"]]) for d in train]
    )
    _, counts = np.unique(rows, axis=0, return_counts=True)
    assert (seen == grid.classes - 1).sum() == (counts == 1).sum() > 0


def test_what_has_no_probability_is_refused_in_a_sentence() -> None:
    grid = grid_of(walks(10))
    far = float(grid.edges[-1])
    with pytest.raises(BadFileError, match=rf"a drawing expects offsets between -{far - 1:.0f}"):
        grid.encode(drawing((0, 0, 0), (far, 0, 2)))
    with pytest.raises(BadFileError, match=r"a drawing expects whole offsets.*\[0.5, 0.0\]"):
        grid_of([drawing((0.5, 0, 2))])

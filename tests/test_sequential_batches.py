"""Recordings that are read in order, and states that are carried from window to window."""

import numpy as np
import pytest
import torch
from cores import FILTERING, fed, make_model, noise_for, padded, random_rows
from episodes import ACTIONS, episodes_of

from worldmodel import ELBO, IWAE, SequentialBatches, nested
from worldmodel.sequential_batches import cut

LENGTHS = [5, 40, 3, 17, 9]


def passages(batch=3, window=4, piece=10, seed=0, vary=None):
    return SequentialBatches(episodes_of(LENGTHS), ACTIONS, batch, window, piece, seed, vary)


def rows_of(sequences):
    """The valid rows of a window, by column: what `episodes_of` numbered them by."""
    return [
        sequences.rows.observation[: int(n), column].tolist()
        for column, n in enumerate(sequences.lengths)
    ]


def epoch(reader):
    """The windows of one epoch."""
    return [next(reader) for _ in range(len(reader._plan))]


def test_an_epoch_reads_every_row_once():
    windows = epoch(passages())
    rows = [row for window in windows for column in rows_of(window) for row in column]
    expected = [1000 * e + r for e, length in enumerate(LENGTHS) for r in range(length)]
    assert sorted(rows) == expected


def test_windows_go_on_where_those_before_them_ended():
    before = []
    for window in epoch(passages()):
        columns = rows_of(window)
        assert window.rows.first[0].all() or not window.rows.first.any()
        assert not window.rows.first[1:].any()
        if window.rows.first[0].all():
            before = [[column[0] - 1] for column in columns]
        for column, last in zip(columns, before, strict=True):
            assert column == list(range(last[-1] + 1, last[-1] + 1 + len(column)))
        before = [column or last for column, last in zip(columns, before, strict=True)]


def test_first_rows_have_no_actions():
    for window in epoch(passages()):
        assert (window.rows.action[window.rows.first] == 0).all()
        assert (window.rows.action[~window.rows.first & window.mask].sum(-1) == 1).all()


def test_pieces_are_cut_elsewhere_in_every_epoch():
    lengths, random = np.array([1000]), np.random.default_rng(0)
    begins = [tuple(cut(lengths, 100, random).starts) for _ in range(5)]
    assert len(set(begins)) == 5
    assert all(10 <= len(starts) <= 11 and starts[0] == 0 for starts in begins)


def marked(observation, draws):
    """Rows beside the draw of their piece."""
    return observation + draws / 2


def test_a_piece_is_varied_in_the_same_way_to_its_end():
    """And pieces independently of one another, in every epoch."""
    reader, draws = passages(window=3, vary=marked), []
    for _ in range(4):
        reader._begin_epoch()
        pieces = {}
        for window in epoch(reader):
            begins = window.rows.first[0].all()
            for column in rows_of(window):
                for row in column:
                    assert 0 <= row % 1 < 1
                    pieces.setdefault(int(row), row % 1)
                if column and not begins:
                    before = pieces[int(column[0]) - 1]
                    assert column[0] % 1 == pytest.approx(before, abs=1e-3)
                assert all(row % 1 == pytest.approx(column[0] % 1, abs=1e-3) for row in column)
        draws += {round(share, 2) for share in pieces.values()}
        assert len(pieces) == sum(LENGTHS)
    assert len(set(draws)) > 20


@pytest.mark.parametrize("read", [0, 1, 7, 40])
@pytest.mark.parametrize("vary", [None, marked])
def test_a_reader_goes_on_to_the_last_bit(read, vary):
    reader, other = passages(vary=vary), passages(seed=1, vary=vary)
    for _ in range(read):
        next(reader)
    other.load_state_dict(reader.state_dict())
    for _ in range(30):
        pairs = zip(nested.leaves(next(reader)), nested.leaves(next(other)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_what_cannot_be_read_in_order_is_refused():
    with pytest.raises(ValueError, match="batch, window and piece are 1 or more"):
        passages(window=0)


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("name", [name for name in FILTERING if name != "vae"])
def test_bounds_of_connected_windows_add_up_to_that_of_the_whole(name, particles):
    model = make_model(name, history=2)
    whole = padded(random_rows(7, 3), [7, 4, 2])
    windows = [nested.index(whole, slice(t, t + 3)) for t in range(0, 7, 3)]
    noise = noise_for(model, 7, 3, particles)
    with fed(noise):
        expected, _, _ = ELBO(model, particles=particles)([whole], (), 0)
    objective = ELBO(model, particles=particles, carries=True)
    state = objective.initial_state()
    total = 0.0
    with fed(noise):
        for window in windows:
            loss, _, state = objective([window], state, 0)
            total = total + loss * window.loss_mask.sum()
    torch.testing.assert_close(total / whole.loss_mask.sum(), expected, rtol=0, atol=1e-12)
    assert not any(leaf.requires_grad for leaf in nested.leaves(state))


def test_other_columns_begin_anew():
    model = make_model("vrnn")
    objective = IWAE(model, 2, carries=True)
    _, _, state = objective([padded(random_rows(4, 3), [4, 4, 4])], objective.initial_state(), 0)
    for columns, seed in [(3, 1), (2, 2)]:
        batch = [padded(random_rows(4, columns, seed=seed), [4] * columns)]
        noise = noise_for(model, 4, columns, 2)
        with fed(noise):
            found = objective(batch, state, 0)[0]
        with fed(noise):
            expected = IWAE(model, 2)(batch, (), 0)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

"""Laws of maps, stacks and recurrences over nested structures."""

from typing import Any, NamedTuple

import pytest
import torch

from worldmodel import nested


class Pair(NamedTuple):
    left: Any
    right: Any


def tree(*shape):
    """A dict in a NamedTuple in a tuple; leaves of several ranks, one of them empty."""
    torch.manual_seed(len(shape))
    wide = torch.randn(*shape, 2, 3)
    flags = torch.rand(*shape) < 0.5
    return (Pair({"b": wide, "a": torch.randn(*shape)}, flags), torch.zeros(*shape, 0))


def same(found, expected):
    """Equal types, keys and leaves."""
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        [same(found[key], expected[key]) for key in found]
    elif isinstance(found, tuple):
        assert len(found) == len(expected)
        [same(*parts) for parts in zip(found, expected, strict=True)]
    else:
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_map_keeps_the_structure_and_gives_every_function_its_own_leaves():
    first, second = tree(4), nested.map(lambda leaf: leaf.double(), tree(4))
    same(nested.map(lambda a: a, first), first)
    same(nested.map(lambda a, b: b, first, second), second)
    reordered = {"x": torch.ones(1), "y": torch.zeros(1)}
    found = nested.map(lambda a, b: b, reordered, dict(reversed(reordered.items())))
    same(found, reordered)
    assert nested.map(lambda leaf: leaf + 1, 4) == 5


def test_map_refuses_structures_of_other_shapes():
    with pytest.raises(ValueError, match=r"same keys, got \['a'\] and \['b'\]"):
        nested.map(lambda a, b: a, {"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="zip"):
        nested.map(lambda a, b: a, (1, 2), (1,))


def test_fill_is_the_inverse_of_leaves():
    whole = tree(4)
    assert [leaf.shape for leaf in nested.leaves(whole)] == [(4, 2, 3), (4,), (4,), (4, 0)]
    same(nested.fill(whole, nested.leaves(whole)), whole)
    assert nested.fill(Pair({"a": 0}, 0), [1, 2]) == Pair({"a": 1}, 2)


def test_stack_is_the_inverse_of_steps():
    whole = tree(5, 4)
    cut = nested.steps(whole)
    assert len(cut) == 5
    for t in range(5):
        same(cut[t], nested.index(whole, t))
    same(nested.stack(cut), whole)
    same(nested.stack(cut, 1), nested.map(lambda leaf: leaf.transpose(0, 1), whole))
    with pytest.raises(ValueError, match="at least one"):
        nested.stack([])


def test_concatenate_puts_cuts_together():
    whole = tree(5, 4)
    same(
        nested.concatenate([nested.index(whole, slice(2)), nested.index(whole, slice(2, None))]),
        whole,
    )
    parts = [nested.index(whole, (slice(None), slice(b, b + 2))) for b in (0, 2)]
    same(nested.concatenate(parts, 1), whole)


def test_where_chooses_rows_of_every_leaf():
    chosen, other = tree(4), nested.map(torch.zeros_like, tree(4))
    some = torch.tensor([True, False, True, False])
    found = nested.where(some, chosen, other)
    for b, taken in enumerate(some):
        same(nested.index(found, b), nested.index(chosen if taken else other, b))


def test_where_hides_what_is_not_chosen():
    found = nested.where(torch.tensor([True, False]), torch.ones(2), torch.full((2,), torch.nan))
    assert found[0] == 1
    assert found[1].isnan()


def test_repeat_puts_copy_after_copy():
    whole = tree(3)
    found = nested.repeat(whole, 2)
    for copy in (slice(0, 3), slice(3, 6)):
        same(nested.index(found, copy), whole)
    same(nested.repeat(whole, 1), whole)


def test_unroll_drives_a_recurrence():
    def step(value, state):
        total = {"sum": state["sum"] + value}
        return Pair(value, total), total

    inputs = torch.tensor([1.0, 2.0, 4.0])
    outputs, state = nested.unroll(step, inputs, {"sum": torch.tensor(10.0)})
    same(outputs, Pair(inputs, {"sum": torch.tensor([11.0, 13.0, 17.0])}))
    same(state, {"sum": torch.tensor(17.0)})
    first, middle = nested.unroll(step, inputs[:1], {"sum": torch.tensor(10.0)})
    rest, last = nested.unroll(step, inputs[1:], middle)
    same(nested.concatenate([first, rest]), outputs)
    same(last, state)

"""The heads of numbers some values of which recur exactly, and of those in groups far apart."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, distributions as td, nn

from worldmodel.codecs.base import DistModule
from worldmodel.codecs.heads.gaussian import StudentHead
from worldmodel.distributions import Grouped, Mixed, log_softmax

FEW = 16  # up to so many different values are few
ROOM = 32  # atoms of a number, at most
MANY = 16  # numbers, from which on their room is what they need
OFTEN = 3  # times, and
RECURRING = 1e-3  # the share of values, from which on a value recurs: continuous numbers do not
GROUPS = 4  # that lie apart, at most
APART = 0.25  # of the range of numbers, by which they do
ALIKE = 1e-4  # of that range, the least standard deviation of a group
PATIENCE = 4  # times that few values come, on average


class MixedHead(DistModule):
    """`Mixed` numbers; value: float [*, *shape].

    Each number has atoms of its own. While it had few values, all of them are atoms: those that
    come are added by `meet`, as long as there is room, and any other has the probability that
    Laplace's rule gives to what never came in n rows, 1 / (2 n + 2). From then on others have a
    density (`StudentHead`), whose share is learned; those of a number without atoms from the
    beginning.
    """

    atoms: Tensor
    others: Tensor
    rows: Tensor

    def __init__(
        self, input_size: int, shape: Sequence[int] = (), atoms: Any = (), room: int = ROOM
    ):
        """atoms: of each number, a list of values nested as `shape` is (`atoms_of`); room: for so
        many atoms of each (`room_for`)."""
        super().__init__()
        self.shape = torch.Size(shape)
        size = self.shape.numel()
        self.density = StudentHead(input_size, shape)
        self.logits = nn.Linear(input_size, size * (room + 1))
        self.register_buffer("atoms", _padded(atoms, self.shape, room))
        self.register_buffer("others", self.atoms.isnan().all(-1))
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    @property
    def placeholder(self) -> Tensor:
        return self.atoms[..., 0].nan_to_num()

    def forward(self, features: Tensor) -> td.Distribution:
        logits = self.logits(features).unflatten(-1, (*self.shape, -1))
        known, missing = logits[..., :-1], self.atoms.isnan()
        never = 1 / (2 * self.rows + 2).to(known)
        # apart from one another, so that nothing is learned of what is certain
        among = known.masked_fill(missing & ~missing.all(-1, keepdim=True), -torch.inf)
        few = [log_softmax(among) + (-never).log1p(), never.log().expand_as(known[..., :1])]
        many = [known.masked_fill(missing, -torch.inf), logits[..., -1:]]
        logits = torch.where(self.others[..., None], torch.cat(many, -1), torch.cat(few, -1))
        density = cast(td.Independent, self.density(features)).base_dist
        mixed = Mixed(logits, self.atoms, density, self.others)
        if not self.shape:
            return mixed
        return td.Independent(mixed, len(self.shape), validate_args=False)

    def standardise(self, values: Any) -> None:
        self.density.standardise(values)

    @torch.no_grad()
    def meet(self, values: Any) -> None:
        values = torch.as_tensor(values).to(self.atoms)
        self.rows += len(values)
        for place in (~self.others).nonzero().tolist():
            self._meet(tuple(place), values[(slice(None), *place)].unique())

    @torch.no_grad()
    def revise(self, values: Any, latest: Any = ()) -> None:
        """Adds to the atoms, as long as there is room, of numbers that have others, too, what
        recurs in `values` [N, *shape], and what lies apart from all others there and among the
        `latest` [M, *shape]: a prize that was first met later is a value like those before, and a
        density would take it for an accident. A new atom begins as likely as it was met."""
        values = torch.as_tensor(values).to(self.atoms)
        latest = torch.as_tensor(latest).to(self.atoms).reshape(-1, *self.shape)
        for place in self.others.nonzero().tolist():
            atoms = self.atoms[tuple(place)]
            column, last = (x[(slice(None), *place)].cpu().numpy() for x in (values, latest))
            everything = np.concatenate([column, last])
            others = np.sort(everything[~np.isin(everything, atoms.cpu().numpy())])
            alone = [float(group[0]) for group in _apart(others) if group[0] == group[-1]]
            new = [x for x in dict.fromkeys(atoms_of(column) + alone) if x not in atoms]
            free = atoms.isnan().nonzero().flatten().tolist()
            for value, slot in zip(new, free, strict=False):
                atoms[slot] = value
                self._begin(tuple(place), slot, float((everything == value).mean()))

    def _begin(self, place: tuple[int, ...], slot: int, share: float) -> None:
        """Gives a new atom a share of the probability that other numbers have so far."""
        number = int(np.ravel_multi_index(place, self.shape)) if place else 0
        room = self.atoms.shape[-1]
        first = number * (room + 1)
        for tensor in (self.logits.weight, self.logits.bias):
            tensor[first + slot] = tensor[first + room]
        self.logits.bias[first + slot] += math.log(share)

    def _meet(self, place: tuple[int, ...], values: Tensor) -> None:
        """Adds the new ones among the values [n] of one number to its atoms; where there is no
        room for them, others have come."""
        atoms = self.atoms[place]
        new = values[~torch.isin(values, atoms)]
        room = atoms.isnan().nonzero().flatten()
        if len(new) <= len(room):
            atoms[room[: len(new)]] = new
        else:
            self.others[place] = True


class GroupedHead(DistModule):
    """`Grouped` numbers; value: float [*]. Each group begins where its members were met."""

    def __init__(self, input_size: int, groups: Sequence[Sequence[float]]):
        """groups: the mean and the standard deviation of each (`groups_of`)."""
        super().__init__()
        means, stds = zip(*groups, strict=True)
        self.parts = StudentHead(input_size, (len(groups),), shift=means, scale=stds)
        self.logits = nn.Linear(input_size, len(groups))

    @property
    def placeholder(self) -> Tensor:
        return self.parts.placeholder.new_zeros(())

    def forward(self, features: Tensor) -> Grouped:
        parts = cast(td.Independent, self.parts(features)).base_dist
        return Grouped(self.logits(features), parts)


def groups_of(values: np.ndarray) -> list[list[float]]:
    """The means and standard deviations of groups of numbers [N] that lie far apart, at most
    `GROUPS`; none where there is one group alone.

    >>> [[round(x, 2) for x in group] for group in groups_of(np.array([0, -0.1, -0.2, 99.9, 100]))]
    [[-0.1, 0.08], [99.95, 0.05]]
    >>> groups_of(np.arange(10))
    []
    """
    ordered = np.sort(values.astype(float))
    groups = _apart(ordered)
    least = ALIKE * (ordered[-1] - ordered[0]) if groups else 0.0
    return [[float(group.mean()), max(least, float(group.std()))] for group in groups]


def _apart(ordered: np.ndarray) -> list[np.ndarray]:
    """Groups of ordered numbers [N] that lie far apart, at most `GROUPS`; none where there is one
    group alone."""
    gaps = np.diff(ordered)
    if not len(gaps) or ordered[0] == ordered[-1]:
        return []
    wide = np.flatnonzero(gaps > APART * (ordered[-1] - ordered[0]))
    cuts = 1 + np.sort(wide[np.argsort(-gaps[wide], kind="stable")][: GROUPS - 1])
    return np.split(ordered, cuts) if len(cuts) else []


def atoms_of(values: np.ndarray) -> list[Any]:
    """The atoms of numbers [N, *shape], nested as `shape` is: all values of a number that has few;
    of others those that recur, which continuous numbers never do.

    >>> atoms_of(np.float32([[0, 0.1], [0, 0.2], [0, 0.3], [1, 0.4]] * 2 + [[1, 0.5]]))
    [[0.0, 1.0], []]
    """
    if values.ndim > 1:
        return [atoms_of(values[:, place]) for place in range(values.shape[1])]
    found, counts = np.unique(values, return_counts=True)
    if len(found) > _most(values):
        enough = np.flatnonzero(counts >= max(OFTEN, RECURRING * len(values)))
        found = found[np.sort(enough[np.argsort(-counts[enough], kind="stable")][:FEW])]
    return [float(value) for value in found]


def most_of(atoms: Any) -> int:
    """The largest number of atoms that any number has, of lists nested as numbers are.

    >>> most_of([[0.0, 1.0], []]), most_of([[], []])
    (2, 0)
    """
    if any(isinstance(part, list) for part in atoms):
        return max(most_of(part) for part in atoms)
    return len(atoms)


def room_for(most: int, size: int) -> int:
    """The number of atoms for which each of `size` numbers has room: in a grid of many, whose
    probabilities would be thousands a row, the `most` of those met and as many again."""
    return ROOM if size < MANY else min(ROOM, 2 * (1 + most))


def are_few(values: np.ndarray) -> bool:
    """True if each number of [N, *shape] has few values."""
    numbers = values.reshape(len(values), -1).T
    return all(len(np.unique(number)) <= _most(values) for number in numbers)


def _most(values: np.ndarray) -> int:
    """The number of values, among N, that are few."""
    return min(FEW, len(values) // PATIENCE)


def _padded(atoms: Any, shape: torch.Size, room: int) -> Tensor:
    """Lists of atoms as a tensor [*shape, room], NaN where there is none."""
    padded = torch.full((*shape, room), torch.nan)
    for place in np.ndindex(*shape):
        found = atoms
        for index in place:
            found = found[index] if len(found) else ()
        padded[(*place, slice(len(found)))] = torch.tensor([*found], dtype=padded.dtype)
    return padded

"""Laws: sentences about what keeps a contract, checked, and explained where they are broken."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from worldmodel import nested

Setting = Mapping[str, Any]
SIGMAS = 4  # standard errors that a mean may be from what it is compared with


class LawError(AssertionError):
    """A broken law: its subject, its name, its setting, the numbers found, and its text."""


class Law(NamedTuple):
    """A law, and the settings in which it is checked. Its name, read as a sentence, is the law."""

    function: Callable[..., None]  # (subject, **setting)
    settings: Sequence[Setting]
    concerns: Callable[[Any], bool]  # the subjects that it is a law of
    slow: bool  # takes seconds

    @property
    def name(self) -> str:
        return self.function.__name__

    def __call__(self, subject: Any, **setting: Any) -> None:
        """Checks it in one setting; torch's global random state is left as it was."""
        try:
            with torch.random.fork_rng(devices=[]):
                self.function(subject, **setting)
        except Exception as error:
            raise LawError(self._explain(subject, setting, error)) from error

    def check(self, subject: Any) -> None:
        """Checks it in all its settings, if it is a law of such a subject."""
        if self.concerns(subject):
            for setting in self.settings:
                self(subject, **setting)

    def _explain(self, subject: Any, setting: Setting, error: Exception) -> str:
        where = ", ".join(f"{key}={value}" for key, value in setting.items())
        is_raised = not isinstance(error, AssertionError)
        found = f"it raised {type(error).__name__}: {error}" if is_raised else str(error)
        sentence = self.name.replace("_", " ")
        says = " ".join((self.function.__doc__ or "").split())
        return (
            f"{subject} breaks the law: {sentence}{f' ({where})' if where else ''}.\n"
            f"Found: {found}\nThe law: {says}"
        )


class Laws(list[Law]):
    """The laws of one contract, in the order in which they are best read."""

    def add(
        self,
        settings: Sequence[Setting] = ({},),
        concerns: Callable[[Any], bool] = lambda subject: True,
        slow: bool = False,
    ) -> Callable[[Callable[..., None]], Law]:
        """Makes the function below it a law of these; see `Law`."""

        def made(function: Callable[..., None]) -> Law:
            self.append(Law(function, settings, concerns, slow))
            return self[-1]

        return made

    def check(self, subject: Any, thorough: bool = True) -> None:
        """Checks all of them, the slow ones only if thorough; raises a `LawError` at the first
        that is broken."""
        for law in self:
            if thorough or not law.slow:
                law.check(subject)


def cross(*settings: Sequence[Setting]) -> list[Setting]:
    """The combinations of settings.

    >>> cross([{"time": 1}, {"time": 4}], [{"batch": 3}])
    [{'time': 1, 'batch': 3}, {'time': 4, 'batch': 3}]
    """
    combined: list[Setting] = [{}]
    for choices in settings:
        combined = [{**before, **choice} for before in combined for choice in choices]
    return combined


# Assertions on numbers. `what` names them in the sentence of a broken law.


def demand(condition: Any, found: str) -> None:
    """Raises `found` where a condition does not hold."""
    if not condition:
        raise AssertionError(found)


def close(found: Any, expected: Any, what: str, atol: float = 1e-12) -> None:
    """Requires structures of one type with equal leaves."""
    alike = type(found) is type(expected)
    demand(alike, f"{what}: a {type(found).__name__}, not a {type(expected).__name__}")

    def compare(a: Any, b: Any) -> None:
        torch.testing.assert_close(
            a, b, rtol=atol, atol=atol, equal_nan=True, msg=lambda message: f"{what}: {message}"
        )

    nested.map(compare, found, expected)


def same(found: Any, expected: Any, what: str) -> None:
    """Requires structures that are equal to the last bit."""
    close(found, expected, what, atol=0)


def structure(tree: Any) -> Any:
    """Type names, shapes without the batch, dtypes."""
    if isinstance(tree, tuple):
        return type(tree).__name__, [structure(part) for part in tree]
    if isinstance(tree, dict):
        return {key: structure(part) for key, part in tree.items()}
    return tuple(tree.shape[1:]), tree.dtype


def alike(found: Any, expected: Any, what: str) -> None:
    """Requires structures of the same names, shapes but for the batch, and dtypes."""
    demand(
        structure(found) == structure(expected),
        f"{what} is {structure(found)}, expected {structure(expected)}",
    )


def finite(tree: Any, what: str) -> None:
    """Requires leaves without NaN and infinity."""
    for leaf in nested.leaves(tree):
        bad = int((~torch.as_tensor(leaf).isfinite()).sum())
        demand(not bad, f"{what}: {bad} of {torch.as_tensor(leaf).numel()} numbers are not finite")


def agree(draws: Tensor, expected: Any, what: str, error: Any = None) -> None:
    """Requires draws [N, ...] with the expected mean, within `SIGMAS` standard errors.

    error: the standard error, where it is not that of the draws.
    """
    error = draws.std(0) / len(draws) ** 0.5 if error is None else error
    off = (draws.mean(0) - torch.as_tensor(expected)).abs() / (error + 1e-12)
    demand(
        (off <= SIGMAS).all(),
        f"{what}: a mean of {_short(draws.mean(0))}, expected {_short(expected)}, which is "
        f"{float(off.max()):.1f} standard errors away",
    )


def jacobian(output: Any, source: Tensor) -> Tensor:
    """The gradient of a sum of squares of everything in `output`; zeros where it is not
    reached."""
    total = sum((leaf.double() ** 2).sum() for leaf in nested.leaves(output))
    if not isinstance(total, Tensor) or not total.requires_grad:
        return torch.zeros_like(source)
    gradient = torch.autograd.grad(total, source, retain_graph=True, allow_unused=True)[0]
    return torch.zeros_like(source) if gradient is None else gradient


def unreached(gradient: Tensor, what: str) -> None:
    """Requires a gradient that is zero: no dependence."""
    if gradient.numel() and gradient.any():
        place = tuple(gradient.nonzero()[0].tolist())
        raise AssertionError(
            f"{what}, with a gradient up to {float(gradient.abs().max()):.3g}, first at {place}"
        )


def _short(numbers: Any) -> str:
    flat = torch.as_tensor(numbers).flatten()
    listed = ", ".join(f"{float(number):.6g}" for number in flat[:4])
    return f"{listed}, ..." if len(flat) > 4 else listed

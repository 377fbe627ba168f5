"""The border to environments of others: what they raise and return, checked once, in one place."""

import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, SupportsFloat, cast

import gymnasium
import numpy as np
from gymnasium import spaces

from worldmodel.codecs.spaces import parts_of
from worldmodel.envs.wrappers import name_of
from worldmodel.errors import is_raised_by_us

PATIENCE = 300.0  # seconds
FAULTS = (Exception, SystemExit, GeneratorExit)  # of an environment; Ctrl-C is its user's
BEYOND = 2**1023  # the least whole number that is refused, as no float can hold all beyond it
CHECKER = "gymnasium.utils.env_checker.check_env tells what is wrong with it"
RETURNED = {
    "reset": "(observation, info)",
    "step": "(observation, reward, terminated, truncated, info)",
}


class BrokenEnvironmentError(RuntimeError):
    """An environment raises an error, returns what it should not, or does not answer; one
    sentence that names it."""


class Checked(gymnasium.Wrapper):
    """Raises a `BrokenEnvironmentError` where an environment raises, or returns something else
    than its spaces and Gymnasium's interface say (values: `observations.check_values`)."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.shown = env.observation_space  # asked for once: wrappers pass the question on

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        with blamed(self.env, "reset"):
            returned = self.env.reset(seed=seed, options=options)
        observation, info = self._unpacked("reset", returned, 2)
        self._check("reset", observation, {}, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        try:  # without `blamed`, which would cost as much as a small environment's step
            returned = self.env.step(action)
        except FAULTS as error:
            blame(self.env, "step", error)
        observation, reward, terminated, truncated, info = self._unpacked("step", returned, 5)
        numbers = {"reward": reward, "terminated": terminated, "truncated": truncated}
        self._check("step", observation, numbers, info)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        shut(self.env)

    def _unpacked(self, verb: str, returned: Any, size: int) -> Any:
        if isinstance(returned, tuple) and len(returned) == size:
            return returned
        came = f"{len(returned)} values" if isinstance(returned, tuple) else shown(returned)
        self._refuse(verb, RETURNED[verb], came)

    def _check(self, verb: str, observation: Any, numbers: Mapping[str, Any], info: Any) -> None:
        """Refuses a wrong observation, number or info."""
        if wrong := misfit(self.shown, observation):
            self._refuse(verb, *wrong)
        for name, value in numbers.items():
            if not is_number(value):
                self._refuse(verb, f"a number as {name}", shown(value))
        if not isinstance(info, dict):
            self._refuse(verb, "a dict as info", shown(info))

    def _refuse(self, verb: str, expected: str, came: str) -> NoReturn:
        raise BrokenEnvironmentError(
            f"{verb} of {name_of(self.env)} should return {expected}, but gave {came}; {CHECKER}"
        )


def checked(make: Callable[[], gymnasium.Env]) -> Checked:
    """Makes an environment that is checked at each step."""
    return Checked(make())


def whole(env: Any) -> gymnasium.Env:
    """An environment of the user's, if it is one, with its two spaces and a dict as metadata."""
    spaces_of = (getattr(env, name, None) for name in ("observation_space", "action_space"))
    if not isinstance(env, gymnasium.Env) or not all(
        isinstance(space, spaces.Space) for space in spaces_of
    ):
        raise TypeError(
            "expected a function that makes a gymnasium.Env with an observation_space and an "
            f"action_space, got {shown(env)} from it"
        )
    if not isinstance(env.metadata, dict):
        raise TypeError(
            f"the metadata of {name_of(env)} should be a dict, such as {{}}, got "
            f"{shown(env.metadata)}"
        )
    return env


def shut(env: gymnasium.Env) -> None:
    """Closes an environment; an error names it."""
    with blamed(env, "close"):
        env.close()


def words_of(error: BaseException) -> str:
    """The type of an error and its message, which it may be unable to tell.

    >>> words_of(KeyError("level"))
    "KeyError: 'level'"
    """
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be read)"
    return f"{type(error).__name__}: {said}"


@contextmanager
def blamed(env: gymnasium.Env | str, doing: str) -> Iterator[None]:
    """Turns errors inside into one that names the environment (or its id), and what was asked of
    it; those of this package are sentences already."""
    try:
        yield
    except FAULTS as error:
        blame(env, doing, error)


def blame(env: gymnasium.Env | str, doing: str, error: BaseException) -> NoReturn:
    """Raises an error as `blamed` does."""
    if is_raised_by_us(error) or isinstance(error, gymnasium.error.DependencyNotInstalled):
        raise error
    last = traceback.extract_tb(error.__traceback__)[-1]
    raise BrokenEnvironmentError(
        f"{doing} of {env if isinstance(env, str) else name_of(env)} raised "
        f"{words_of(error)} ({last.filename}:{last.lineno}); {CHECKER}"
    ) from error


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Raises a `BrokenEnvironmentError` once the block takes longer than so many seconds.

    By the alarm signal: in a program's main thread alone, and where nobody else has set it; what
    does not return to Python is not interrupted. Workers have a patience of their own.
    """
    if threading.current_thread() is not threading.main_thread() or _alarm_is_taken():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> None:
        raise BrokenEnvironmentError(
            f"the environment has not answered for {seconds:g} seconds, so it seems to hang: mend "
            "it, or step it in processes, which are replaced when they hang (--workers)"
        )

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _alarm_is_taken() -> bool:
    is_handled = signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
    return is_handled or signal.getitimer(signal.ITIMER_REAL)[0] > 0


def misfit(space: spaces.Space, value: Any, path: str = "") -> tuple[str, str] | None:
    """The expected and the actual values, in words, of the first part of an observation that has
    another structure, shape or type than its space; None if all fit.

    >>> misfit(spaces.Box(0, 1, (2,)), np.zeros(3))
    ('values of Box(0.0, 1.0, (2,), float32)', 'an array float64 of shape (3,)')
    """
    if type(value) is np.ndarray and value.shape == space.shape and value.dtype == space.dtype:
        return None  # the usual case, at the cost of three comparisons
    parts = parts_of(space)
    if not _fits(space, parts, value):
        return f"values of {space}" + f" under the key {path!r}" * bool(path), shown(value)
    below = f"{path}." if path else ""
    found = (misfit(part, value[key], f"{below}{key}") for key, part in parts.items())
    return next(filter(None, found), None)


def _fits(space: spaces.Space, parts: Mapping[Any, spaces.Space], value: Any) -> bool:
    if isinstance(space, spaces.Dict):
        return isinstance(value, Mapping) and parts.keys() <= value.keys()
    if isinstance(space, spaces.Tuple):
        return isinstance(value, tuple | list) and len(value) == len(parts)
    if space.shape is None:  # that of Text and others, which are left out
        return True
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of several lengths
        return False
    is_castable = np.can_cast(array.dtype, cast(np.dtype, space.dtype), "same_kind")
    return array.shape == space.shape and is_castable


def is_number(value: Any) -> bool:
    """True for one number or truth value, of Python, NumPy or PyTorch."""
    if isinstance(value, int):
        return abs(value) < BEYOND
    if isinstance(value, float | np.number | np.bool_):
        return not isinstance(value, np.complexfloating)
    array = np.asarray(value)
    return array.shape == () and array.dtype.kind in "biuf"


def shown(value: Any) -> str:
    """A value in a few words.

    >>> shown(np.zeros((2, 3))), shown(None), shown([1, 2])
    ('an array float64 of shape (2, 3)', 'None', 'a list')
    """
    if value is None:
        return "None"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(map(repr, value))}" if value else "an empty dict"
    if isinstance(value, np.ndarray):
        return f"an array {value.dtype} of shape {value.shape}"
    return f"{value!r}" if np.isscalar(value) else f"a {type(value).__name__}"

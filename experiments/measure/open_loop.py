"""Open-loop errors: those of a world model's predictions from actions alone.

The model observes the beginning of a recorded episode, then goes on without observations, under
the actions that were really played. Its prediction is the mean over several dreams (of classes,
the most frequent one), which are not allowed to end while the real episode goes on. Beside its
error stands that of predicting that nothing changes after the last observation.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import ModelState, Prediction, Row, Sequences, WorldModel, nested
from worldmodel.codecs import Standardisation, is_image
from worldmodel.codecs.spaces import parts_of

STEPS = (1, 5, 15, 50)  # after the last observed row
OBSERVED = 5  # rows that the model observes at least, where an episode has more
WINDOWS = 100
DREAMS = 16  # of each window
REWARD = spaces.Box(-float("inf"), float("inf"), ())


class Windows(NamedTuple):
    """The last rows that the model observes, in the order of time."""

    time: Tensor  # int64 [W]
    column: Tensor  # int64 [W]

    @classmethod
    def of(cls, lengths: Tensor, number: int) -> "Windows":
        """Up to `number` rows of episodes of these lengths [B], evenly spaced; the last row of an
        episode is left to be predicted."""
        times = torch.arange(int(lengths.max()))[:, None]  # [T, 1]
        fit = (times >= (lengths - 2).clamp(max=OBSERVED - 1)) & (times < lengths - 1)
        column, time = fit.t().nonzero().unbind(1)
        evenly = torch.linspace(0, len(time) - 1, min(number, len(time))).round().long()
        order = time[evenly].argsort(stable=True)
        return cls(time[evenly][order], column[evenly][order])


class Part(NamedTuple):
    """A part of a percept: its prediction and its real value."""

    key: str  # "observation", "observation.camera.left", "reward"
    space: spaces.Space
    expected: Tensor  # [W, ...]
    real: Tensor  # [W, ...]
    before: Tensor  # [W, ...], as it was last observed


@torch.no_grad()
def open_loop(
    model: WorldModel, sequences: Sequences, space: spaces.Space, recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """The errors of the model's predictions over `STEPS`, by key, on whole episodes [T, B, ...].

    For numbers it is the root mean square, in standard deviations of the numbers `recorded` (of
    all pixels together); for classes and truth values the share that is wrong. None where no
    episode lasted so long. recorded: observations, leaves [N, ...], and rewards [M], by key.
    """
    windows = nested.to(Windows.of(sequences.lengths, WINDOWS), model.device)
    sequences = nested.to(sequences, model.device)
    units = {key: unit.to(model.device) for key, unit in units_of(space, recorded).items()}
    by_key: dict[str, dict[str, Any]] = {}
    counts = [0] * len(STEPS)
    seen = nested.index(sequences.rows, tuple(windows))  # [W, ...]
    state = believe(model, sequences, windows)
    steps_left = sequences.lengths[windows.column] - 1 - windows.time  # [W]
    for step in range(1, min(max(STEPS), int(steps_left.max())) + 1):
        time = torch.minimum(windows.time + step, windows.time + steps_left)
        real = nested.index(sequences.rows, (time, windows.column))
        prediction, drawn, state = go_on(model, real.action, state)
        if step in STEPS:
            there = steps_left >= step
            counts[STEPS.index(step)] = int(there.sum())
            for part in parts(space, prediction, drawn, real, seen):
                found = by_key.setdefault(part.key, _nothing(part.space))
                for name, guess in (("error", part.expected), ("error_as_before", part.before)):
                    off = error(guess, part, units.get(part.key), there)
                    found[name][STEPS.index(step)] = off
    return {"steps": list(STEPS), "windows": counts, "by_key": by_key}


def believe(model: WorldModel, sequences: Sequences, windows: Windows) -> ModelState:
    """The model's beliefs at the windows' rows, `DREAMS` draws: [DREAMS * W, ...].

    It reads row by row, as an agent does: a smoother, too, reads no later row.
    """
    batch_size = sequences.mask.shape[1]
    state = model.initial_state(batch_size)
    beliefs = []
    for t in range(int(windows.time.max()) + 1):
        row = nested.index(sequences, slice(t, t + 1))
        _, state = model.infer(row, state, DREAMS)
        columns = windows.column[windows.time == t]
        if len(columns):
            beliefs.append(
                nested.map(lambda x, c=columns: x.unflatten(0, (DREAMS, batch_size))[:, c], state)
            )
    joined: ModelState = nested.concatenate(beliefs, 1)  # [DREAMS, W, ...]
    return nested.map(lambda leaf: leaf.flatten(0, 1), joined)


def go_on(
    model: WorldModel, action: Tensor, state: ModelState
) -> tuple[Prediction, dict[str, Any], ModelState]:
    """One step of dreams [DREAMS * W] under actions [W, A]: the distribution of their percepts,
    percepts drawn from it, and the state after these, as if no episode had ended."""
    action = action.repeat(DREAMS, 1)
    prediction, core = model.predict(action, state)
    drawn = prediction.sample()
    never = torch.zeros(len(action), dtype=torch.bool, device=action.device)
    observation = model.percepts.clamp(drawn["observation"])
    row = Row(never, action, observation, drawn["reward"], never)
    return prediction, drawn, model.advance(row, core, state)


def parts(
    space: spaces.Space, prediction: Prediction, drawn: dict[str, Any], real: Row, seen: Row
) -> Iterator[Part]:
    """The observation, part by part, and the reward."""
    dreamt = prediction.observation
    yield from _parts_of_observation(
        "observation", space, dreamt, drawn["observation"], real.observation, seen.observation
    )
    consequences = prediction.consequences(drawn["observation"])
    reward = _over_dreams(consequences.parts["reward"].mean).mean(0)
    yield Part("reward", REWARD, reward, real.reward, seen.reward)


def _parts_of_observation(
    key: str, space: spaces.Space, percept: Any, drawn: Any, real: Any, seen: Any
) -> Iterator[Part]:
    for name, part in parts_of(space).items():
        inner = (percept.parts[name], drawn[name], real[name], seen[name])
        yield from _parts_of_observation(f"{key}.{name}", part, *inner)
    if isinstance(space, spaces.Box):
        yield Part(key, space, _over_dreams(percept.mean).mean(0), real, seen)
    elif not parts_of(space):
        most_frequent = _over_dreams(drawn.long()).mode(0).values
        yield Part(key, space, most_frequent, real, seen)


def _over_dreams(leaf: Tensor) -> Tensor:
    """Splits [DREAMS * W, ...] into [DREAMS, W, ...]."""
    return leaf.unflatten(0, (DREAMS, -1))


def units_of(space: spaces.Space, recorded: Mapping[str, Any]) -> dict[str, Standardisation]:
    """Units of numbers, their standard deviations, by key; all pixels of an image share one."""
    units = {"reward": Standardisation()}
    units["reward"].fit(recorded["reward"])

    def fit(key: str, space: spaces.Space, values: Any) -> None:
        for name, part in parts_of(space).items():
            fit(f"{key}.{name}", part, values[name])
        if isinstance(space, spaces.Box):
            units[key] = Standardisation(() if is_image(space) else space.shape)
            units[key].fit(values.flatten() if is_image(space) else values)

    fit("observation", space, recorded["observation"])
    return units


def error(guess: Tensor, part: Part, unit: Standardisation | None, there: Tensor) -> float:
    """The error of guesses [W, ...] of the windows `there`, bool [W], one at least."""
    guess, real = guess[there], part.real[there]
    if unit is None:
        return float((guess.long() != real.long()).double().mean())
    off = unit(guess) - unit(real)
    return float(off.double().square().mean().sqrt())


def _nothing(space: spaces.Space) -> dict[str, Any]:
    unit = "standard deviations" if isinstance(space, spaces.Box) else "share wrong"
    return {"unit": unit, "error": [None] * len(STEPS), "error_as_before": [None] * len(STEPS)}

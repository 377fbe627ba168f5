"""The diagnosis of a run: what its figures say about why it does not learn, and what to try."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

NEAR_THE_END = 50  # updates or rollouts, over which the last figures are averaged
MEMORISED = 1.0  # nats a step that held-out episodes cost more than those learned from
OF_NATS = 0.25  # and at least this share of what the latter cost
COLLAPSED = 0.05  # of the policy's first entropy
OF_RETURNS = 0.1  # of the real return: from there on a dream promises too much

Line = Mapping[str, Any]


class Finding(NamedTuple):
    """Something that a run's figures show, and what to try; RUN stands for the run's path."""

    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"{self.sentence}; {self.advice}"


def diagnosis(lines: Iterable[Line], keeps_best: bool = False) -> list[Finding]:
    """The findings about a run, from the lines of its metrics: the most basic first, none where
    nothing looks wrong. keeps_best: whether the best policy is what is loaded of it."""
    by_stage: dict[str, list[Line]] = {}
    for line in lines:
        by_stage.setdefault(line["stage"], []).append(line)
    final = by_stage.get("final", [None])[-1]
    found = (
        _nothing_told_good_from_bad(by_stage.get("collect", [])),
        _memorised(by_stage.get("learn", []), final),
        _collapsed(by_stage.get("improve", []), by_stage.get("evaluate", [])),
        _promises_too_much(final),
        _was_better(by_stage.get("evaluate", []), keeps_best),
    )
    return [finding for finding in found if finding is not None]


def _nothing_told_good_from_bad(collected: list[Line]) -> Finding | None:
    known = [line for line in collected if line.get("least_reward") is not None]
    if not known:
        return None
    least = min(line["least_reward"] for line in known)
    ended = sum(line["terminations"] for line in known)
    if least < max(line["greatest_reward"] for line in known) or (least != 0 and ended):
        return None
    ends = "" if ended else ", and no episode ended by itself"
    steps = known[-1]["real_steps"]
    return Finding(
        f"every reward of all {steps:,} steps was {least:g}{ends}: nothing told good from bad",
        "go on with the search by: worldmodel resume RUN --steps N, or begin with more and "
        f"steadier random play: --prefill {5 * known[0]['steps']} --sticky-probability 0.9",
    )


def _memorised(learned: list[Line], final: Line | None) -> Finding | None:
    if not learned or final is None or final.get("nats_per_step") is None:
        return None
    trained = float(np.mean([line["nats"] for line in learned[-NEAR_THE_END:]]))
    held_out = final["nats_per_step"]
    if not held_out - trained > max(MEMORISED, OF_NATS * abs(trained)):
        return None
    return Finding(
        f"the model has learned its episodes by heart: they cost {trained:.2f} nats a step, "
        f"held-out ones {held_out:.2f}",
        "try --dropout 0.1 --weight-decay 0.1, or more --prefill",
    )


def _collapsed(improved: list[Line], evaluated: list[Line]) -> Finding | None:
    entropies = [line["entropy"] for line in improved if "entropy" in line]
    if not entropies or len(evaluated) < 2 or entropies[0] <= 0:
        return None
    last = float(np.mean(entropies[-NEAR_THE_END:]))
    returns = [line["real_return_mean"] for line in evaluated]
    spread = max(float(np.std(line["real_returns"])) for line in evaluated)
    is_better = returns[-1] > returns[0] + spread
    if is_better or not 0 <= last < COLLAPSED * entropies[0]:
        return None
    return Finding(
        f"the policy has settled on single actions (entropy {last:.3f} nats) and plays no better "
        f"than after {evaluated[0]['real_steps']:,} steps",
        "try a larger --entropy, such as 0.03",
    )


def _promises_too_much(final: Line | None) -> Finding | None:
    real, dreamt = ((final or {}).get(f"{world}_return_mean") for world in ("real", "dream"))
    if real is None or dreamt is None:
        return None
    half = math.hypot(*(_half(final, world) for world in ("real", "dream")))  # type: ignore[arg-type]
    if dreamt - real <= max(OF_RETURNS * abs(real), half):
        return None
    return Finding(
        f"the dream promises more than reality keeps: a return of {dreamt:,.4g} against "
        f"{real:,.4g}",
        "let it meet what it dreams wrongly: worldmodel resume RUN --steps N",
    )


def _half(final: Line, world: str) -> float:
    """Half of the 95 % interval of a mean return."""
    low, high = final.get(f"{world}_return_ci95", (0.0, 0.0))
    return (high - low) / 2


def _was_better(evaluated: list[Line], keeps_best: bool) -> Finding | None:
    if len(evaluated) < 2:
        return None
    best = max(evaluated, key=lambda line: line["real_return_mean"])
    last = evaluated[-1]
    drop = best["real_return_mean"] - last["real_return_mean"]
    errors = [float(np.std(line["real_returns"])) for line in (best, last)]
    if drop <= 2 * math.hypot(*errors) / math.sqrt(len(last["real_returns"])) or drop == 0:
        return None
    return Finding(
        f"the policy was better after {best['real_steps']:,} steps "
        f"({best['real_return_mean']:,.4g}) than at the end ({last['real_return_mean']:,.4g})",
        "it is the one that is kept and shown"
        if keeps_best
        else "go back to it by: worldmodel resume RUN --keep best",
    )

"""What a control run is worth: its agent in reality and in the dream, and its model's errors.

The agent: the returns of whole episodes that it plays greedily, in the real environment under
seeds of their own, and in dreams that begin with the model's own first rows. The model: on real
episodes that were played for it alone by the agent as it explores (or on recorded ones that were
held out), its likelihood, and how far it is off when it goes on alone (`measure.open_loop`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from worldmodel import DiskStore, Episodes, Greedy
from worldmodel.experiments.data.datasets import HELD_OUT, rewards_of, typical
from worldmodel.experiments.measure.open_loop import open_loop
from worldmodel.experiments.measure.scores import (
    DENSITIES,
    first_episodes,
    model_log_prob,
    over_keys,
    per_step,
    returns_of,
)
from worldmodel.experiments.rl.config import ProtocolConfig
from worldmodel.experiments.rl.environments import real_environment
from worldmodel.experiments.rl.parts import Parts, load_run
from worldmodel.experiments.rl.returns import evaluation_seeds, play_episodes, play_greedily
from worldmodel.experiments.rl.seeing import coded
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunFolder

Note = Callable[[str, int, int], None]
HELD_OUT_ROWS = 500  # of each episode that the model is scored on, at most


def evaluate(
    folder: RunFolder, settings: ProtocolConfig, note: Note = lambda what, done, total: None
) -> dict[str, Any]:
    """All figures of a run; see the module's docstring. note: told of (what, done, total)."""
    parts, checkpoint = load_run(folder)
    torch.set_num_threads(parts.config.threads)
    seeds = evaluation_seeds(parts.config)
    store = DiskStore(folder.episodes, writable=False)
    real, limit = real_returns(parts, settings.episodes, seeds[1], note)
    horizon = limit or int(store.lengths.max()) - 1
    dreamt = dream_returns(parts, settings.episodes, horizon, seeds[2], note)
    file = folder.episodes / HELD_OUT
    if parts.has_environment:
        held_out_episodes(parts, settings.held_out, seeds[3], note).save(file)
    held_out = as_seen(parts, Episodes.load(file))
    recorded = as_seen(parts, typical(store))
    return {
        **real,
        **{f"dream_return_{key}": value for key, value in dreamt.items()},
        "dream_horizon": horizon,
        "real_steps_used": checkpoint.values["real_steps"],
        **model_figures(parts, settings, held_out, recorded, seeds[3], note),
        "wall_seconds": checkpoint.values["seconds"],
        "seed": parts.config.seed,
        "episodes": settings.episodes,
    }


def real_returns(
    parts: Parts, episodes: int, seed: int, note: Note
) -> tuple[dict[str, Any], int | None]:
    """Of the greedy agent, and the steps after which the real environment truncates, if it does;
    None each, where there is no real environment."""
    if not parts.has_environment:
        return dict.fromkeys(f"real_return_{key}" for key in ("mean", "iqm", "ci95")), None
    returns, limit = play_greedily(
        parts, episodes, seed, lambda done: note("playing real episodes", done, episodes)
    )
    figures = returns_of(returns, seed)
    return {f"real_return_{key}": value for key, value in figures.items()}, limit


def dream_returns(
    parts: Parts, episodes: int, horizon: int, seed: int, note: Note
) -> dict[str, Any]:
    """Of the same agent in dreams that begin with the model's own first rows."""
    with OwnNoise(seed)():
        dream, agent = parts.dream(horizon), Greedy(parts.agent)
        returns = play_episodes(
            dream,
            agent,
            episodes,
            episodes,
            note=lambda done: note("playing dreamt episodes", done, episodes),
        )
        return returns_of(returns, seed)


def held_out_episodes(parts: Parts, number: int, seed: int, note: Note) -> Episodes:
    """Real episodes that nothing is learned from, of the agent as it explores."""
    note("playing episodes to score the model on", 0, number)
    environment = real_environment(parts.config.environment, number, seed)
    with OwnNoise(seed)():
        episodes = first_episodes(environment, parts.player, number, HELD_OUT_ROWS)
    environment.close()
    note("playing episodes to score the model on", number, number)
    return episodes


def as_seen(parts: Parts, episodes: Episodes) -> Episodes:
    """Recorded episodes, as the model is shown them."""
    return episodes if parts.eyes is None else coded(episodes, parts.eyes)


def model_figures(
    parts: Parts,
    settings: ProtocolConfig,
    held_out: Episodes,
    recorded: Episodes,
    seed: int,
    note: Note,
) -> dict[str, Any]:
    """The likelihood of held-out episodes by key, and open-loop errors on them.

    None where a value came that the model holds to be impossible: a reward that was never seen
    before, where rewards have a probability each.
    """
    sequences = held_out.sequences(parts.actions)
    counted = sequences.mask & ~sequences.rows.first
    values = {"observation": recorded.columns["observation"], "reward": rewards_of(recorded)}
    with OwnNoise(seed)():
        log_prob = model_log_prob(
            parts.model,
            sequences,
            settings.bound,
            settings.particles,
            lambda done, total: note("scoring episodes", done, total),
        )
        note("dreaming on without looking", 0, len(held_out))
        off = open_loop(parts.model, sequences, parts.observation_space, values)
    by_key = {key: _loss(value, counted) for key, value in log_prob.items()}
    return {
        **_loss(over_keys(log_prob), counted),
        "by_key": by_key,
        "bound": settings.bound,
        "particles": settings.particles,
        "held_out_episodes": len(held_out),
        "open_loop": off,
    }


def _loss(log_prob: Tensor, counted: Tensor) -> dict[str, float | None]:
    """Of log likelihoods [T, B], where `counted`."""
    mean, error = per_step(-log_prob, counted)
    possible = math.isfinite(mean)
    return {
        "nats_per_step": mean if possible else None,
        "nats_per_step_se": error if possible else None,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """What `evaluate` found, to be shown."""
    return [_of_returns(result), _of_likelihoods(result), _of_errors(result)]


def _of_returns(result: dict[str, Any]) -> Table:
    steps = f"{result['real_steps_used']} real steps"
    title = f"seed {result['seed']}, {steps}, {result['episodes']} episodes each"
    table = Table("return", "mean", "95 %", "IQM", title=title)
    for name, world in (("real", "real"), ("dreamt", "dream")):
        mean, interval, iqm = (result[f"{world}_return_{k}"] for k in ("mean", "ci95", "iqm"))
        if mean is None:
            table.add_row(name, "no environment", "", "")
        else:
            table.add_row(name, f"{mean:.2f}", "{:.2f} to {:.2f}".format(*interval), f"{iqm:.2f}")
    return table


def _of_likelihoods(result: dict[str, Any]) -> Table:
    title = f"{result['held_out_episodes']} held-out episodes"
    table = Table("loss, nats per step", result["bound"], title=title, caption=DENSITIES)
    for name, row in {"all": result, **result["by_key"]}.items():
        mean, error = row["nats_per_step"], row["nats_per_step_se"]
        table.add_row(name, "impossible" if mean is None else f"{mean:.4f} ± {error:.4f}")
    return table


def _of_errors(result: dict[str, Any]) -> Table:
    off = result["open_loop"]
    steps = [f"{step} step{'s' * (step > 1)}" for step in off["steps"]]
    title = "open-loop errors (in brackets: of expecting no change)"
    table = Table("", *steps, title=title)
    for key, found in off["by_key"].items():
        pairs = zip(found["error"], found["error_as_before"], strict=True)
        table.add_row(
            key, *("" if e is None else f"{e:.3f} ({before:.3f})" for e, before in pairs)
        )
    return table

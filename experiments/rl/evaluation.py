"""The evaluation of a run: its agent in reality and in the dream, and its model's errors.

Nothing of the run is changed.

The agent: the returns of whole episodes that it plays greedily, in the real environment under
seeds of their own, and in dreams that begin with the model's own first rows. The model: on real
episodes that were played for it alone (or on recorded ones that were held out), its likelihood,
and the errors of its open-loop predictions (`measure.open_loop`). Exact answers, where they are
known (`rl.yardsticks`), stand beside.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from worldmodel import Episodes, EpisodeSource, Greedy, play_episodes
from worldmodel.agents import Uniform, exploring
from worldmodel.agents.image_encoder import encoded
from worldmodel.agents.world import evaluation_seeds
from worldmodel.agents.world_model_agent import GIVEN
from worldmodel.experiments.data.datasets import episodes_of
from worldmodel.experiments.measure.open_loop import open_loop
from worldmodel.experiments.measure.scores import (
    DENSITIES,
    densities_of,
    first_episodes,
    model_log_prob,
    over_keys,
    per_step,
    returns_of,
)
from worldmodel.experiments.rl.config import EvaluationConfig, RLConfig
from worldmodel.experiments.rl.run import HELD_OUT, Run, load_run
from worldmodel.experiments.rl.yardsticks import Yardstick, yardstick_for
from worldmodel.files import DamagedError
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError, RunFolder

Note = Callable[[str, int, int], None]
HELD_OUT_ROWS = 500  # that are scored of each held-out episode, at most


def evaluate(
    folder: RunFolder, settings: EvaluationConfig, note: Note = lambda what, done, total: None
) -> dict[str, Any]:
    """All figures of a run; see the module's docstring. note: called with (what, done, total)."""
    run, checkpoint = load_run(folder)
    if run.refusal:
        raise RunError(run.refusal)
    torch.set_num_threads(run.config.threads)
    seeds = evaluation_seeds(run.config.agent.seed)
    played = held_out_episodes(folder, run, settings, note)
    store = played if folder.lacks_episodes else episodes_of(folder)  # sets units of errors
    horizon = run.time_limit or int(store.lengths.max()) - 1
    yardstick = yardstick_for(run.one) if run.has_environment else None
    held_out = as_read(run, played)
    return {
        **real_returns(run, settings.episodes, seeds[1], note),
        **dream_returns(run, settings.episodes, horizon, seeds[2], note),
        **({} if yardstick is None else exact_returns(yardstick)),
        "dream_horizon": horizon,
        "real_steps_used": checkpoint.values["real_steps"],
        **model_figures(run, settings, held_out, yardstick, seeds[3], note),
        "open_loop": open_loop_errors(run, held_out, store, seeds[3], note),
        "wall_seconds": checkpoint.values["seconds"],
        "seed": run.config.agent.seed,
        "episodes": settings.episodes,
        "scored_on": scored_on(run.config, settings),
    }


def real_returns(run: Run, episodes: int, seed: int, note: Note) -> dict[str, Any]:
    """Real returns of the greedy agent; None each, where there is no real environment."""
    if not run.has_environment:
        return dict.fromkeys(f"real_return_{key}" for key in ("mean", "iqm", "ci95"))
    playing = f"playing real episodes{run.world.cut}"
    stats = run.world.play(
        Greedy(run.components.player),
        episodes,
        seed,
        lambda done: note(playing, done, episodes),
    )
    return _returns("real", stats, seed)


def dream_returns(run: Run, episodes: int, horizon: int, seed: int, note: Note) -> dict[str, Any]:
    """Returns of the same agent in dreams that begin with the model's own first rows."""
    with OwnNoise(seed)():
        stats = play_episodes(
            run.dream(horizon),
            Greedy(run.agent),
            episodes,
            engine=run.components.engine,
            note=lambda done: note("playing dreamt episodes", done, episodes),
        )
    return _returns("dream", stats, seed)


def _returns(world: str, stats: Any, seed: int) -> dict[str, Any]:
    figures = returns_of(stats.returns, seed) | {
        "terminated": float(stats.terminated.mean()),
    }
    return {f"{world}_return_{key}": value for key, value in figures.items()}


def exact_returns(yardstick: Yardstick) -> dict[str, float]:
    """Expected returns that can be computed."""
    return {f"{name}_return": value for name, value in yardstick.returns().items()}


def held_out_episodes(
    folder: RunFolder,
    run: Run,
    settings: EvaluationConfig,
    note: Note = lambda what, done, total: None,
) -> Episodes:
    """Real episodes to score the model on, which nothing is learned from: those that were held out
    of recorded ones, or others that are played for it."""
    file = folder.path / HELD_OUT
    if run.config.data in (None, GIVEN):
        return played_for_it(run, settings, note)
    if not file.exists():
        folder.check_episodes()
        raise DamagedError(f"{file} is missing, the episodes that were held out: put it back")
    return Episodes.load(file)


def scored_on(config: RLConfig, settings: EvaluationConfig) -> str:
    """The episodes that a run's model is scored on, in words."""
    if config.data not in (None, GIVEN):
        return "recorded episodes that nothing was learned from"
    if settings.held_out_agent == "random":
        return "real episodes of random actions, which nothing was learned from"
    return "real episodes of the agent as it explores, which nothing was learned from"


def played_for_it(run: Run, settings: EvaluationConfig, note: Note) -> Episodes:
    """Real episodes that are played to be scored on; the same ones each time."""
    seed = evaluation_seeds(run.config.agent.seed)[3]
    number = settings.held_out
    note("playing episodes to score the model on", 0, number)
    if not run.has_environment:
        raise RunError(
            "there are no episodes to score the model on: the run has no real environment to play "
            "in, and held none out"
        )
    share = run.config.agent.collect.exploration
    agent = exploring(run.components.player, run.action_space, share)
    if settings.held_out_agent == "random":
        agent = Uniform(run.action_space)
    environment = run.world.environment(number, seed)
    with OwnNoise(seed)():
        episodes = first_episodes(environment, agent, number, HELD_OUT_ROWS)
    environment.close()
    note("playing episodes to score the model on", number, number)
    return episodes


def as_read(run: Run, episodes: Episodes) -> Episodes:
    """Recorded episodes, their images encoded where the model reads codes."""
    encoder = run.components.image_encoder
    return episodes if encoder is None else encoded(episodes, encoder)


def model_figures(
    run: Run,
    settings: EvaluationConfig,
    held_out: Episodes,
    yardstick: Yardstick | None,
    seed: int,
    note: Note,
) -> dict[str, Any]:
    """The loss of the model on held-out episodes, by key, and its gap to the exact answer.

    None where an observed value has probability 0 under the model: a reward that no training
    episode had, where rewards have a probability each.
    """
    sequences = held_out.sequences(run.components.actions)
    counted = sequences.mask & ~sequences.rows.first
    with OwnNoise(seed)():
        log_probs = model_log_prob(
            run.model,
            sequences,
            settings.bound,
            settings.bound_particles,
            lambda done, total: note("scoring episodes", done, total),
        )
    exact = None if yardstick is None else yardstick.log_probs(sequences)
    by_key = {
        key: _loss(value, None if exact is None else exact[key], counted)
        for key, value in log_probs.items()
    }
    whole = _loss(over_keys(log_probs), None if exact is None else over_keys(exact), counted)
    return {
        **whole,
        "by_key": by_key,
        "densities": sorted(densities_of(run.model, run.observation_space)),
        "bound": settings.bound,
        "bound_particles": settings.bound_particles,
        "held_out_episodes": len(held_out),
    }


def _loss(log_prob: Tensor, exact: Tensor | None, counted: Tensor) -> dict[str, float | None]:
    """The mean loss per step over the `counted` rows, bool [T, B], beside the exact one."""
    mean, error = per_step(-log_prob, counted)
    figures: dict[str, float | None] = {"nats_per_step": mean, "nats_per_step_se": error}
    if exact is not None:
        figures["exact_nats_per_step"], _ = per_step(-exact, counted)
        figures["gap_nats_per_step"], figures["gap_se"] = per_step(exact - log_prob, counted)
    return figures if math.isfinite(mean) else dict.fromkeys(figures)


def open_loop_errors(
    run: Run, held_out: Episodes, recorded: EpisodeSource, seed: int, note: Note
) -> dict[str, Any]:
    """Errors of the model's open-loop predictions in held-out episodes."""
    note("predicting from actions alone", 0, len(held_out))
    seen = as_read(run, recorded.typical())
    values = {"observation": seen.columns["observation"], "reward": seen.rewards}
    sequences = held_out.sequences(run.components.actions)
    with OwnNoise(seed)():
        return open_loop(run.model, sequences, run.observation_space, values)


def tables(result: dict[str, Any]) -> list[Table]:
    """The results of `evaluate`, as tables."""
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
            table.add_row(name, f"{mean:.3f}", "{:.3f} to {:.3f}".format(*interval), f"{iqm:.3f}")
    for name in ("optimal", "random"):
        if f"{name}_return" in result:
            table.add_row(f"{name}, exact", f"{result[f'{name}_return']:.3f}", "", "")
    return table


def _of_likelihoods(result: dict[str, Any]) -> Table:
    title = f"{result['held_out_episodes']} held-out episodes: {result['scored_on']}"
    is_exact = "gap_nats_per_step" in result
    names = ("loss, nats per step", result["bound"], *(("exact", "gap") if is_exact else ()))
    table = Table(*names, title=title, caption=DENSITIES if result["densities"] else None)
    for name, row in {"all": result, **result["by_key"]}.items():
        mean, error = row["nats_per_step"], row["nats_per_step_se"]
        cells = [name, "impossible" if mean is None else f"{mean:.4f} ± {error:.4f}"]
        if is_exact and mean is not None:
            cells.append(f"{row['exact_nats_per_step']:.4f}")
            cells.append(f"{row['gap_nats_per_step']:.4f} ± {row['gap_se']:.4f}")
        table.add_row(*cells)
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

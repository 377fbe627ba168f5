"""What a run of the toy game is worth, beside the exact answers.

The model: its bound on the likelihood of whole held-out episodes of the uniform agent, beside the
exact Bayes filter's likelihood of the same rows. The policy: its expected steps in fresh real
games, in the dream, and beside the optimal and the random policy.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from worldmodel import Agent, Environment, Episodes, GenCore, Greedy, Sequences
from worldmodel.agents import Uniform
from worldmodel.envs import ToyGameFilter, random_policy_steps, solve_toy_game
from worldmodel.experiments.measure.scores import (
    first_episodes,
    model_log_prob,
    over_keys,
    per_step,
)
from worldmodel.experiments.rl.toy_game import Parts, load_run
from worldmodel.experiments.rl.toy_game_config import EvaluationConfig
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunFolder

EVALUATION_SEED = 2**32  # apart from the seeds of training, which are drawn from smaller ones


class Score(NamedTuple):
    """What a model loses on held-out episodes, and what the exact answer loses."""

    nats: float  # a step
    nats_error: float  # its standard error, over episodes
    exact_nats: float  # a step
    gap: float  # nats a step
    gap_error: float
    episode_nats: float  # an episode
    episode_nats_error: float

    def figures(self) -> dict[str, float]:
        """By name, as `evaluate --json` prints them."""
        return {
            "nats_per_step": self.nats,
            "nats_per_step_se": self.nats_error,
            "bits_per_step": self.nats / math.log(2),
            "exact_nats_per_step": self.exact_nats,
            "gap_nats_per_step": self.gap,
            "gap_se": self.gap_error,
            "nats_per_episode": self.episode_nats,
            "nats_per_episode_se": self.episode_nats_error,
        }


@torch.no_grad()
def play_episodes(
    environment: Environment, agent: Agent, copies: int, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first episode of each copy: its steps (`limit` if it did not terminate by itself)
    int [copies], and whether it did, bool [copies]."""
    core = GenCore(environment, agent)
    state = core.initial_state(copies)
    steps = torch.full((copies,), limit)
    solved = torch.zeros(copies, dtype=torch.bool)
    over = solved.clone()
    for t in range(limit + 1):
        (row, _), state = core.step(state)
        over |= row.first & (t > 0)
        ended = row.terminated & ~over
        steps = torch.where(ended, t, steps)
        solved = solved | ended
        over = over | ended
        if over.all():
            break
    return steps.numpy(), solved.numpy()


def held_out_episodes(parts: Parts, copies: int, seed: int) -> Episodes:
    """Whole episodes of the uniform agent, the first of each copy."""
    environment = parts.environment(copies, seed)
    return first_episodes(environment, Uniform(parts.action_space), copies, parts.time_limit + 1)


def exact_log_prob(parts: Parts, sequences: Sequences) -> dict[str, Tensor]:
    """The exact filter's log likelihood by key, [T, B] nats."""
    told = parts.config.game
    rows = sequences.rows
    action = parts.actions.decode(rows.action)
    arrays = (rows.first, action, rows.observation, rows.reward, rows.terminated)
    exact = ToyGameFilter(told.width, told.classes, told.task)
    log_probs = exact.log_prob(*(leaf.numpy() for leaf in arrays))
    return {key: torch.as_tensor(value) for key, value in log_probs.items()}


def score(model: Tensor, exact: Tensor, counted: Tensor) -> Score:
    """What is lost on the `counted` rows [T, B], from log likelihoods [T, B] in nats."""
    episodes = torch.where(counted, -model, 0.0).sum(0)
    error = (episodes.std() / len(episodes) ** 0.5).item()
    exactly, _ = per_step(-exact, counted)
    lost, gap = per_step(-model, counted), per_step(exact - model, counted)
    return Score(*lost, exactly, *gap, episodes.mean().item(), error)


def mean_interval(values: np.ndarray) -> tuple[float, list[float]]:
    """A mean and its 95 % confidence interval (normal approximation)."""
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, [mean - half, mean + half]


def evaluate(
    folder: RunFolder,
    settings: EvaluationConfig,
    note: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """All figures of a run; see the module's docstring. note: told of (what, done, total)."""
    episodes, games, particles = settings.episodes, settings.games, settings.particles
    parts, checkpoint = load_run(folder)
    torch.set_num_threads(parts.config.threads)
    seeds = np.random.SeedSequence([parts.config.seed, EVALUATION_SEED]).generate_state(3)
    limit = parts.time_limit
    with OwnNoise(int(seeds[0]))():
        held_out = held_out_episodes(parts, episodes, int(seeds[1]))
        held_out.save(folder.episodes / "held-out.npz")
        sequences = held_out.sequences(parts.actions)
        exact = exact_log_prob(parts, sequences)
        bound = model_log_prob(
            parts.model,
            sequences,
            settings.bound,
            particles,
            lambda done, total: note("scoring episodes", done, total),
        )
        greedy = Greedy(parts.agent)
        note("playing real games", 0, games)
        real = play_episodes(parts.environment(games, int(seeds[2])), greedy, games, limit)
        note("playing dreamt games", 0, games)
        dreamt = play_episodes(parts.dream(), greedy, games, limit)
    counted = sequences.mask & ~sequences.rows.first
    whole = score(over_keys(bound), over_keys(exact), counted)
    by_key = {key: score(bound[key], exact[key], counted) for key in bound}
    real_mean, real_interval = mean_interval(real[0])
    dream_mean, dream_interval = mean_interval(dreamt[0])
    told = parts.config.game
    return whole.figures() | {
        "by_key": {key: value.figures() for key, value in by_key.items()},
        "policy_mean_steps": real_mean,
        "policy_mean_steps_ci95": real_interval,
        "policy_solved_fraction": float(real[1].mean()),
        "optimal_mean_steps": solve_toy_game(told.width, told.classes, told.task).expected_steps,
        "random_mean_steps": random_policy_steps(told.width, told.classes, told.task, limit),
        "dream_mean_steps": dream_mean,
        "dream_mean_steps_ci95": dream_interval,
        "dream_solved_fraction": float(dreamt[1].mean()),
        "real_steps_used": checkpoint.values["real_steps"],
        "wall_seconds": checkpoint.values["seconds"],
        "seed": parts.config.seed,
        "bound": settings.bound,
        "particles": particles,
        "episodes": episodes,
        "games": games,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """What `evaluate` found, to be shown."""
    table = Table(title=f"seed {result['seed']}, {result['real_steps_used']} real steps")
    for column in ("", "here", "exact", "difference"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {"loss, nats per step": result} | {f"  {k}": v for k, v in result["by_key"].items()}
    for name, row in rows.items():
        here = f"{row['nats_per_step']:.4f} ± {row['nats_per_step_se']:.4f}"
        gap = f"{row['gap_nats_per_step']:.4f} ± {row['gap_se']:.4f}"
        table.add_row(name, here, f"{row['exact_nats_per_step']:.4f}", gap)
    table.add_row("loss, bits per step", f"{result['bits_per_step']:.4f}", "", "")
    episode = f"{result['nats_per_episode']:.3f} ± {result['nats_per_episode_se']:.3f}"
    table.add_row("loss, nats per episode", episode, "", "")
    optimal = result["optimal_mean_steps"]
    for name, key in (
        ("steps to solve, real", "policy_mean_steps"),
        ("steps to solve, dreamt", "dream_mean_steps"),
        ("steps at random", "random_mean_steps"),
    ):
        mean = result[key]
        table.add_row(name, f"{mean:.3f}", f"{optimal:.3f}", f"{mean - optimal:+.3f}")
    table.add_row("solved", f"{100 * result['policy_solved_fraction']:.2f} %", "", "")
    return [table]

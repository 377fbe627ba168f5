"""Agents that learn in one and the same dream: that of a finished run.

    worldmodel bench dream RUN --agents own sb3:PPO

Each begins anew and learns in the dream of the run's world model, which stays as it is; in a run
of control from beliefs about what was recorded. (The toy game's own agent is taken as its run left
it.) Then it plays whole episodes greedily, in that dream and in reality. What to expect stands in
docs/results.md.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from gymnasium.vector import AutoresetMode
from rich.table import Table

from worldmodel import Agent, Believer, DiskStore, Greedy, Replay, cosine
from worldmodel.agents import sb3
from worldmodel.envs import DreamVectorEnv
from worldmodel.experiments.bench.settings import DreamSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.data.spaces import read_spaces
from worldmodel.experiments.rl import toy_game
from worldmodel.experiments.rl.config import ControlConfig, DreamingConfig
from worldmodel.experiments.rl.improving import ByAlgorithm, Improver
from worldmodel.experiments.rl.parts import LAST_RATE, Facts, Parts, improver_for, options_of
from worldmodel.experiments.rl.returns import evaluation_seeds, play_episodes
from worldmodel.experiments.rl.seeing import seen
from worldmodel.experiments.rl.toy_game_config import ToyGameConfig
from worldmodel.experiments.runs.progress import Reporter
from worldmodel.experiments.runs.registry import config_of
from worldmodel.experiments.runs.stages import newest_checkpoint
from worldmodel.noise import OwnNoise
from worldmodel.run_folder import RunError, RunFolder

LEARNT = ("model", "eyes")  # the modules that are the run's own; agents begin anew


class Candidate(NamedTuple):
    """An agent in a run's worlds, and how it learns."""

    agent: Agent
    parts: Parts | toy_game.Parts
    real_steps: int  # that the world model has learnt from
    improver: Improver | None = None  # None: it has learnt already
    dreamt_steps: int = 0  # a rollout


def run(settings: DreamSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """A row of figures for each agent."""
    folder = RunFolder.open(settings.path)
    config = config_of(folder)
    if not isinstance(config, ControlConfig | ToyGameConfig):
        raise RunError(f"{folder.path} is a run of {folder.experiment}, which has no dream")
    torch.set_num_threads(config.threads)
    rows = []
    for name in settings.agents:
        torch.manual_seed(settings.seed)
        if isinstance(config, ControlConfig):
            candidate = of_control(folder, config, name, settings)
        else:
            candidate = of_toy_game(folder, name, settings)
        seconds = _learn(candidate.improver, name, settings.rollouts, reporter)
        row: dict[str, Any] = {"agent": name, "seconds": seconds, "seed": settings.seed}
        row |= {"dreamt_steps": settings.rollouts * candidate.dreamt_steps}
        row |= {"episodes": settings.episodes, "real_steps_used": candidate.real_steps}
        played = _play(candidate, settings.episodes, settings.horizon, evaluation_seeds(config))
        rows.append(row | played)
    return rows


def of_control(
    folder: RunFolder, config: ControlConfig, name: str, settings: DreamSettings
) -> Candidate:
    """A new agent for the world model of a run of control."""
    told = "{}" if name == "own" else settings.agent_arguments
    dreaming = replace(config.dreaming, agent=name, agent_arguments=told, method="auto")
    facts = Facts(**json.loads((folder.episodes / "facts.json").read_text()))
    spaces = read_spaces(folder.episodes)
    parts = Parts(replace(config, dreaming=dreaming), facts, *spaces)
    checkpoint = newest_checkpoint(folder)
    learnt = {name: module for name, module in parts.modules.items() if name in LEARNT}
    checkpoint.load(learnt)
    for module in learnt.values():
        module.requires_grad_(False)
    store = DiskStore(folder.episodes, writable=False)
    recorded = store if parts.eyes is None else seen(store, parts.eyes)
    replay = Replay(parts.actions, settings.seed, recorded)
    improver = improver_for(parts, replay, settings.rollouts)
    steps = parts.rollouts.dreams * parts.rollouts.length
    return Candidate(parts.agent, parts, checkpoint.values["real_steps"], improver, steps)


def of_toy_game(folder: RunFolder, name: str, settings: DreamSettings) -> Candidate:
    """The toy game's own agent, or an algorithm that learns in its dream from the first row on."""
    parts, checkpoint = toy_game.load_run(folder)
    real_steps = checkpoint.values["real_steps"]
    if name == "own":
        return Candidate(parts.agent, parts, real_steps)
    told = DreamingConfig(agent=name, agent_arguments=settings.agent_arguments)
    sizes = told.rollouts(are_numbers=False)
    dreams = DreamVectorEnv(parts.dream(), sizes.dreams, "belief", AutoresetMode.SAME_STEP)
    learner = sb3.Learner(str(told.algorithm), dreams, options_of(told))
    steps = sizes.dreams * sizes.length
    improver = ByAlgorithm(learner, dreams, steps, cosine(1.0, LAST_RATE, settings.rollouts))
    head = sb3.Head(learner.algorithm)
    believer = Believer(parts.model, head)
    agent = sb3.Remembering(believer, head) if sb3.is_remembering(head) else believer
    return Candidate(agent, parts, real_steps, improver, steps)


def _learn(improver: Improver | None, name: str, rollouts: int, reporter: Reporter) -> float:
    """Trains an agent; how many seconds it took."""
    if improver is None:
        return 0.0
    begun = time.monotonic()
    improver.begin()
    with reporter.stage(f"{name}, dreaming", rollouts, 0, "rollouts") as progress:
        for rollout in range(1, rollouts + 1):
            metrics = improver.update()
            progress.update(rollout, f"reward {metrics['reward']:.3f}")
    return time.monotonic() - begun


def _play(
    candidate: Candidate, episodes: int, horizon: int, seeds: Sequence[int]
) -> dict[str, float]:
    """Means of returns in both worlds, and their standard errors."""
    agent, parts = Greedy(candidate.agent), candidate.parts
    with OwnNoise(seeds[1])():
        dreamt = play_episodes(parts.dream(horizon), agent, episodes, episodes)
    environment = parts.environment(episodes, seeds[2])
    with OwnNoise(seeds[2])():
        real = play_episodes(environment, agent, episodes, episodes)
    environment.close()
    figures = {}
    for name, returns in (("dream", dreamt), ("real", real)):
        figures[f"{name}_return_mean"] = float(returns.mean())
        figures[f"{name}_return_se"] = float(returns.std(ddof=1) / episodes**0.5)
    return figures


def tables(result: Sequence[dict[str, Any]]) -> list[Table]:
    """The table of `bench dream`."""
    rows = (
        (
            row["agent"],
            f"{row['dreamt_steps']:,}",
            f"{row['dream_return_mean']:.2f} ± {row['dream_return_se']:.2f}",
            f"{row['real_return_mean']:.2f} ± {row['real_return_se']:.2f}",
            f"{row['seconds']:.0f}",
        )
        for row in result
    )
    title = f"agents in one dream, learnt from {result[0]['real_steps_used']:,} real steps"
    return [table(title, ("agent", "dreamt steps", "return, dreamt", "real", "s"), rows)]

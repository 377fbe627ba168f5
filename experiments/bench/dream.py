"""Agents that learn in one and the same dream: that of a finished run.

    worldmodel bench dream RUN --agents own sb3:PPO

Each begins anew and learns in the dream of the run's world model, which stays as it is, from
beliefs about what the run has recorded. Then it plays whole episodes greedily, in that dream and
in reality. What to expect stands in docs/results.md.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from experiments.control import Facts, Parts, evaluation_seeds, improver_for
from experiments.control_config import AgentName, ControlConfig
from experiments.progress import Reporter
from experiments.returns import play_episodes
from experiments.run import RunError, RunFolder
from experiments.seeing import seen
from experiments.spaces import read_spaces
from experiments.training import newest_checkpoint
from worldmodel import DiskStore, Greedy, Replay
from worldmodel.noise import OwnNoise

LEARNT = ("model", "eyes")  # the modules that are the run's own; agents begin anew


def bench(
    folder: RunFolder,
    agents: Sequence[AgentName],
    rollouts: int,
    episodes: int,
    horizon: int,
    seed: int,
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """A row of figures for each agent. horizon: of the dreamt episodes that are played."""
    config = folder.config()
    if not isinstance(config, ControlConfig):
        raise RunError(
            f"{folder.path} is a run of {folder.experiment}; dreams are benched of control"
        )
    torch.set_num_threads(config.threads)
    rows = []
    for agent in agents:
        dreaming = replace(config.dreaming, agent=agent, agent_arguments="{}", method="auto")
        parts, steps = dreaming_again(folder, replace(config, dreaming=dreaming), seed)
        seconds = _learn(folder, parts, rollouts, seed, agent, reporter)
        acting, seeds = Greedy(parts.agent), evaluation_seeds(config)
        row: dict[str, Any] = {"agent": agent, "rollouts": rollouts, "seconds": seconds}
        with OwnNoise(seeds[1])():
            dreamt = play_episodes(parts.dream(horizon), acting, episodes, episodes)
        environment = parts.environment(episodes, seeds[2])
        with OwnNoise(seeds[2])():
            real = play_episodes(environment, acting, episodes, episodes)
        environment.close()
        row |= {"dreamt_steps": rollouts * parts.rollouts.dreams * parts.rollouts.length}
        row |= {"episodes": episodes, "real_steps_used": steps, "seed": seed}
        for name, returns in (("dream", dreamt), ("real", real)):
            row[f"{name}_return_mean"] = float(returns.mean())
            row[f"{name}_return_se"] = float(returns.std(ddof=1) / len(returns) ** 0.5)
        rows.append(row)
    return rows


def dreaming_again(folder: RunFolder, config: ControlConfig, seed: int) -> tuple[Parts, int]:
    """A run's world model with a new agent, and the real steps that the model has seen."""
    checkpoint = newest_checkpoint(folder)
    facts = Facts(**json.loads((folder.episodes / "facts.json").read_text()))
    torch.manual_seed(seed)
    parts = Parts(config, facts, *read_spaces(folder.episodes))
    learnt = {name: module for name, module in parts.modules.items() if name in LEARNT}
    checkpoint.load(learnt)
    for module in learnt.values():
        module.requires_grad_(False)
    return parts, checkpoint.values["real_steps"]


def _learn(
    folder: RunFolder, parts: Parts, rollouts: int, seed: int, agent: str, reporter: Reporter
) -> float:
    """Trains the agent; how many seconds it took."""
    store = DiskStore(folder.episodes, writable=False)
    recorded = store if parts.eyes is None else seen(store, parts.eyes)
    replay = Replay(parts.actions, seed, recorded)
    begun = time.monotonic()
    improver = improver_for(parts, replay, rollouts)
    improver.begin()
    with reporter.stage(f"{agent}, dreaming", rollouts, 0, "rollouts") as progress:
        for rollout in range(1, rollouts + 1):
            metrics = improver.update()
            progress.update(rollout, f"reward {np.round(metrics['reward'], 3)}")
    return time.monotonic() - begun

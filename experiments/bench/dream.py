"""Agents that learn in the same dream: the world model of a finished run.

    worldmodel bench dream RUN --agents own sb3:PPO

Each is trained from scratch in the dream of the run's world model, which is not trained further.
Then it plays whole episodes greedily, in that dream and in reality. docs/results.md lists
expected results.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from rich.table import Table

from worldmodel import DiskStore, Greedy, Replay, play_episodes
from worldmodel.agents import PolicyOptimizer
from worldmodel.agents.components import Components, optimizer_for
from worldmodel.agents.image_encoder import encoded_store
from worldmodel.agents.world import evaluation_seeds
from worldmodel.experiments.bench.settings import DreamSettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.rl.config import RLConfig
from worldmodel.experiments.rl.run import Run, load_run
from worldmodel.experiments.runs.registry import config_of
from worldmodel.noise import OwnNoise
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunError, RunFolder

LEARNED = ("model", "image_encoder")  # modules loaded from the run; agents are initialised anew


def run(settings: DreamSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """A row of figures for each agent."""
    folder = settings.trust.open(settings.path)
    config = config_of(folder)
    if not isinstance(config, RLConfig):
        raise RunError(f"{folder.path} is a run of {folder.experiment}, which has no dream")
    torch.set_num_threads(config.threads)
    rows = []
    for name in settings.agents:
        torch.manual_seed(settings.seed)
        candidate, real_steps, optimizer = new_agent(folder, name, settings)
        seconds = _learn(optimizer, name, settings.rollouts, reporter)
        rollouts = candidate.components.rollouts
        steps = settings.rollouts * rollouts.num_imagined * rollouts.length
        row: dict[str, Any] = {"agent": name, "seconds": seconds, "seed": settings.seed}
        row |= {"dreamt_steps": steps}
        row |= {"episodes": settings.episodes, "real_steps_used": real_steps}
        seeds = evaluation_seeds(config.agent.seed)
        rows.append(row | _play(candidate, settings.episodes, settings.horizon, seeds))
    return rows


def new_agent(
    folder: RunFolder, name: str, settings: DreamSettings
) -> tuple[Run, int, PolicyOptimizer]:
    """A new agent for the world model of a run, the number of real steps that the model was
    trained on, and the agent's optimiser."""
    run, checkpoint = load_run(folder)
    run.source.check()
    policy = run.config.agent.policy.of(name, settings.agent_arguments)
    config = replace(run.config.agent, policy=policy)
    shown = run.world.observation_space, run.world.action_space
    components = Components(config, run.components.statistics, *shown)
    learned = {name: m for name, m in components.modules.items() if name in LEARNED}
    checkpoint.load(learned)
    for module in learned.values():
        module.requires_grad_(False)
    store = DiskStore(folder.episodes, writable=False, as_of=checkpoint.values["finished"] or None)
    encoder = components.image_encoder
    recorded = store if encoder is None else encoded_store(store, encoder)
    replay = Replay(components.actions, settings.seed, recorded)
    optimizer = optimizer_for(components, replay, [(0, settings.rollouts)])
    real_steps = checkpoint.values["real_steps"]
    return Run(run.config, run.world, components), real_steps, optimizer


def _learn(optimizer: PolicyOptimizer, name: str, rollouts: int, reporter: Reporter) -> float:
    """Trains an agent; returns the seconds that it took."""
    begun = time.monotonic()
    optimizer.begin()
    with reporter.stage(f"{name}, dreaming", rollouts, 0, "rollouts") as progress:
        for rollout in range(1, rollouts + 1):
            metrics = optimizer.update()
            progress.update(rollout, f"reward {metrics['reward']:.3f}")
    return time.monotonic() - begun


def _play(candidate: Run, episodes: int, horizon: int, seeds: Sequence[int]) -> dict[str, float]:
    """Means of returns in both worlds, and their standard errors."""
    agent = Greedy(candidate.agent)
    with OwnNoise(seeds[1])():
        dreamt = play_episodes(candidate.dream(horizon), agent, episodes).returns
    environment = candidate.environment(episodes, seeds[2])
    with OwnNoise(seeds[2])():
        real = play_episodes(environment, agent, episodes).returns
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

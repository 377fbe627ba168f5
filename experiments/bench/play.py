"""Speed of playing and showing a single game, as a person plays it.

    worldmodel bench play [RUN]

A *dream step* is one row of the dream alone, of one game. A *row* is one of both worlds, the real
one and the dream, with everything that is shown of it: the model's expectation, its surprise, the
distance of the two worlds. A *frame* is a row and its pictures, encoded as for the browser.
Without a run, untrained models play CartPole-v1 from images of 64 x 64 pixels: speed does not
depend on training. docs/results.md lists expected results.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from rich.table import Table

from worldmodel import action_codec
from worldmodel.agents import AgentConfig
from worldmodel.agents.components import Components, Statistics
from worldmodel.experiments.bench.settings import PlaySettings
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.rl.config import EnvironmentConfig, RLConfig
from worldmodel.experiments.rl.run import Run, spaces_of, world_of
from worldmodel.experiments.runs.processor import resident
from worldmodel.experiments.runs.registry import offered
from worldmodel.experiments.show.config import PlayConfig
from worldmodel.experiments.show.play.game import Game, Input
from worldmodel.experiments.show.play.player import Playable
from worldmodel.options import with_options
from worldmodel.progress import Reporter
from worldmodel.run_folder import RunFolder

WARM = 20  # warm-up steps before timing
PIXELS = 64


def untrained() -> Iterator[tuple[str, Playable]]:
    """CartPole from images, encoded by a VAE or jointly, by untrained models of default sizes."""
    for vae in ("frozen", "joint"):
        agent = with_options(AgentConfig(), {"vae": vae})
        environment = EnvironmentConfig(env="CartPole-v1", pixels=PIXELS)
        config = RLConfig(environment=environment, agent=agent)
        world = world_of(config, *spaces_of(environment))
        shown = world.observation_space, world.action_space
        components = Components(agent, Statistics([1.0], 1.0), *shown)
        for module in components.modules.values():
            module.requires_grad_(False)
        yield f"CartPole-v1, {PIXELS} x {PIXELS}, --vae {vae}", Run(config, world, components)


def run(settings: PlaySettings, reporter: Reporter) -> list[dict[str, Any]]:
    """A row of figures for each game: milliseconds (median, 99th percentile), frames a second."""
    torch.set_num_threads(settings.threads)
    games = untrained() if settings.path is None else of_run(settings.path)
    return [measure(name, parts, settings.steps, reporter) for name, parts in games]


def of_run(path: Path) -> Iterator[tuple[str, Playable]]:
    """The game of a run."""
    folder = RunFolder.open(path)
    yield str(path), offered(folder, "playable", "bench play")(folder)


def measure(name: str, parts: Playable, steps: int, reporter: Reporter) -> dict[str, Any]:
    row: dict[str, Any] = {"game": name, "threads": torch.get_num_threads(), "steps": steps}
    with reporter.stage(f"playing {name}", 2 * steps, 0, "steps") as stage:
        row |= _told("dream_step", dream_steps(parts, steps))
        stage.update(steps)
        seconds = frames(parts, steps, drawn=False)
        row |= _told("row", seconds)
        begun = resident()
        seconds = frames(parts, steps, drawn=True)
        stage.update(2 * steps)
    row |= _told("frame", seconds) | {"frames_per_second": steps / sum(seconds)}
    return row | {
        "resident_megabytes_begun": begun / 1e6,
        "resident_megabytes_ended": resident() / 1e6,
    }


def dream_steps(parts: Playable, steps: int) -> list[float]:
    """Seconds of each step of one dreamt game under random actions."""
    dream = parts.dream()
    actions = torch.stack([_code(parts.action_space) for _ in range(WARM)])
    state = dream.initial_state(1)

    def step(number: int) -> None:
        nonlocal state
        _, state = dream.step(actions[number % WARM], state)

    with torch.no_grad():
        return _timed(step, steps)


def _code(space: spaces.Space) -> torch.Tensor:
    return action_codec(space).encode(torch.as_tensor(np.asarray(space.sample()))[None])


def frames(parts: Playable, steps: int, drawn: bool) -> list[float]:
    """Seconds of each row of a game under random actions, with its pictures if `drawn`."""
    with tempfile.TemporaryDirectory() as folder:
        game = Game(parts, PlayConfig(), 0, Path(folder) / "game")
        game.play([Input("press", "u")], tick=False, wanted=False)

        def step(number: int) -> None:
            game.play([], tick=True, wanted=drawn)

        try:
            return _timed(step, steps)
        finally:
            game.close()


def _timed(step: Callable[[int], None], steps: int) -> list[float]:
    seconds = []
    for number in range(WARM + steps):
        begun = time.perf_counter()
        step(number)
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM:]


def _told(name: str, seconds: list[float]) -> dict[str, float]:
    median, most = np.quantile(seconds, [0.5, 0.99])
    return {f"{name}_ms": 1e3 * float(median), f"{name}_ms_99": 1e3 * float(most)}


def tables(result: list[dict[str, Any]]) -> list[Table]:
    """The table of `bench play`."""
    timed = ("dream_step", "row", "frame")
    rows = (
        (
            row["game"],
            *(f"{row[f'{name}_ms']:.2f} ({row[f'{name}_ms_99']:.2f})" for name in timed),
            f"{row['frames_per_second']:.1f}",
            f"{row['resident_megabytes_begun']:.0f}, {row['resident_megabytes_ended']:.0f}",
        )
        for row in result
    )
    threads = ", ".join(sorted({str(row["threads"]) for row in result}))
    title = f"one game, threads: {threads}; ms, the median and (of 99 % at most)"
    columns = ("game", "dream step", "row of both worlds", "row and pictures", "frames/s", "MB")
    return [table(title, columns, rows)]

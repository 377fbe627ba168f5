"""Cores beside exact likelihoods: gaps of their bounds, and gaps that remain after training.

    worldmodel bench exact [--on chain] [--core vrnn srnn] [--json]

bound gap   weights set by hand to a linear-Gaussian chain: the gap is the bound's alone,
and theory predicts it (`expected`, of the ELBO).
fit gap     learned from fresh sequences of that chain, beside its Kalman filter.
toy game    learned from the fresh play of a uniform agent, beside the exact Bayes filter.

No sequence is used twice, so models cannot overfit: a gap is the core's, the bound's or the
optimizer's. docs/results.md lists expected results.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from worldmodel import (
    ELBO,
    Episodes,
    GenCore,
    Learner,
    Objective,
    Replay,
    Sequences,
    WorldModel,
    action_codec,
    core_options,
    cosine,
    linear,
    make_core,
    make_objective,
    model_for,
    nested,
)
from worldmodel.agents import Uniform
from worldmodel.envs import GymEnvironment, ToyGame
from worldmodel.experiments.bench.settings import ExactSettings, quick_exact
from worldmodel.experiments.bench.table import table
from worldmodel.experiments.measure.scores import (
    first_episodes,
    model_log_prob,
    over_keys,
    per_step,
)
from worldmodel.experiments.rl.yardsticks import ToyGameYardstick
from worldmodel.experiments.runs.interruption import stoppable
from worldmodel.progress import Reporter
from worldmodel.testing.exact import (
    BY_HAND,
    Chain,
    as_sequences,
    chain_model,
    expected_gap,
    model_by_hand,
)

EMA_DECAY = 0.99  # of the weights; the average is scored
PHASE_UPDATES = 50  # of play of 512 games: some 50,000 rows, each used about once
GAMES = 512
QUIET_UPDATES = 400  # of a KL weight above 1: early noise of latents impedes learning to remember

SCORES = (("elbo", 1), ("iwae", 10), ("iwae", 100), ("fivo", 10))
GAME_SCORES = (("elbo", 1), ("iwae", 100))


class Figure(NamedTuple):
    """A measured gap. Losses are nats a row: minus the bound, or minus the log likelihood."""

    what: str  # bound gap, fit gap or toy game
    core: str
    length: int  # rows a sequence, at most
    trained_by: str | None  # the bound that was maximised; None: weights set by hand
    bound: str  # the reported bound, "exact" for a core without latents
    particles: int
    exact: float
    value: float
    gap: float
    se: float
    expected: float | None  # the gap that theory predicts, if it does
    seconds: float  # of training
    updates: int


class Task(NamedTuple):
    """Held-out sequences and their exact log likelihoods."""

    what: str
    sequences: Sequences
    exact: Tensor  # [T, B], nats
    counted: Tensor  # bool [T, B], the rows that a gap is averaged over


def run(settings: ExactSettings, reporter: Reporter) -> list[dict[str, Any]]:
    """All figures; after Ctrl-C those measured so far."""
    figures: list[dict[str, Any]] = []
    with stoppable(reporter):
        for figure in exact(quick_exact(settings) if settings.quick else settings, reporter):
            figures.append(figure._asdict())
    return figures


def exact(config: ExactSettings, reporter: Reporter) -> Iterator[Figure]:
    """All figures, one after another. Seeds torch's generator."""
    torch.set_num_threads(config.threads)
    if config.on in ("chain", "all"):
        yield from bound_gaps(config, reporter)
        yield from fit_gaps(config, reporter)
    if config.on in ("toy-game", "all"):
        yield from toy_game_gaps(config, reporter)


def variants(config: ExactSettings) -> Iterator[tuple[str, str, bool | None]]:
    """(name, core, whether its posterior reads future rows; None: not an option of the core)."""
    for core in config.core:
        if core_options(core, {"smoothing": True}):
            yield f"{core} filtering", core, False
            yield f"{core} smoothing", core, True
        else:
            yield core, core, None


def the_chain(config: ExactSettings) -> Chain:
    torch.manual_seed(config.seed)
    return Chain.random()


def held_out_rows(config: ExactSettings, chain: Chain, what: str, length: int) -> Task:
    """Held-out sequences of the chain, float64."""
    torch.manual_seed(config.seed + 1)
    observations = chain.sample(length, config.sequences)[1]
    sequences = as_sequences(observations)
    return Task(what, sequences, chain.log_prob(observations), sequences.loss_mask)


def bound_gaps(config: ExactSettings, reporter: Reporter) -> Iterator[Figure]:
    """Gaps of the bounds of models that equal the chain."""
    chain = the_chain(config)
    for length in config.lengths:
        task = held_out_rows(config, chain, "bound gap", length)
        for name, core, smoothing in variants(config):
            if core not in BY_HAND:  # a core of a plugin
                continue
            reporter.say(f"bounds of {name}, set by hand, {length} rows")
            model = model_by_hand(chain, core, smoothing)
            torch.manual_seed(config.seed + 2)
            expected = expected_gap(chain, core, smoothing, length) / length
            for figure in scores(model, task, name, SCORES):
                elbo = figure.bound in ("elbo", "exact")
                yield figure._replace(expected=expected if elbo else None)


def fit_gaps(config: ExactSettings, reporter: Reporter) -> Iterator[Figure]:
    """Gaps after training on fresh sequences."""
    chain, updates = the_chain(config), config.learning.fit_updates
    task = held_out_rows(config, chain, "fit gap", max(config.lengths))
    task = task._replace(sequences=_float(task.sequences))
    for name, core, smoothing in variants(config):
        latents = make_core(core, 1, 1).initial_state(1).latent.shape[-1]
        without_latents = not latents  # all its bounds are the likelihood
        for bound in config.learning_bounds[: 1 if without_latents else None]:
            torch.manual_seed(config.seed + 2)
            sizes = {"latent": 2, "latent_hidden": 32, "smoothing": bool(smoothing)}
            options = core_options(core, sizes)
            model = chain_model(chain, core, config.learning.fit_hidden, **options)
            title = f"{name} learns the chain by {bound}"
            objective = make_objective(
                bound, model, 1 if bound == "elbo" else config.learning.learning_particles
            )
            settings = (updates, config.learning.fit_rate, title, reporter)
            seconds = learn(model, objective, fresh_rows(chain), *settings)
            for figure in scores(model, task, name, SCORES):
                yield figure._replace(trained_by=bound, seconds=seconds, updates=updates)


def toy_game_gaps(config: ExactSettings, reporter: Reporter) -> Iterator[Figure]:
    """Gaps on whole episodes of the toy game, over the rows after the first."""
    game = ToyGame()
    for core in config.core:
        torch.manual_seed(config.seed + 2)
        options = core_options(core, {"latent": 4})
        spaces = game.observation_space, game.action_space
        model = model_for(*spaces, core, config.learning.game_hidden, [-1.0], **options)
        title, updates = f"{core} learns the toy game", config.learning.game_updates
        objective = ELBO(model, linear(10.0, 1.0, QUIET_UPDATES))
        settings = (updates, config.learning.game_rate, title, reporter)
        seconds = learn(model, objective, fresh_play(game, config.seed), *settings)
        reporter.say(f"{core}: scoring {config.episodes} held-out episodes")
        task = held_out_games(game, config)
        for figure in scores(model, task, core, GAME_SCORES):
            yield figure._replace(trained_by="elbo", seconds=seconds, updates=updates)


def real_games(copies: int, seed: int) -> GymEnvironment:
    """A batch of games."""
    return GymEnvironment(gymnasium.make_vec("worldmodel/ToyGame-v0", copies), seed)


def held_out_games(game: ToyGame, config: ExactSettings) -> Task:
    """Whole episodes of the uniform agent."""
    torch.manual_seed(config.seed + 1)
    seed = int(np.random.SeedSequence([config.seed, 1]).generate_state(1)[0])
    environment = real_games(config.episodes, seed)
    rows = cast(int, game.time_limit) + 1
    episodes = first_episodes(environment, Uniform(game.action_space), config.episodes, rows)
    sequences = episodes.sequences(action_codec(game.action_space))
    counted = sequences.mask & ~sequences.rows.first
    exact = ToyGameYardstick(game).log_probs(sequences)
    return Task("toy game", sequences, over_keys(exact), counted)


def fresh_rows(chain: Chain, length: int = 32, batch_size: int = 32) -> Iterator[list[Sequences]]:
    """Batches of new sequences of the chain, float32, without end."""
    while True:
        yield [_float(as_sequences(chain.sample(length, batch_size)[1]))]


def fresh_play(game: ToyGame, seed: int) -> Iterator[list[Sequences]]:
    """Batches of whole episodes of a uniform agent's new games, without end."""
    rows = cast(int, game.time_limit) + 1
    for phase in np.random.SeedSequence([seed, 0]).generate_state(2**16):
        environment = real_games(GAMES, int(phase))
        core = GenCore(environment, Uniform(game.action_space))
        with torch.no_grad():
            sequences, _, _ = core.generate(rows, core.initial_state(GAMES))
        environment.close()
        replay = Replay(core.actions, int(phase))
        replay.add(Episodes.cut(sequences, core.actions))
        for _ in range(PHASE_UPDATES):
            yield replay.sample(rows, 1_024, from_start=1.0)


def learn(
    model: WorldModel,
    objective: Objective,
    batches: Iterable[list[Sequences]],
    updates: int,
    learning_rate: float,
    title: str,
    reporter: Reporter,
) -> float:
    """Trains the model and loads its averaged weights; returns the seconds that it took."""
    begun = time.monotonic()
    rate = cosine(learning_rate, learning_rate / 20, updates)
    learner = Learner(model, objective, rate, 0.05, clip_norm=0.3, ema_decay=EMA_DECAY)
    with reporter.stage(title, updates, 0, "updates") as progress:
        learner.fit(
            batches,
            updates,
            lambda done, metrics: progress.update(done, f"loss {metrics['loss']:.4f} nats a row"),
        )
    return time.monotonic() - begun


def scores(
    model: WorldModel, task: Task, name: str, asked: tuple[tuple[str, int], ...]
) -> Iterator[Figure]:
    """The model's bounds beside the exact likelihood; a single one without latents."""
    latents = model.initial_state(1).core.latent.shape[-1]
    for bound, particles in asked if latents else (("exact", 1),):
        by_key = model_log_prob(model, task.sequences, bound if latents else "elbo", particles)
        log_prob = over_keys(by_key)
        value, _ = per_step(-log_prob, task.counted)
        gap, error = per_step(task.exact - log_prob, task.counted)
        yield Figure(
            what=task.what,
            core=name,
            length=len(task.counted),
            trained_by=None,
            bound=bound,
            particles=particles,
            exact=per_step(-task.exact, task.counted)[0],
            value=value,
            gap=gap,
            se=error,
            expected=None,
            seconds=0.0,
            updates=0,
        )


def _float(sequences: Sequences) -> Sequences:
    """Sequences in float32."""
    return nested.map(lambda x: x.float() if x.is_floating_point() else x, sequences)


def tables(figures: list[dict[str, Any]]) -> list[Table]:
    """The tables of `bench exact`, one for each gap."""

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return (
            row["core"],
            row["trained_by"] or "",
            str(row["length"]),
            row["bound"] if row["particles"] == 1 else f"{row['bound']} {row['particles']}",
            f"{row['exact']:.4f}",
            f"{row['gap']:.4f} ± {row['se']:.4f}",
            "" if row["expected"] is None else f"{row['expected']:.4f}",
        )

    return [
        table(
            f"{what}: loss, nats per row, beside the exact likelihood's",
            ("core", "trained by", "rows", "bound", "exact", "gap", "theory"),
            (cells(row) for row in figures if row["what"] == what),
        )
        for what in dict.fromkeys(row["what"] for row in figures)
    ]

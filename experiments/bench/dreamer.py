"""DreamerV3's update at its smaller sizes, made of the package's parts.

Sizes of DreamerV3 with one and with twelve million parameters (https://arxiv.org/abs/2301.04104):
an RSSM with a normalised GRU of 512 (2,048) units, layers of 64 (256) units, 32 categorical
latents of 4 (16) classes, the action alone as context; KL balancing (1 and 0.1) and one free nat;
16 windows of 64 rows; dreams of 15 steps from all of their rows; an actor and a critic that read
the generator's features (`BeliefAgent(reads="features")`), trained by the score function and
lambda returns, whose unit is their range of percentiles; two-hot regressions of rewards and
values, and a slow critic. Different from the paper: the symlog of the vector is its encoding,
without layers of its own, a density of rewards is learned besides, the optimizer is Adam, and the
critic learns in dreams alone.
"""

import copy
import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from rich.table import Table
from torch import Tensor

from worldmodel import (
    ELBO,
    RSSM,
    BeliefAgent,
    Dream,
    GenCore,
    GenState,
    ModelState,
    Objective,
    PerceptDecoder,
    PerceptEncoder,
    Percepts,
    Sequences,
    Trainer,
    WorldModel,
    action_codec,
    constant,
    decoder_for,
    encoder_for,
    nested,
)
from worldmodel.agents import ActorCritic, Policy, SlowCritic, TwoHotCritic
from worldmodel.experiments.bench.cores import (
    ACTIONS,
    DREAMS,
    OBSERVATION,
    arithmetic,
    bench_rows,
    device_memory,
    fastest,
    kernels,
    seconds,
)
from worldmodel.experiments.bench.table import rate_of, table, whole
from worldmodel.experiments.runs.processor import products
from worldmodel.gen_core import Engine
from worldmodel.graphs.engine import GraphFunction, missing_packages
from worldmodel.objectives import Metrics
from worldmodel.progress import Reporter

LENGTH, WINDOWS, HORIZON = 64, 16, 15
DISCOUNT = 0.997
SLOW = 0.98  # decay of the slow critic
UNIMIX = 0.01


class Size(NamedTuple):
    """Widths of one of DreamerV3's sizes."""

    hidden: int  # units of the GRU
    units: int  # of each layer
    latents: int
    classes: int  # of each latent


SMALLEST = "dreamerv3-1m"
SIZES = {SMALLEST: Size(512, 64, 32, 4), "dreamerv3-12m": Size(2048, 256, 32, 16)}


def dreamer_model(size: Size) -> WorldModel:
    """The world model: no feedback, so that only the latents carry information of percepts."""
    actions = action_codec(ACTIONS).size
    encoder = PerceptEncoder(encoder_for(OBSERVATION, "symlog"))
    core = RSSM(actions, encoder.size, size.hidden, size.latents, size.units, size.classes)
    decoder = PerceptDecoder(
        core.feature_size,
        size.units,
        decoder_for(OBSERVATION, size.units, "symlog-normal"),
        encoder_for(OBSERVATION, "symlog"),
        reward_support=None,
        reward_regression=True,
        separate=True,
    )
    return WorldModel(Percepts(encoder, decoder), core, actions, feedback=False)


class ExplainedELBO(Objective):
    """The ELBO; keeps the inferred states, from which dreams start."""

    def __init__(self, elbo: ELBO):
        self.elbo = elbo
        self.states: ModelState | None = None

    def initial_state(self) -> tuple[()]:
        return ()

    def __call__(self, batch: Sequences, state: Any, step: int) -> tuple[Tensor, Metrics, Any]:
        """batch [T, B, ...]."""
        inference, _ = self.elbo.model.infer(batch)
        self.states = nested.map(lambda leaf: leaf.detach().flatten(0, 1), inference.states)
        return *self.elbo.loss([batch], [inference], step), state


class Dreamer:
    """A world model, and an actor and a critic that learn in its dreams."""

    def __init__(self, size: Size | None = None) -> None:
        """size: by default the smallest."""
        size = size or SIZES[SMALLEST]
        self.model = dreamer_model(size)
        features = self.model.core.feature_size
        self.policy = Policy(features, action_codec(ACTIONS), size.units, UNIMIX)
        self.critic = SlowCritic(TwoHotCritic(features, size.units), SLOW)
        self.dream = Dream(self.model, HORIZON + 1, OBSERVATION, ACTIONS, draw_observations=False)
        agent = BeliefAgent(self.model, self.policy, reads="features")
        self.dreams = ActorCritic(
            GenCore(self.dream, agent),
            LENGTH * WINDOWS,
            HORIZON,
            self.critic,
            DISCOUNT,
            entropy=constant(3e-4),
            unit=1.0,
        )
        elbo = ELBO(self.model, constant(1.1), free_nats=1.0, kl_balance=1 / 1.1)
        self.explained = ExplainedELBO(elbo)
        self.learner = Trainer(self.explained, self.model.parameters(), 1e-4)
        learned = [*self.policy.parameters(), *self.critic.critic.parameters()]
        self.improver = Trainer(self.dreams, learned, 3e-5)

    def update(self, batch: Sequences) -> Metrics:
        """Trains the model on a batch [T, B, ...], and actor and critic on dreams that start from
        each of its rows."""
        metrics = self.learner.update(batch)
        rollout, _ = self.dreams.roll(self.start(batch))
        metrics |= self.improver.update(rollout)
        self.critic.follow()
        return metrics

    @torch.no_grad()
    def start(self, batch: Sequences) -> GenState:
        """Initial states of the dreams: T * B games, one for each row of the batch."""
        core = self.explained.states
        model = self.model.initial_state(batch.mask.numel())._replace(core=core)
        gen_core = self.dreams.gen_core
        world = self.dream.start(model, batch.rows.terminated.flatten())
        thought = self.model.core.features(core)
        return GenState(world, model, thought, gen_core.agent.policy(thought).sample())

    def engine(self) -> Engine | None:
        """onnxruntime's engine of these dreams; None where it is not installed."""
        reads = [self.model, self.policy]
        return None if missing_packages() else functools.partial(GraphFunction, reads=reads)

    def dreaming(self, batch_size: int, engine: Engine | None = None) -> Callable[[], None]:
        """A function that takes `HORIZON` steps of `batch_size` dreams, with their actor; engine:
        that computes them, by default torch."""
        gen_core = copy.copy(self.dreams.gen_core)
        if engine is not None:
            gen_core.compile(warnings.warn, engine)
        with torch.no_grad():
            _, begin = gen_core.step(gen_core.initial_state(batch_size))  # after the first rows

        @torch.no_grad()
        def dream() -> None:
            state = begin
            for _ in range(HORIZON):
                _, state = gen_core.step(state)

        return dream


def bench_dreamer(
    preset: str = SMALLEST, compiled: bool = False, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Figures of whole updates, of the world model's alone, and of dream steps with their actor.

    preset: of `SIZES`; compiled: measures the whole updates with compiled steps, too.
    """
    torch.manual_seed(0)
    dreamer, batch = Dreamer(SIZES[preset]), bench_rows(LENGTH, WINDOWS)
    reporter = reporter or Reporter()
    reporter.say("measuring whole updates, the world model's, and dreams with an actor")
    whole, kind = fastest(lambda: dreamer.update(batch))
    model, model_kind = fastest(lambda: dreamer.learner.update(batch))
    result = {
        "preset": preset,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in dreamer.model.parameters()),
        "updates_per_second": 1 / whole,
        "products": kind,
        "kernels": kernels(lambda: dreamer.update(batch)),
        "gflop": arithmetic(lambda: dreamer.update(batch)) / 1e9,
        "model_updates_per_second": 1 / model,
        "model_products": model_kind,
        "dreaming": [_dream_with_actor(dreamer, size) for size in DREAMS],
        "compiled_updates_per_second": None,
        "compiled_kernels": None,
        "memory_mib": device_memory(),
    }
    if compiled:
        reporter.say("compiling, and measuring whole updates again")
        dreamer.model.core.compile_steps()
        with products(kind):  # each kind would be compiled on its own
            taken = seconds(lambda: dreamer.update(batch))
            result["compiled_kernels"] = kernels(lambda: dreamer.update(batch))
        result["compiled_updates_per_second"] = 1 / taken
    return result


def _dream_with_actor(dreamer: Dreamer, batch_size: int) -> dict[str, Any]:
    taken, kind = fastest(dreamer.dreaming(batch_size))
    engine = dreamer.engine()
    by_graph = engine and seconds(dreamer.dreaming(batch_size, engine))
    return {
        "batch": batch_size,
        "products": kind,
        "steps_per_second": HORIZON * batch_size / taken,
        "onnxruntime_steps_per_second": by_graph and HORIZON * batch_size / by_graph,
        "microseconds_per_step": 1e6 * taken / HORIZON,
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """The tables of `bench cores --preset NAME`."""
    figures = (
        ("parameters of the world model", f"{result['parameters']:,}"),
        ("whole updates a second", f"{result['updates_per_second']:.2f}"),
        ("the same, compiled", rate_of(result["compiled_updates_per_second"])),
        ("kernels a whole update", whole(result["kernels"])),
        ("the same, compiled", whole(result["compiled_kernels"])),
        ("updates of the world model a second", f"{result['model_updates_per_second']:.2f}"),
        ("GFLOP a whole update", f"{result['gflop']:.1f}"),
        ("matrix products", result["products"]),
        ("MiB of a GPU's memory at most", whole(result["memory_mib"])),
    )
    dreaming = (
        (
            str(row["batch"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['microseconds_per_step']:.0f}",
            whole(row["onnxruntime_steps_per_second"]),
        )
        for row in result["dreaming"]
    )
    return [
        table(result["preset"], ("", ""), figures),
        table(
            "dreams with their actor",
            ("dreams", "steps/s", "us a step", "by onnxruntime"),
            dreaming,
        ),
    ]

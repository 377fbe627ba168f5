"""Fixtures of laws: small models, rows drawn at random, noise fed by hand."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodel import nested
from worldmodel.codecs import (
    ObservationDecoder,
    PerceptDecoder,
    PerceptEncoder,
    decoder_for,
    encoder_for,
)
from worldmodel.cores import Gaussian, SequenceCore, base
from worldmodel.model import ModelState, WorldModel, context_size
from worldmodel.percepts import Percepts
from worldmodel.sequences import Row, Sequences

SYMBOLS = spaces.Discrete(3, start=1)
BITS = spaces.Discrete(2)
PLANE = spaces.Box(-10, 10, (2,))
REWARDS = (-1.0, 0.0, 2.0)

Module = TypeVar("Module", bound=nn.Module)


def excite(module: Module) -> Module:
    """Adds noise to all parameters, so that no bias hides behind a zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # drawn aside, so that all models but for that are what they were
            with torch.random.fork_rng(devices=[], enabled=name == "after"):
                parameter.add_(0.4 * torch.randn_like(parameter))
    return module


def model_around(
    make: Any,
    feedback: bool = True,
    history: int = 1,
    observations: spaces.Space = SYMBOLS,
    rewards: Sequence[float] | None = REWARDS,
    silent: bool = False,
    actions: int = 2,
    seed: int = 0,
    regression: bool = False,
) -> WorldModel:
    """A small world model, float64, around the core of make(context_size, evidence_size).

    rewards None: a density; silent: neither rewards nor ends; regression: of rewards, beside
    their likelihood.
    """
    torch.manual_seed(seed)
    encoder = PerceptEncoder(encoder_for(observations), rewards=not silent)
    core = make(context_size(actions, encoder.size, feedback, history), encoder.size)
    head = decoder_for(observations, 4)
    decoder: Any
    if silent:
        decoder = ObservationDecoder(core.feature_size, 4, head)
    else:
        decoder = PerceptDecoder(
            core.feature_size,
            4,
            head,
            encoder_for(observations),
            rewards,
            reward_regression=regression,
        )
    for module in (encoder, core, decoder):
        excite(module.double())
    parts = Percepts(encoder, decoder), core, actions, feedback, history
    model = WorldModel(*parts, learns_before=feedback).double()
    if model.before is not None:
        nn.init.normal_(model.before, std=0.3)
    return model


def random_rows(
    time: int,
    batch: int,
    observations: spaces.Space = SYMBOLS,
    actions: int = 2,
    rewards: Sequence[float] | None = REWARDS,
    seed: int = 0,
) -> Row:
    """Rows [T, B, ...] of one episode each, drawn without regard to any model."""
    torch.manual_seed(seed)
    first = torch.zeros(time, batch, dtype=torch.bool)
    first[0] = True
    if isinstance(observations, spaces.Discrete):
        start = int(observations.start)
        observation = torch.randint(start, start + int(observations.n), (time, batch))
    else:
        observation = torch.randn(time, batch, *(observations.shape or ())).double()
    action = F.one_hot(torch.randint(actions, (time, batch)), actions).double()
    if rewards is None:
        reward = torch.randn(time, batch).double()
    else:
        reward = torch.tensor(rewards).double()[torch.randint(len(rewards), (time, batch))]
    return Row(
        first,
        action.masked_fill(first[..., None], 0.0),
        observation,
        reward.masked_fill(first, 0.0),
        (torch.rand(time, batch) < 0.3) & ~first,
    )


def padded(rows: Row, lengths: Sequence[int]) -> Sequences:
    """Sequences of which only the first `lengths` [B] rows are valid, all of those scored."""
    mask = torch.arange(len(rows.first))[:, None] < torch.tensor(lengths)
    return Sequences(rows, mask, mask)


def columns(tree: Any, chosen: Any) -> Any:
    """Columns of a structure [T, B, ...]."""
    return nested.index(tree, (slice(None), chosen))


ILLEGAL: Mapping[str, Any] = {
    "first": lambda x: ~x,
    "action": lambda x: torch.full_like(x, torch.nan),
    "observation": lambda x: torch.full_like(x, 99 if x.dtype == torch.int64 else torch.inf),
    "reward": lambda x: torch.full_like(x, torch.nan),
    "terminated": lambda x: ~x,
}


def spoil(rows: Row, where: Tensor, keys: Iterable[str] = tuple(ILLEGAL)) -> Row:
    """Illegal values of the given keys `where` [T, B]."""
    changed = {
        key: nested.where(where, ILLEGAL[key](getattr(rows, key)), getattr(rows, key))
        for key in keys
    }
    return rows._replace(**changed)


def noise_size(core: SequenceCore) -> int:
    """Normal numbers a core draws a row: one for each Gaussian or categorical of its latent."""
    sizes: list[int] = []

    def draw(like: Tensor) -> Tensor:
        sizes.append(like.shape[-1])
        return torch.zeros_like(like)

    state = core.initial_state(1)
    like = nested.leaves(state)[0]
    with torch.no_grad(), mock.patch.object(base, "standard_normal", draw):
        core.step(like.new_zeros(1, core.context_size), state)
    return sizes[0] if sizes else 0


def noise_for(
    model: WorldModel | SequenceCore, time: int, batch: int, particles: int = 1, seed: int = 0
) -> Tensor:
    """Noise for the latents of a model or a core, [T, K * B, Z]."""
    core = model.core if isinstance(model, WorldModel) else model
    generator = torch.Generator().manual_seed(seed)
    shape = (time, particles * batch, noise_size(core))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@contextmanager
def fed(noise: Iterable[Tensor]) -> Iterator[None]:
    """Latents are drawn with this noise, one tensor a row."""
    queue = iter(noise)

    def draw(like: Tensor) -> Tensor:
        value = next(queue, None)
        if value is None:
            raise AssertionError("a core draws once a row, but here it draws more often")
        if value.shape != like.shape:
            raise AssertionError(
                f"a core draws as much at every row: first {tuple(value.shape)} numbers, now "
                f"{tuple(like.shape)}"
            )
        return value

    with mock.patch.object(base, "standard_normal", draw):
        yield


def core_states(inference: Any) -> Any:
    """The core's states of what `WorldModel.infer` found, [T, K * B, ...]."""
    states = inference.states
    return states.core if isinstance(states, ModelState) else states


def sum_of(parts: Mapping[str, Tensor]) -> Tensor:
    """The sum over keys."""
    return torch.stack(list(parts.values())).sum(0)


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradients of all parameters, by name; zeros where there is none."""
    model.zero_grad()
    loss.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in model.named_parameters()
    }


class Blind(SequenceCore):
    """A core whose posterior is its prior: inference ignores the evidence."""

    def __init__(self, core: SequenceCore):
        super().__init__()
        self.core = core
        for size in ("context_size", "evidence_size", "feature_size", "belief_size", "filtering"):
            setattr(self, size, getattr(core, size))

    def initial_state(self, batch_size: int) -> Any:
        return self.core.initial_state(batch_size)

    def step(self, context: Tensor, state: Any) -> Any:
        return self.core.step(context, state)

    def prepare(self, contexts: Tensor, evidence: Tensor, mask: Tensor, state: Any) -> Any:
        return self.core.prepare(contexts, evidence, mask, state)

    def posterior_step(self, prepared: Any, state: Any) -> tuple[Any, Any, Any]:
        with fed(0 * noise_for(self.core, 1, len(state.latent))):
            posterior, prior, after = self.core.posterior_step(prepared, state)
        if not state.latent.shape[-1]:
            return prior, prior, after
        latent = prior.draw()
        if not isinstance(posterior, Gaussian):
            return prior, prior, after._replace(latent=latent)
        with fed([(latent - posterior.mean) / posterior.std]):  # with which it draws that latent
            return prior, prior, self.core.posterior_step(prepared, state)[2]

    def features(self, state: Any) -> Tensor:
        return self.core.features(state)

    def belief(self, state: Any) -> Tensor:
        return self.core.belief(state)

    def latent_distribution(self, parameters: Any) -> torch.distributions.Distribution:
        return self.core.latent_distribution(parameters)

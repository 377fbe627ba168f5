"""Every core that the laws run over, world models around them, and noise fed by hand."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from gymnasium import spaces
from torch import Tensor

from worldmodel import (
    RNN,
    RSSM,
    SRNN,
    VAE,
    VRNN,
    Independent,
    ObservationDecoder,
    PerceptDecoder,
    PerceptEncoder,
    Row,
    SequenceCore,
    Sequences,
    WorldModel,
    context_size,
    decoder_for,
    encoder_for,
)
from worldmodel.cores import base


def _srnn(context_size: int, evidence_size: int, **options: Any) -> SRNN:
    """With latents that are heard from the start, so that laws about them can fail."""
    core = SRNN(context_size, evidence_size, hidden=4, latent=2, latent_hidden=3, **options)
    with torch.no_grad():
        core.gain.fill_(1.0)
        core.from_latent.reset_parameters()
        core.out.normal_(std=3**-0.5)
    return core


SMALL = {"hidden": 4, "latent": 2, "latent_hidden": 3}
CORES: dict[str, Callable[..., SequenceCore]] = {
    "rnn": partial(RNN, hidden=4),
    "srnn smoothing res_q": _srnn,
    "srnn smoothing": partial(_srnn, res_q=False),
    "srnn filtering res_q": partial(_srnn, smoothing=False),
    "srnn filtering": partial(_srnn, smoothing=False, res_q=False),
    "independent smoothing": partial(Independent, **SMALL),
    "independent filtering": partial(Independent, smoothing=False, **SMALL),
    "vrnn": partial(VRNN, **SMALL),
    "rnn lstm": partial(RNN, hidden=4, recurrence="lstm"),
    "rnn skip layers": partial(RNN, hidden=4, recurrence="skip-gru", layers=2),
    "srnn skip": partial(_srnn, smoothing=False, recurrence="skip-gru"),
    "rnn layers": partial(RNN, hidden=4, recurrence="lstm", layers=2),
    "srnn lstm": partial(_srnn, smoothing=False, res_q=False, recurrence="lstm"),
    "independent normalised": partial(
        Independent, recurrence="normalised-gru", smoothing=False, **SMALL
    ),
    "vrnn lstm": partial(VRNN, recurrence="lstm", **SMALL),
    "vrnn skip": partial(VRNN, recurrence="skip-gru", **SMALL),
    "rssm gru layers": partial(RSSM, recurrence="gru", layers=2, **SMALL),
    "rssm gaussian": partial(RSSM, **SMALL),
    "rssm categorical": partial(RSSM, latent_classes=3, **SMALL),
    "vae": partial(VAE, hidden=4, latent=2),
}
FILTERING = [name for name in CORES if "smoothing" not in name]
SMOOTHING = [name for name in CORES if "smoothing" in name]
DEAF = {"vae"}  # hear no contexts, and remember nothing
LATENT = [name for name in CORES if not name.startswith("rnn")]

SYMBOLS = spaces.Discrete(3, start=1)
BITS = spaces.Discrete(2)
PLANE = spaces.Box(-10, 10, (2,))
REWARDS = (-1.0, 0.0, 2.0)


def make_core(name: str, context_size: int = 3, evidence_size: int = 2, seed: int = 0):
    """The core `name`, small, in float64, none of its parameters zero."""
    torch.manual_seed(seed)
    return excite(CORES[name](context_size, evidence_size).double())


def make_model(
    name: str,
    feedback: bool = True,
    history: int = 1,
    observations: spaces.Space = SYMBOLS,
    rewards: Sequence[float] | None = REWARDS,
    silent: bool = False,
    actions: int = 2,
    seed: int = 0,
    regression: bool = False,
) -> WorldModel:
    """A world model around the core `name`; rewards None: a density; silent: neither rewards
    nor ends; regression: of rewards, beside their likelihood."""
    torch.manual_seed(seed)
    encoder = PerceptEncoder(encoder_for(observations), rewards=not silent)
    core = CORES[name](context_size(actions, encoder.size, feedback, history), encoder.size)
    head = decoder_for(observations, 4)
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
    return excite(WorldModel(encoder, core, decoder, actions, feedback, history).double())


def excite(module):
    """Adds noise to all parameters, so that no bias hides behind a zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return module


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
        observation = torch.randn(time, batch, *observations.shape).double()
    action = torch.nn.functional.one_hot(torch.randint(actions, (time, batch)), actions).double()
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


def noise_for(model, time: int, batch: int, particles: int = 1, seed: int = 0) -> Tensor:
    """Noise for the latents of a model or a core, [T, K * B, Z]."""
    core = getattr(model, "core", model)
    size = core.initial_state(1).latent.shape[-1]
    classes = getattr(getattr(core, "core", core), "latent_classes", 0)
    size //= classes or 1  # one number for each categorical
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(time, particles * batch, size, generator=generator, dtype=torch.float64)


@contextmanager
def fed(noise: Iterable[Tensor]) -> Iterator[None]:
    """Latents are drawn with this noise, one tensor a row."""
    queue = iter(noise)

    def draw(like: Tensor) -> Tensor:
        value = next(queue)
        assert value.shape == like.shape, f"noise {tuple(value.shape)} for {tuple(like.shape)}"
        return value

    with mock.patch.object(base, "standard_normal", draw):
        yield

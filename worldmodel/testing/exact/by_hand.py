"""Cores with weights set by hand to a linear-Gaussian chain, by the package's own classes.

The networks are made linear where they are nearly so, or exactly:

    tanh(x s) / s = x + O(s^2)          units of a GRU, the SRNN's hidden layers
    silu(x) - silu(-x) = x              pairs of units
    layer norm of x s = x s / epsilon^1/2 + O(s^3)      if its units add up to zero, as pairs do
    sigmoid(40) = 1, tanh(40) = 1       in float64: gates that are open, units that are constant

A GRU of which every unit is written anew at each row is then a linear recurrence. Two of its
units mark the first row, whose latent has another variance: `one` is 1 from the first row on,
`later` from the second on.
"""

from collections.abc import Callable
from typing import cast

import torch
from gymnasium import spaces
from torch import Tensor, nn

from worldmodel.codecs import ObservationDecoder, PerceptEncoder, decoder_for, encoder_for
from worldmodel.codecs.heads import NormalHead
from worldmodel.codecs.heads.gaussian import MINIMUM_STD as MINIMUM_OBSERVATION_STD
from worldmodel.cores import RNN, RSSM, SRNN, VRNN, Independent, make_core
from worldmodel.cores.base import MINIMUM_STD
from worldmodel.model import WorldModel, context_size
from worldmodel.percepts import Percepts
from worldmodel.recurrences import GRU, NormalisedGRU
from worldmodel.registry import Registry
from worldmodel.testing.exact.linear_gaussian import (
    Chain,
    ChainPosterior,
    Filter,
    NoisePosterior,
)

SMALL = 1e-5  # s of tanh: its error s^2 and the rounding 1e-16 / s are alike
TINY = 1e-8  # s of layer norms
SATURATED = 40.0


def chain_model(chain: Chain, core: str, hidden: int, **options: int | bool) -> WorldModel:
    """A world model of a chain's observations, float32, as it is before training."""
    space = spaces.Box(-float("inf"), float("inf"), (len(chain.observation_noise),))
    encoder = PerceptEncoder(encoder_for(space), rewards=False)
    contexts = context_size(0, encoder.size, feedback=True, history=1)
    sequence_core = make_core(core, contexts, encoder.size, hidden=hidden, **options)
    head = decoder_for(space, hidden)
    decoder = ObservationDecoder(sequence_core.feature_size, hidden, head)
    return WorldModel(Percepts(encoder, decoder), sequence_core, action_size=0)


@torch.no_grad()
def model_by_hand(chain: Chain, core: str, smoothing: bool | None = None) -> WorldModel:
    """The chain itself as a world model, float64.

    smoothing: whether the posterior reads the rows to come (srnn and independent only).
    """
    set_core, size = BY_HAND[core], len(chain.start)
    options: dict[str, int | bool] = {} if core == "rnn" else {"latent": size}
    if core != "rnn":
        options["latent_hidden"] = 2 * size + 4
    if smoothing is not None:
        options["smoothing"] = smoothing
    model = chain_model(chain, core, hidden=2 * size + 4, **options).double()
    for parameter in model.parameters():
        parameter.zero_()
    to_mean, variance = set_core(model.core, chain)
    set_decoder(cast(ObservationDecoder, model.percepts.decoder), to_mean, variance)
    return model


def expected_gap(chain: Chain, core: str, smoothing: bool | None, length: int) -> float:
    """The expected gap between likelihood and ELBO of `model_by_hand`, nats for `length` rows."""
    if core == "rnn":
        return 0.0
    kind = NoisePosterior if core == "independent" else ChainPosterior
    return kind.of(chain, bool(smoothing)).gap(chain, length)


# The cores. Each gives its features' way to the observation's mean [n, F], and the variances [n].


def _set_rnn(core: RNN, chain: Chain) -> tuple[Tensor, Tensor]:
    """d: the Kalman filter's prediction."""
    _set_filter(cast(GRU, core.recurrence), chain)
    to_mean = _columns(core.feature_size, (0, chain.emission / SMALL))
    return to_mean, Filter.of(chain).spread


def _set_vrnn(core: VRNN, chain: Chain) -> tuple[Tensor, Tensor]:
    """h: A z_{t-1}, and what row it is."""
    hidden = core.recurrence.output_size
    _set_gru(cast(GRU, core.recurrence), torch.zeros(0, core.context_size))
    _put(core.latent_projection.weight, 2 * hidden, 0, SMALL * chain.transition)
    _set_heads(core, chain)
    return _columns(core.feature_size, (hidden, chain.emission)), chain.observation_noise


def _set_rssm(core: RSSM, chain: Chain) -> tuple[Tensor, Tensor]:
    """h: as the VRNN's, through layer norms."""
    hidden = core.recurrence.output_size
    _set_pairs(core.input_latent, TINY * _eye(core.latent_size))
    _set_norm(core.input_norm)
    recurrence = cast(NormalisedGRU, core.recurrence)
    _set_normalised_gru(recurrence, core.context_size, SMALL * chain.transition)
    _set_heads(core, chain)
    return _columns(core.feature_size, (hidden, chain.emission)), chain.observation_noise


def _set_heads(core: VRNN | RSSM, chain: Chain) -> None:
    """Sets the prior and posterior given h and the observation."""
    hidden = core.recurrence.output_size
    _set_mlp(core.prior, *_prior(chain, hidden))
    on_hidden, on_evidence, bias = _posterior(chain, hidden)
    _set_pairs(core.posterior_hidden, on_hidden)
    _set_pairs(core.posterior_evidence, on_evidence)
    _set_from_pairs(core.posterior_out, _means(core.latent_size), bias)


def _set_srnn(core: SRNN, chain: Chain) -> tuple[Tensor, Tensor]:
    """d: what row it is; a: the message of the rows from t on."""
    size, units, hidden = core.latent_size, core.latent_hidden, core.recurrence.output_size
    posterior = ChainPosterior.of(chain, smoothing=not core.filtering)
    reading = posterior.reading
    _set_gru(cast(GRU, core.recurrence), torch.zeros(0, core.context_size))
    inputs = hidden + core.evidence_size
    from_evidence = _columns(inputs, (hidden, reading.information))
    if core.filtering:
        _set_mlp(cast(nn.Sequential, core.reading), from_evidence, SMALL * _eye(units, size))
    else:
        _set_gru(cast(GRU, core.reading), SMALL * from_evidence, reading.backward)
    _put(core.prior_projection.weight, size, hidden - 1, torch.tensor([[SATURATED]]))
    _put(core.posterior_projection.weight, 0, 0, posterior.weight)
    _put(core.from_latent.weight, 0, 0, SMALL * _eye(size))
    start_from = chain.transition if core.res_q else torch.zeros_like(chain.transition)
    _put(core.from_latent.weight, units, 0, SMALL * (posterior.carry - start_from))
    _put(core.out[0], 0, 0, chain.transition.T / SMALL)
    _put(core.out[0], size, size, (_raw(chain.noise) - _raw(chain.start))[None])
    _put(core.out[1], 0, 0, _eye(size) / SMALL)
    core.out_bias[0, 0, size:] = _raw(chain.start)
    core.out_bias[1, 0, size:] = _raw(posterior.variance)
    core.gain.fill_(1.0)
    to_mean = _columns(core.feature_size, (hidden, chain.emission))
    return to_mean, chain.observation_noise


def _set_independent(core: Independent, chain: Chain) -> tuple[Tensor, Tensor]:
    """d: the part of z that comes from all noises as if their size were Q^1/2, and, `extra`, what
    the first row's lacks of P^1/2, which `tanh` hides later on; f: the filter's prediction."""
    size, hidden = core.latent_size, core.feature_size
    one, later = hidden - 2, hidden - 1
    scale = chain.noise.sqrt().diag()
    extra = chain.start.sqrt().diag() - scale
    from_input = _columns(core.context_size + size, (core.context_size, torch.cat([scale, extra])))
    from_hidden = torch.zeros(2 * size, hidden, dtype=torch.float64)
    _put(from_hidden, 0, 0, chain.transition.repeat(1, 2))
    from_hidden[:size, later] = -chain.transition.sum(1)
    from_hidden[size:, one] = SATURATED  # from the second row on, `extra` is 1, and so is `later`
    _set_gru(cast(GRU, core.recurrence), SMALL * from_input, from_hidden)
    _set_filter(core.forward_reading, chain)
    _set_noise_posterior(core, NoisePosterior.of(chain, smoothing=not core.filtering))
    to_mean = _columns(hidden, (0, chain.emission.repeat(1, 2) / SMALL))
    to_mean[:, later] = -chain.emission.sum(1) / SMALL
    return to_mean, chain.observation_noise


def _set_noise_posterior(core: Independent, posterior: NoisePosterior) -> None:
    size, units, reading = core.latent_size, core.latent_hidden, posterior.reading
    to_mean = [(0, posterior.from_filter / SMALL)]
    if core.filtering:
        to_mean.append((units, posterior.from_message @ reading.information))
    else:
        inputs = core.context_size + core.evidence_size
        from_evidence = _columns(inputs, (core.context_size, reading.information))
        _set_gru(core.backward_reading, SMALL * from_evidence, reading.backward)
        to_mean.append((units + core.evidence_size, posterior.from_message / SMALL))
    inputs = cast(nn.Linear, core.posterior[0]).in_features
    _set_mlp(core.posterior, _columns(inputs, *to_mean), _means(size), _biases(posterior.variance))


def _set_filter(recurrence: GRU, chain: Chain) -> None:
    """The Kalman filter's prediction (times SMALL) from the observation before."""
    steady = Filter.of(chain)
    _set_gru(recurrence, SMALL * steady.gain, steady.carry)


def _prior(chain: Chain, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    """p(z_t | h_t), h holding A z_{t-1}: a layer's inputs [Z + 1, H], outputs [2 Z, Z + 1] and
    their bias [2 Z]."""
    size = len(chain.start)
    inputs = torch.zeros(size + 1, hidden, dtype=torch.float64)
    _put(inputs, 0, 0, _eye(size) / SMALL)
    inputs[size, -1] = 1.0
    outputs = torch.zeros(2 * size, size + 1, dtype=torch.float64)
    _put(outputs, 0, 0, _eye(size))
    outputs[size:, size] = _raw(chain.noise) - _raw(chain.start)
    return inputs, outputs, _biases(chain.start)


def _posterior(chain: Chain, hidden: int) -> tuple[Tensor, Tensor, Tensor]:
    """q(z_t | h_t, x_t): the mean's parts [Z, H] and [Z, n], and the bias [2 Z]."""
    posterior = ChainPosterior.of(chain, smoothing=False)
    on_hidden = _columns(hidden, (0, posterior.weight / chain.noise / SMALL))
    on_evidence = posterior.weight @ posterior.reading.information
    return on_hidden, on_evidence, _biases(posterior.variance)


BY_HAND: Registry[Callable[..., tuple[Tensor, Tensor]]] = Registry(
    "core with weights by hand",
    {
        "rnn": _set_rnn,
        "independent": _set_independent,
        "vrnn": _set_vrnn,
        "srnn": _set_srnn,
        "rssm": _set_rssm,
    },
)


def set_decoder(decoder: ObservationDecoder, to_mean: Tensor, variance: Tensor) -> None:
    """A decoder that gives Gaussians around to_mean [n, F] times the features, variances [n]."""
    head = cast(NormalHead, decoder.observation)
    _set_pairs(decoder.body, to_mean)
    biases = _biases(variance, MINIMUM_OBSERVATION_STD)
    _set_from_pairs(head.parameters_, _means(len(variance)), biases)


# Layers.


def _set_gru(recurrence: GRU, from_input: Tensor, from_hidden: Tensor | None = None) -> None:
    """h_t = tanh(from_input u_t + from_hidden h_{t-1}), [N, I] and [N, N or H], in the first N
    units; the last two are `one` and `later`."""
    size = recurrence.output_size
    recurrence.input_bias[:size] = SATURATED  # reset gates open: the state is read
    recurrence.input_bias[size : 2 * size] = -SATURATED  # and written anew
    recurrence.input_bias[3 * size - 2] = SATURATED
    recurrence.from_hidden[3 * size - 1, size - 2] = SATURATED
    _put(recurrence.from_input, 2 * size, 0, from_input)
    if from_hidden is not None:
        _put(recurrence.from_hidden, 2 * size, 0, from_hidden)


def _set_normalised_gru(cell: NormalisedGRU, begin: int, from_input: Tensor) -> None:
    """h_t = tanh(from_input u_t) of inputs that are pairs, from number `begin` on, and `one` and
    `later` as above."""
    size = cell.norm.normalized_shape[0] // 3
    inputs = cell.gates.in_features - size
    _put(cell.gates.weight, size, begin, TINY * torch.cat([from_input, -from_input], 1))
    cell.gates.weight[2 * size - 1, inputs + size - 2] = TINY * SATURATED
    cell.gates.weight[:size] = -cell.gates.weight[size : 2 * size]  # units that add up to zero
    _set_norm(cell.norm)
    cell.norm.weight[:size] = 0.0
    cell.norm.bias[:size] = SATURATED
    cell.norm.bias[2 * size - 2] = SATURATED
    cell.norm.bias[2 * size :] = SATURATED


def _set_norm(norm: nn.LayerNorm) -> None:
    """The identity, of values of the order of TINY that add up to zero, divided by TINY."""
    norm.weight.fill_(norm.eps**0.5 / TINY)


def _set_mlp(
    layers: nn.Sequential, inputs: Tensor, outputs: Tensor, bias: Tensor | None = None
) -> None:
    """outputs inputs x + bias: [K, I], [O, K], [O]."""
    norms = [layer for layer in layers if isinstance(layer, nn.LayerNorm)]
    for norm in norms:
        _set_norm(norm)
    _set_pairs(cast(nn.Linear, layers[0]), inputs * (TINY if norms else 1.0))
    _set_from_pairs(cast(nn.Linear, layers[-1]), outputs, bias)


def _set_pairs(layer: nn.Linear, inputs: Tensor) -> None:
    """Units that come to x and -x."""
    _put(layer.weight, 0, 0, torch.cat([inputs, -inputs]))


def _set_from_pairs(layer: nn.Linear, outputs: Tensor, bias: Tensor | None) -> None:
    """Reads silu(x) - silu(-x)."""
    _put(layer.weight, 0, 0, torch.cat([outputs, -outputs], 1))
    if bias is not None:
        layer.bias.copy_(bias)


def _put(weight: Tensor, row: int, column: int, block: Tensor) -> None:
    weight[row : row + block.shape[0], column : column + block.shape[1]] = block


def _columns(size: int, *blocks: tuple[int, Tensor]) -> Tensor:
    """A matrix of `size` columns, zero but for blocks that begin at given ones."""
    whole = torch.zeros(len(blocks[0][1]), size, dtype=torch.float64)
    for begin, block in blocks:
        _put(whole, 0, begin, block)
    return whole


def _means(size: int) -> Tensor:
    """The means' rows of a Gaussian's raw parameters [2 Z], from as many numbers [2 Z, Z]."""
    return _eye(2 * size, size)


def _eye(rows: int, columns: int | None = None) -> Tensor:
    return torch.eye(rows, columns or rows, dtype=torch.float64)


def _biases(variance: Tensor, minimum: float = MINIMUM_STD) -> Tensor:
    """Raw parameters [2 Z] of a Gaussian with mean 0 and the given variances [Z]."""
    return torch.cat([torch.zeros_like(variance), _raw(variance, minimum)])


def _raw(variance: Tensor, minimum: float = MINIMUM_STD) -> Tensor:
    """The raw number whose softplus plus `minimum` is the standard deviation."""
    return torch.log(torch.expm1(variance.sqrt() - minimum))

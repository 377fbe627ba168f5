"""Time series: what is missing changes nothing, what is known ahead is never predicted, and the
figures of forecasts are those of closed forms."""

import csv
import json
import math
import re

import numpy as np
import polars
import pytest
import torch
from scipy import stats
from torch import nn

from worldmodel import (
    SequenceCore,
    SequenceModel,
    Series,
    SeriesConfig,
    WorldModel,
    action_codec,
    log_prob,
    nested,
)
from worldmodel.codecs import PerceptEncoder, Prediction
from worldmodel.codecs.percepts import PerceptModule
from worldmodel.codecs.prediction import nothing
from worldmodel.cores import Gaussian, Inference
from worldmodel.cores.rnn import RNNPrepared, RNNState
from worldmodel.distributions import MISSING, PRESENT, READ, Channels, Counts
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.data.readers.tables import read_table
from worldmodel.experiments.measure.forecasts import (
    Autoregression,
    SeasonalNaive,
    covered,
    crps,
)
from worldmodel.experiments.recordings.config import SeriesDataConfig
from worldmodel.experiments.recordings.model import sequence_model
from worldmodel.experiments.recordings.series import SeriesFiles, part_of
from worldmodel.percepts import Percepts
from worldmodel.sequence_model.autoregression import filled, lagged, ridge
from worldmodel.sequence_model.config import SequenceModelConfig
from worldmodel.sequence_model.forecasting import complete, rows_of, value_nats, values_nats
from worldmodel.sequence_model.modality import as_episodes
from worldmodel.sequence_model.series_columns import Channel, Description, has_tails
from worldmodel.sequence_model.tables import TableError
from worldmodel.sequence_model.training import model_of
from worldmodel.testing.exact import Chain
from worldmodel.testing.exact.linear_gaussian import recursion

SMALL = {"hidden_size": 4, "decoder_hidden": 4, "history": 3, "window": 16, "batch_size": 4}


def table(rows=60, seed=0):
    """A table of every kind of column, some values missing."""
    random = np.random.default_rng(seed)
    level = 100 + np.cumsum(random.normal(size=rows))
    columns = {
        "day": np.datetime64("2024-01-01") + np.arange(rows),
        "level": level,
        "rain": np.where(random.random(rows) < 0.5, 0.0, random.gamma(2.0, size=rows)),
        "sales": random.poisson(4.0, rows).astype(float),
        "sky": np.array(["sun", "rain", "fog"], object)[random.integers(0, 3, rows)],
        "price": random.normal(size=rows),
    }
    for name in ("level", "rain", "sales"):
        columns[name][random.random(rows) < 0.25] = np.nan
    columns["sky"][random.random(rows) < 0.25] = None
    return columns


COLUMNS = SeriesConfig(time="day", known=("price",))


@pytest.fixture(scope="module")
def mixed():
    """The modality of such a table, and a model of it, in float64."""
    modality = Series.of(table(), COLUMNS)
    torch.manual_seed(0)
    config = SequenceModelConfig(hidden_size=4, decoder_hidden=4, history=2)
    return modality, model_of(modality, config).double().eval()


@pytest.fixture(scope="module")
def fitted():
    """A model that has learned the table, a little."""
    model = SequenceModel(seed=0, series=vars(COLUMNS), **SMALL)
    return model.fit(polars.DataFrame(table()), updates=3)


# The likelihood.


class KalmanCore(SequenceCore):
    """The Kalman filter of a chain of one latent as a core: its features are the mean and the
    variance of the next value, given all values that are there."""

    filtering = True
    evidence_size = context_size = 2
    feature_size = belief_size = 2

    def __init__(self, chain):
        super().__init__()
        self.chain = chain
        self.like = nn.Parameter(torch.zeros(1).double())

    def initial_state(self, batch_size):
        zero = self.like.new_zeros(batch_size, 1)
        start = self.chain.start.expand(batch_size, 1)
        return RNNState(torch.cat([zero, start, zero], -1), zero[:, :0])

    def step(self, context, state):
        (value, there), (mean, variance, begun) = context.T, state.hidden.T
        a, c = self.chain.transition[0, 0], self.chain.emission[0, 0]
        gain = there * variance * c / (c**2 * variance + self.chain.observation_noise)
        mean, after = mean + gain * (value - c * mean), variance * (1 - gain * c)
        later = [a * mean, a**2 * after + self.chain.noise]
        mean, variance = torch.where(begun > 0, torch.stack(later), torch.stack([mean, variance]))
        return RNNState(torch.stack([mean, variance, begun + 1], -1), state.latent)

    def prepare(self, contexts, evidence, mask, state):
        states = nested.unroll(lambda c, s: (self.step(c, s),) * 2, contexts.unbind(0), state)[0]
        return RNNPrepared(states.hidden)

    def posterior_step(self, prepared, state):
        none = Gaussian(state.latent, state.latent)
        return none, none, RNNState(prepared.hidden, state.latent)

    def posterior_all(self, prepared, state, particles):
        hidden = prepared.hidden.repeat(1, particles, 1)
        states = RNNState(hidden, hidden[..., :0])
        none = Gaussian(states.latent, states.latent)
        return Inference(states, none, none)

    def features(self, state):
        c = self.chain.emission[0, 0]
        mean, variance = state.hidden[..., 0], state.hidden[..., 1]
        return torch.stack([c * mean, c**2 * variance + self.chain.observation_noise], -1)

    def belief(self, state):
        return self.features(state)


class KalmanHead(PerceptModule):
    """The density of one channel by its mean and variance."""

    placeholder = {  # noqa: RUF012
        "observation": {"value": torch.zeros(1), "state": torch.zeros(1, dtype=torch.uint8)}
    }

    def forward(self, features):
        normal = torch.distributions.Normal(features[..., :1], features[..., 1:].sqrt())
        place = torch.tensor([0])
        channels = Channels([normal], [place], place)
        return Prediction(lambda: channels, nothing, features.shape[:-1])


@pytest.fixture(scope="module")
def chain():
    """A chain of one latent, the modality of its values, the model that is its Kalman filter, and
    values of it, a third of them missing."""
    torch.manual_seed(3)
    law = Chain.random(1)
    modality = Series(Description((Channel("0", "number"),), form="vector"))
    encoder = PerceptEncoder(modality.encoder(), rewards=False)
    model = WorldModel(Percepts(encoder, KalmanHead()), KalmanCore(law), 0).double()
    _, values = law.sample(9, 4)
    values = values.float().double()  # as rows hold them
    values[torch.rand(values.shape) < 1 / 3] = torch.nan
    return law, modality, model, values


def test_the_kalman_filter_skips_what_is_missing(chain):
    """Beside the marginal of one large Gaussian; two channels are correlated where one lacks."""
    torch.manual_seed(0)
    law = Chain.random(2)
    _, values = law.sample(6, 3)
    values[torch.rand(values.shape) < 1 / 3] = torch.nan
    found, single = law.value_log_prob(values)
    emission = torch.block_diag(*[law.emission] * 6)
    whole = (
        emission @ law.latent_covariance(6) @ emission.T + law.observation_noise.repeat(6).diag()
    )
    for column in range(3):
        flat = values[:, column].flatten()
        there = ~flat.isnan()
        marginal = stats.multivariate_normal(cov=whole[there][:, there].numpy())
        expected = marginal.logpdf(flat[there].numpy())
        assert found[:, column].sum().item() == pytest.approx(expected, abs=1e-9)
    assert torch.equal(single.isnan(), values.isnan())
    everything = law.sample(6, 3)[1]
    torch.testing.assert_close(law.value_log_prob(everything)[0], law.log_prob(everything))


def test_the_likelihood_of_a_linear_gaussian_series_is_that_of_its_kalman_filter(chain):
    """Through encoding, contexts, windows and the sum over what is there."""
    law, modality, model, values = chain
    series = [values[:, column].numpy() for column in range(4)]
    episodes = as_episodes(modality, [modality.encode(each) for each in series])
    sequences = episodes.sequences(action_codec(modality.action_space))
    found = log_prob(model, sequences)["observation"]
    torch.testing.assert_close(found, law.value_log_prob(values)[0], atol=1e-9, rtol=0)
    for number, each in enumerate(series):
        own = value_nats(model, modality, each)[:, 0]
        exact = law.value_log_prob(values[:, number, None])[1][:, 0, 0]
        np.testing.assert_allclose(own, exact, atol=1e-9)


def test_what_is_missing_is_drawn_given_what_came_before_and_after(chain):
    """Means and variances of the draws, and the estimate of the likelihood, beside the exact."""
    law, modality, model, values = chain
    most = int(values.isnan().sum((0, 2)).argmax())
    one = values[:, most]
    assert one.isnan().sum() >= 2
    draws = 4_000
    torch.manual_seed(0)
    observation = modality.encode(one[:, 0].numpy())
    found = complete(model, modality, observation, np.zeros((9, 0), np.float32), draws)
    path = recursion(law.transition, 9) * torch.cat([law.start, law.noise.repeat(8)])
    latents = path @ recursion(law.transition, 9).T
    c = law.emission[0, 0]
    whole = (c**2 * latents + law.observation_noise.repeat(9).diag()).numpy()
    lacks = one[:, 0].isnan().numpy()
    given = one[~lacks, 0].numpy()
    to = np.linalg.solve(whole[np.ix_(~lacks, ~lacks)], whole[np.ix_(~lacks, lacks)]).T
    mean, covariance = to @ given, whole[np.ix_(lacks, lacks)] - to @ whole[np.ix_(~lacks, lacks)]
    drawn = found.draws[:, lacks, 0]
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - mean) < 6 * spread / math.sqrt(draws)).all()
    assert (np.abs(drawn.std(0) / spread - 1) < 0.12).all()
    exact = law.value_log_prob(one[:, None])[0].sum().item()
    assert found.log_prob == pytest.approx(exact, abs=0.1)
    assert np.allclose(found.draws[:, ~lacks, 0], given)


@pytest.mark.parametrize("filler", [0.0, 1.0, -1e9, math.nan, math.inf])
def test_whatever_stands_in_the_place_of_a_missing_value_changes_nothing(mixed, filler):
    modality, model = mixed
    actions = modality.steering(table())
    observation = modality.encode(table())
    other = dict(observation)
    missing = observation["state"] == MISSING
    assert missing.any(0)[:4].all()
    other["value"] = np.where(missing, np.float32(filler), observation["value"])
    found = [rows_of(modality, each, actions) for each in (observation, other)]
    expected, changed = (model.states(rows) for rows in found)
    assert all(map(torch.equal, nested.leaves(expected), nested.leaves(changed)))
    model.zero_grad()
    losses = [log_prob.__wrapped__(model, rows) for rows in found]
    assert torch.equal(losses[0]["observation"], losses[1]["observation"])
    losses[1]["observation"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_what_is_read_alone_is_read_and_not_scored(mixed):
    modality, model = mixed
    observation, actions = modality.encode(table()), modality.steering(table())
    read = {"value": observation["value"], "state": observation["state"].copy()}
    read["state"][:40][read["state"][:40] == PRESENT] = READ
    whole = values_nats(model, modality, observation, actions)
    part = values_nats(model, modality, read, actions)
    assert np.isnan(part[:40]).all()
    np.testing.assert_array_equal(part[40:], whole[40:])
    assert modality.counted(read).sum() == 60 - (read["state"] == READ).any(1).sum()


def test_the_density_is_one_of_the_users_own_units():
    """A channel in other units costs the logarithm of their ratio, and no more."""
    values = np.random.default_rng(0).normal(size=80)
    values[::3] = np.nan
    options = {"seed": 0, "series": {}} | SMALL
    nats = [
        SequenceModel(**options)
        .fit(scale * values + shift, updates=2)
        .log_prob(scale * values + shift)[0]
        for scale, shift in ((1.0, 0.0), (8.0, 1e6))
    ]
    there = (~np.isnan(values)).sum()
    assert nats[1] == pytest.approx(nats[0] - there * math.log(8.0), rel=1e-4)


def test_counts_are_negative_binomials():
    log_mean, log_size = torch.tensor([0.5, 3.0]).double(), torch.tensor([1.0, -0.5]).double()
    size, mean = log_size.exp().numpy(), log_mean.exp().numpy()
    values = torch.arange(30).double()[:, None].expand(30, 2)
    exact = stats.nbinom.logpmf(values.numpy(), size, size / (size + mean))
    np.testing.assert_allclose(Counts(log_mean, log_size).log_prob(values), exact, atol=1e-10)


# What is known ahead.


def test_what_is_known_ahead_is_read_and_never_predicted(mixed, fitted):
    modality, model = mixed
    assert [channel.name for channel in modality.channels] == ["level", "rain", "sales", "sky"]
    kinds = [channel.kind for channel in modality.channels]
    assert kinds == ["number", "number", "count", "category"]
    assert modality.channels[1].atoms
    rain = modality.numbered(modality.encode(table()))[:, 1]
    assert (rain[table()["rain"] == 0] == 0).all()
    assert set(fitted.sample(4)) == {"level", "rain", "sales", "sky"}
    columns = table()
    before = values_nats(model, modality, modality.encode(columns), modality.steering(columns))
    columns["price"] = columns["price"] + 1.0
    after = values_nats(model, modality, modality.encode(columns), modality.steering(columns))
    assert np.nanmax(np.abs(before[1:] - after[1:])) > 1e-6


def test_a_forecast_wants_what_is_known_ahead_and_goes_on_where_the_series_ends(fitted):
    with pytest.raises(TableError, match=r"'price' is known ahead: add the 5 rows"):
        fitted.forecast(table(), 5)
    longer = table(66)
    for name in ("level", "rain", "sales"):
        longer[name][60:] = np.nan
    longer["sky"][60:] = None
    longer["level"][59] = 100.0  # the last row that shows anything
    found = fitted.forecast(polars.DataFrame(longer), 5, draws=20)
    assert found.draws.shape == (20, 5, 4)
    days = np.array(found.times).astype("datetime64[s]").astype("datetime64[D]")
    assert str(days[0]) == "2024-03-01"
    assert (found.draws[..., 2] >= 0).all()
    assert (found.draws[..., 2] == np.rint(found.draws[..., 2])).all()
    assert set(np.unique(found.draws[..., 3])) <= {0.0, 1.0, 2.0}


def test_dates_give_a_calendar_and_uneven_steps_their_lengths():
    hours = np.datetime64("2024-01-01T00:00") + np.arange(24 * 30) * np.timedelta64(1, "h")
    values = np.random.default_rng(0).normal(size=len(hours))
    modality = Series.of({"at": hours, "x": values}, SeriesConfig(time="at"))
    assert modality.description.cycles == ("day", "week")
    assert modality.season == 24
    assert modality.description.steps is None
    steering = modality.steering({"at": hours, "x": values})
    np.testing.assert_allclose(steering[24:48, :4], steering[:24, :4], atol=1e-4)
    times = np.cumsum([0.0, 1.0, 1.0, 4.0, 2.0])
    uneven = Series.of({"at": times, "x": np.arange(5) / 7}, SeriesConfig(time="at"))
    lengths = uneven.steering({"at": times, "x": np.arange(5) / 7})[:, 0]
    np.testing.assert_allclose(lengths[1:], [-1, -1, 1, 0], atol=1e-6)


# The five lines.


def test_tables_of_any_kind_are_the_same_series():
    columns = table()
    config = COLUMNS
    observations = []
    for data in (columns, polars.DataFrame(columns)):
        modality = Series.of(data, config)
        observations.append(modality.encode(modality.separated(data)[0]))
    assert all(map(np.array_equal, *map(nested.leaves, observations)))
    array = np.stack([columns["level"], columns["rain"]], 1)
    by_array, by_frame = Series.of(array), Series.of({"0": array[:, 0], "1": array[:, 1]})
    assert by_array.channels == by_frame.channels
    assert np.array_equal(by_array.decode(by_array.encode(array)).shape, array.shape)


@pytest.mark.parametrize("of", ["vector", "array", "list", "frame"])
def test_a_model_of_series_is_fitted_scored_sampled_completed_saved_and_loaded(of, tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 2))
    values[::4, 0] = np.nan
    data = {
        "vector": values[:, 0],
        "array": values,
        "list": [values[:30], values[30:]],
        "frame": polars.DataFrame({"a": values[:, 0], "b": values[:, 1]}),
    }[of]
    model = SequenceModel(seed=0, **SMALL).fit(data, updates=2)
    nats = model.log_prob(data)
    assert nats.shape == ((2,) if of == "list" else (1,))
    each = model.value_log_prob(data)
    parts = each if of == "list" else [each]
    assert nats.sum() == pytest.approx(sum(np.nansum(part) for part in parts), rel=1e-5)
    whole = model.impute(data, draws=8)
    first = (
        np.asarray(whole["a"])
        if of == "frame"
        else np.asarray(whole[0] if of == "list" else whole)
    )
    first = first if first.ndim == 1 else first[:, 0]
    there = ~np.isnan(values[: len(first), 0])
    assert not np.isnan(first).any()
    assert np.array_equal(first[there], values[: len(first), 0][there])
    assert len(model.sample(7)["a"] if of == "frame" else model.sample(7)) == 7
    one = data[0] if of == "list" else data
    assert model.forecast(one, 3, draws=5).draws.shape[:2] == (5, 3)
    model.save(tmp_path / "model")
    loaded = SequenceModel.load(tmp_path / "model")
    assert np.array_equal(loaded.log_prob(data), nats)


def test_other_models_do_not_forecast():
    model = SequenceModel(hidden_size=4, decoder_hidden=4).fit([0, 1, 0, 1, 1, 0], updates=1)
    with pytest.raises(ValueError, match="is for time series"):
        model.forecast([0, 1], 3)


def test_a_model_with_latents_forecasts_and_scores_too():
    values = np.random.default_rng(0).normal(size=30)
    model = SequenceModel(seed=0, core="srnn", series={}, latent=2, latent_hidden=4, **SMALL)
    model.fit(values, updates=1)
    assert model.forecast(values, 3, draws=5).draws.shape == (5, 3, 1)
    assert np.isfinite(model.value_log_prob(values[:5])).all()
    assert np.isfinite(model.impute(np.append(values[:5], np.nan), draws=4)).all()


# Beginning with least squares.


def test_a_model_begins_with_the_linear_autoregression():
    random = np.random.default_rng(0)
    values = np.zeros(800)
    for t in range(2, 800):
        values[t] = 1.2 * values[t - 1] - 0.5 * values[t - 2] + random.normal()
    values = 50 + 3 * values
    config = SequenceModel(seed=0, series={}, head="normal", **SMALL | {"history": 2})
    config.fit(values, updates=1)
    exact = stats.norm.logpdf(
        values[2:] - 50, 1.2 * (values[1:-1] - 50) - 0.5 * (values[:-2] - 50), 3
    )
    assert np.nanmean(config.value_log_prob(values)[2:]) == pytest.approx(exact.mean(), abs=0.1)


def test_ridge_is_least_squares_where_nothing_is_noise():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, 2.0]
    fit = ridge(x, x @ [1.0, -0.2, 3.0] + 4.0)
    np.testing.assert_allclose(fit.weights, [1.0, -0.2, 3.0], rtol=1e-3)
    assert fit.bias == pytest.approx(4.0, rel=1e-2)
    noise = ridge(x[:20], random.normal(size=20))
    assert np.abs(noise.weights * x.std(0)).max() < 0.5
    assert ridge(x[:0], x[:0, 0]).std == 1.0


def test_tails_are_heavy_where_they_win_on_what_was_not_fitted():
    random = np.random.default_rng(0)
    assert not has_tails([random.normal(size=600)])
    assert has_tails([random.standard_t(2.5, size=600)])


# Figures and baselines.


def test_crps_is_that_of_the_closed_form():
    """Of a Gaussian; and by few draws it is the same on average."""
    random = np.random.default_rng(0)
    value = np.array([-1.0, 0.3, 2.5])
    exact = (
        value * (2 * stats.norm.cdf(value) - 1)
        + 2 * stats.norm.pdf(value)
        - 1 / math.sqrt(math.pi)
    )
    many = crps(random.normal(size=(40_000, 3)), value)
    np.testing.assert_allclose(many, exact, atol=0.02)
    few = crps(random.normal(size=(3, 20_000, 3)), value)
    np.testing.assert_allclose(few.mean(0), exact, atol=0.03)


def test_intervals_cover_as_much_as_they_say():
    random = np.random.default_rng(0)
    draws, values = random.normal(size=(400, 5_000)), random.normal(size=5_000)
    for share in (0.5, 0.8, 0.95):
        assert covered(draws, values, share).mean() == pytest.approx(share, abs=0.02)


def test_what_is_missing_is_filled_and_lagged():
    values = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, 3.0]])
    assert filled(values).tolist() == [[0.0, 1.0], [2.0, 1.0], [2.0, 3.0]]
    assert lagged(filled(values), 2).tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [2, 1, 0, 1]]


def test_seasonal_naive_is_the_season_before():
    values = np.array([[1.0], [5.0], [2.0], [7.0], [np.nan], [9.0]])
    naive = SeasonalNaive.fit([values], 2)
    assert naive.std[0] == pytest.approx(math.sqrt((1 + 4 + 4) / 3))
    draws = naive.draw(values, 4, 20_000, np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(0)[:, 0], [2.0, 9.0, 2.0, 9.0], atol=0.08)
    np.testing.assert_allclose(
        draws.std(0)[:, 0] / naive.std, [1, 1, math.sqrt(2), math.sqrt(2)], rtol=0.03
    )
    nats = naive.log_prob(values)
    assert np.isnan(nats[4, 0])
    assert nats[5, 0] == pytest.approx(stats.norm.logpdf(9, 7, naive.std[0]))


def test_the_autoregression_is_that_of_least_squares():
    random = np.random.default_rng(0)
    known = random.normal(size=(3_000, 1))
    values = np.zeros((3_000, 2))
    weights = np.array([[0.6, 0.2], [-0.3, 0.5]])
    for t in range(1, 3_000):
        values[t] = weights @ values[t - 1] + known[t] + random.normal(size=2) * [1.0, 0.5]
    fit = Autoregression.fit([values], [known], 1)
    x = np.column_stack([values[:-1], known[1:], np.ones(2_999)])
    by_hand = np.linalg.lstsq(x, values[1:], rcond=None)[0]
    for place, each in enumerate(fit.fits):
        np.testing.assert_allclose(each.weights, by_hand[:3, place], atol=5e-3)
    np.testing.assert_allclose(fit.std, [1.0, 0.5], rtol=0.05)
    draws = fit.draw(values[:1_000], known[1_000:], 2, 20_000, random)
    first = by_hand[:3].T @ np.append(values[999], known[1_000])
    np.testing.assert_allclose(draws[:, 0].mean(0), first + by_hand[3], atol=0.05)
    second = by_hand[:3].T @ np.append(first, known[1_001])
    np.testing.assert_allclose(draws[:, 1].mean(0), second + by_hand[3], atol=0.05)


# Files and commands.


def written(path, columns):
    lists = {
        name: list(column) if column.dtype.kind == "O" else column
        for name, column in columns.items()
    }
    polars.DataFrame(lists).write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two series in one file."""
    folder = tmp_path_factory.mktemp("series")
    one, two = table(70, 0), table(50, 1)
    columns = {name: np.concatenate([one[name], two[name]]) for name in one}
    columns["shop"] = np.repeat(["here", "there"], [70, 50])
    file = written(folder / "shops.csv", columns)
    words = ["--time", "day", "--by", "shop", "--known", "price", "--updates", "4"]
    main(["train", "series", "--data", str(file), *words, "--out", str(folder / "run"), "--quick"])
    return folder / "run"


def test_scales_are_of_what_is_learned_from_alone(tmp_path):
    columns = table(100)
    files = [written(tmp_path / "one.csv", columns)]
    for name in ("level", "sales", "rain", "price"):
        columns[name][80:] = columns[name][80:] * 7 + 1_000
    files.append(written(tmp_path / "two.csv", columns))
    found = []
    for file in files:
        data = SeriesDataConfig((str(file),), time="day", known=("price",))
        statistics = SeriesFiles.first_statistics(data, lambda line: None)
        modality = SeriesFiles(data, statistics)
        parts = list(modality.learned(lambda line: None))
        assert [part.split for part in parts] == ["train", "valid", "test"]
        found.append((statistics, parts[0]))
    (one, train), (two, other) = found
    assert one == two
    assert all(map(np.array_equal, nested.leaves(train[0]), nested.leaves(other[0])))


def test_the_parts_of_a_series_are_scored_as_the_whole_is(tmp_path):
    """The rows before a part are read with it."""
    file = written(tmp_path / "one.csv", table(100))
    options = {"time": "day", "known": ("price",), "validations": 1, "updates": 1} | SMALL
    model = sequence_model("series", file, **options).fit()
    modality = model.modality
    (block,) = [block for _, block in modality.blocks([str(file)], "stop", print)]
    whole = value_nats(model.model, modality, block)
    counts = 0.0
    for split, rows in (("valid", slice(80, 90)), ("test", slice(90, 100))):
        part = part_of(model.stores[split].select(np.array([0])).columns)
        nats = values_nats(model.model, modality, part.observation, part.actions)
        np.testing.assert_allclose(nats[part.first :], whole[rows], atol=1e-4)
        counts += np.nansum(whole[rows])
    assert model.log_prob()[0] + model.log_prob(model.stores["valid"])[0] == pytest.approx(
        counts, rel=1e-4
    )


def test_a_run_is_evaluated_beside_baselines(run, capsys):
    main(["evaluate", str(run), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] == 12
    for name in ("model", "naive", "linear"):
        each = result["forecasts"][name]
        assert set(each["coverage"]) == {"50%", "80%", "95%"}
        assert set(each["channels"]) == {"level", "rain", "sales"}
        assert each["crps"] > 0


def test_a_run_forecasts_scores_and_completes_tables(run, tmp_path, capsys):
    columns = table(40, 3)
    for name in ("level", "rain", "sales"):
        columns[name][34:] = np.nan
    columns["sky"][34:] = None
    columns["level"][33] = 99.0
    columns["shop"] = np.repeat(["elsewhere"], 40)
    file = written(tmp_path / "more.csv", columns)
    for verb, words in (
        ("forecast", ["--horizon", "6", "--samples", "20"]),
        ("impute", ["--draws", "10"]),
        ("score", []),
    ):
        main([verb, str(run), str(file), *words, "--out", str(tmp_path / verb)])
        assert (tmp_path / f"{verb}.csv").stat().st_size
    assert (tmp_path / "forecast.png").stat().st_size
    assert (tmp_path / "score.png").stat().st_size
    with open(tmp_path / "forecast.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 6 * (3 + 3)
    assert rows[0]["time"] == "2024-02-04"
    assert float(rows[0]["q0.1"]) <= float(rows[0]["q0.5"]) <= float(rows[0]["q0.9"])
    shares = [float(row["mean"]) for row in rows if row["channel"].startswith("sky=")]
    assert sum(shares) == pytest.approx(6)
    whole = polars.read_csv(tmp_path / "impute.csv")
    assert not any(whole[name].null_count() for name in ("level", "rain", "sales", "sky"))
    there = ~np.isnan(columns["level"])
    np.testing.assert_allclose(
        whole["level"].to_numpy()[there], columns["level"][there], rtol=1e-6
    )
    assert "the least likely" in capsys.readouterr().err


def test_tables_of_csv_parquet_and_npz_are_read_alike(tmp_path):
    columns = {name: column for name, column in table().items() if name in ("level", "sales")}
    written(tmp_path / "a.csv", columns)
    polars.DataFrame(columns).write_parquet(tmp_path / "a.parquet")
    np.savez(tmp_path / "a.npz", **columns)
    found = [read_table(tmp_path / f"a.{ending}") for ending in ("csv", "parquet", "npz")]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name in other:
            np.testing.assert_allclose(other[name], found[0][name], rtol=1e-12)


BAD = {
    "no such column": ("a\n1\n2\n", {"time": "when"}, "there is no column 'when'"),
    "a time twice": ("t,a\n1,2\n1,3\n", {"time": "t"}, "a time twice"),
    "no time": ("t,a\n1,2\n,3\n", {"time": "t"}, "without a time"),
    "no date": ("t,a\nsoon,2\nlater,3\n", {"time": "t"}, "expects dates"),
    "nothing to predict": ("a\n1\n2\n", {"known": ("a",)}, "no column that could be predicted"),
    "an empty column": ("a,b\n1,\n2,\n", {}, "'b' is empty|1 to"),
    "unknown ahead": ("a,b\n1,1\n2,\n3,4\n", {"known": ("b",)}, "is known ahead, but is empty"),
    "no name of a series": ("a,b\n1,x\n2,\n", {"by": "b"}, "separates the series"),
    "too many words": (
        "a\n" + "\n".join(f"word{n}" for n in range(300)),
        {},
        "300 different words",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_end_in_one_sentence(case, tmp_path, capsys):
    text, options, sentence = BAD[case]
    (tmp_path / "bad.csv").write_text(text)
    words = [
        w for k, v in options.items() for w in (f"--{k}", *([v] if isinstance(v, str) else v))
    ]
    data = ["--data", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        main(["train", "series", *data, *words])
    said = capsys.readouterr().err.strip()
    assert not (tmp_path / "run").exists()
    assert re.search(sentence, said), said
    assert len(said.splitlines()) == 1
    assert len(said) < 300 + len(str(tmp_path))


def test_the_bench_measures_a_law_that_is_known(capsys):
    main(["bench", "series", "--on", "chain", "--quick", "--json"])
    model, naive, linear = json.loads(capsys.readouterr().out)["rows"]
    assert [row["of"] for row in (naive, linear)] == ["seasonal-naive", "linear autoregression"]
    assert -0.05 < model["gap"] < 0.2
    assert model["roc_kalman"] > 0.9
    assert {"crps", "in 80%", "nats"} <= model.keys()


# Channels that wander.


@pytest.fixture(scope="module")
def wandering():
    """A trend with noise and gaps, far from where it began, and a model of it."""
    random = np.random.default_rng(0)
    values = 1_000 + np.cumsum(2.0 + random.normal(size=400))
    values[random.random(400) < 0.2] = np.nan
    values[[0, 399]], values[310:320] = (1_000.0, 1_800.0), np.nan
    model = SequenceModel(seed=0, series={}, **SMALL).fit(values, updates=1)
    return values, model


def test_what_wanders_is_read_by_its_changes_and_comes_back_as_it_was(wandering):
    values, model = wandering
    modality = model.modality
    assert modality.channels[0].changes
    assert (
        not Series.of(
            np.sin(np.arange(400)) + np.random.default_rng(0).normal(size=400), SeriesConfig()
        )
        .channels[0]
        .changes
    )
    observation = modality.encode(values)
    there = ~np.isnan(values)
    np.testing.assert_allclose(modality.numbered(observation)[there, 0], values[there], rtol=1e-5)
    late = np.append([np.nan] * 3, values)
    encoded = modality.encode(late)
    np.testing.assert_allclose(modality.numbered(encoded)[3:][there, 0], values[there], rtol=1e-5)
    part = modality.part(observation, 100, 200, 300)
    rows = there[100:300]
    np.testing.assert_allclose(modality.numbered(part)[rows, 0], values[100:300][rows], rtol=1e-5)
    assert (part["state"][:100] != PRESENT).all()


def test_forecasts_of_what_wanders_begin_where_it_is(wandering):
    values, model = wandering
    ahead = model.forecast(values, 5, draws=200).draws[..., 0]
    assert abs(np.median(ahead[:, 0]) - 1_800) < 40
    whole = model.impute(values, draws=100)
    there = ~np.isnan(values)
    np.testing.assert_array_equal(whole[there], values[there])
    gaps = np.interp(np.arange(400), np.flatnonzero(there), values[there])
    assert np.abs(whole - gaps)[~there].max() < 40

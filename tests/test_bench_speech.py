"""Laws of the speech bench: floors are what they say, and a row depends on its seed alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import distributions as td

from worldmodel import BOUNDS, Learner
from worldmodel.experiments.bench import speech as bench
from worldmodel.experiments.bench.sequences import score
from worldmodel.experiments.bench.settings import SpeechSettings
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.recordings.config import quick_recordings
from worldmodel.progress import Reporter
from worldmodel.sequence_model.training import examples, model_of, standardise

FRAME = 4
COEFFICIENTS, NOISE = (1.2, -0.6), 900.0  # of an autoregression of second order


def arrays(recordings=60, least=100):
    """What the file holds, of random autoregressive recordings."""
    random = np.random.default_rng(0)
    length = random.integers(least, least + 100, recordings).astype(np.int32)
    noise = NOISE * random.standard_normal(length.sum())
    wave = np.zeros(length.sum() + 2)
    for t, shock in enumerate(noise):
        wave[t + 2] = COEFFICIENTS[0] * wave[t + 1] + COEFFICIENTS[1] * wave[t] + shock
    return {
        "wave": wave[2:].astype(np.int16),
        "length": length,
        "index": (np.arange(recordings) % 12).astype(np.int16),
        "rate": np.array(8000),
        "speaker_names": np.array(["somebody"]),
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "FRAME", FRAME)
    np.savez_compressed(tmp_path / bench.FILE, **arrays())
    return tmp_path


def bench_of(folder, *models, **config):
    return bench.run(SpeechSettings(folder, models, **config), Reporter())


def without_time(row):
    return {key: value for key, value in row.items() if "seconds" not in key}


def test_every_whole_frame_is_in_its_split(folder):
    modality, splits = bench.read(folder)
    made = arrays()
    recordings = np.split(made["wave"], np.cumsum(made["length"])[:-1])
    numbers = {"test": range(5), "valid": range(5, 8), "train": range(8, 12)}
    for split, chosen in numbers.items():
        whole = [
            recording[: len(recording) // FRAME * FRAME]
            for recording, number in zip(recordings, made["index"], strict=True)
            if number in chosen
        ]
        assert splits[split].lengths.tolist() == [len(part) // FRAME for part in whole]
        frames = splits[split].columns["observation"].astype(np.float64)
        noise = frames.ravel() * 2**15 - np.concatenate(whole)
        assert noise.min() >= 0
        assert noise.max() <= 1
    learned = splits["train"].columns["observation"].astype(np.float64)
    assert modality.statistics["mean"] == pytest.approx(learned.mean(), abs=1e-9)
    assert modality.statistics["std"] == pytest.approx(learned.std(), rel=1e-9)


def test_a_split_is_dequantised_by_the_same_noise_every_time(folder):
    one, other = (bench.read(folder).splits["test"].columns["observation"] for _ in range(2))
    assert one.tobytes() == other.tobytes()
    rests = one.astype(np.float64) * 2**15 % 1
    assert abs(rests.mean() - 0.5) < 4 * (1 / 12 / rests.size) ** 0.5


def test_floors_are_the_densities_of_gaussians(folder):
    speech = bench.read(folder)
    found = bench.floors(speech)
    facts = speech.modality.statistics

    def frames(split):
        raw = torch.from_numpy(speech.splits[split].columns["observation"]).double()
        return (raw - facts["mean"]) / facts["std"]

    def inputs(split):
        frame, starts = frames(split), torch.from_numpy(speech.splits[split].starts)
        before = torch.cat([torch.zeros(1, FRAME), frame[:-1]])
        before[starts] = 0.0
        return torch.cat([before, torch.ones(len(frame), 1)], 1)

    def nats(train, test):
        alone = td.Normal(train.mean(0), train.std(0, correction=0)).log_prob(test).sum(-1).mean()
        covariance = torch.cov(train.t(), correction=0)
        together = td.MultivariateNormal(train.mean(0), covariance).log_prob(test).mean()
        return -alone.item(), -together.item()

    alone, together = nats(frames("train"), frames("test"))
    assert found["diagonal Gaussian"] == pytest.approx(alone, abs=1e-9)
    assert found["full-covariance Gaussian"] == pytest.approx(together, abs=1e-9)
    weights = torch.linalg.lstsq(inputs("train"), frames("train")).solution
    changes = (frames(split) - inputs(split) @ weights for split in ("train", "test"))
    alone, together = nats(*changes)
    assert found["linear in the frame before, diagonal"] == pytest.approx(alone, abs=1e-9)
    assert found["linear in the frame before, full covariance"] == pytest.approx(
        together, abs=1e-9
    )


def test_an_autoregression_is_found_where_there_is_one(folder):
    """The entropy rate of what the recordings were made by, but for their beginnings."""
    speech = bench.read(folder)
    std = NOISE / (speech.modality.statistics["std"] * bench.FULL_SCALE)
    rate = FRAME * td.Normal(0.0, std).entropy().item()
    error = FRAME * (0.5 / (FRAME * speech.splits["test"].rows)) ** 0.5
    assert abs(bench.floors(speech)[f"AR({bench.LAGS})"] - rate) < 6 * error


@pytest.mark.parametrize("name", ["rnn-gauss", "vrnn-gauss", "srnn"])
def test_a_model_that_says_nothing_is_the_diagonal_gaussian(folder, name):
    """All weights zero but the first deviations: the floor, by every bound."""
    speech = bench.read(folder)
    recipe = quick_recordings(bench.RECIPES[name])
    model = model_of(speech.modality, recipe.model).double().eval()
    standardise(model, examples(speech.splits["train"]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        bias = model.percepts.decoder.observation.parameters_.bias
        bias[FRAME:] = np.log(np.expm1(1 - model.percepts.decoder.observation.minimum_std))
    test = speech.splits["test"]
    by_bound = score(model, speech.modality, test, 3, 0, name, Reporter())
    assert list(by_bound) == (["exact"] if name == "rnn-gauss" else list(BOUNDS))
    floor = bench.floors(speech)["diagonal Gaussian"]
    assert list(by_bound.values()) == pytest.approx([floor] * len(by_bound), abs=1e-5)


def test_a_row_depends_on_its_model_and_its_seed_alone(folder):
    whole = bench_of(folder, "rnn-gauss", "vrnn-gmm", seeds=2, quick=True)
    assert len({row["valid_nats"] for row in whole["rows"]}) == 4  # no two learn the same
    alone = bench_of(folder, "vrnn-gmm", seed=1, quick=True)
    assert without_time(alone["rows"][0]) == without_time(whole["rows"][3])
    for name, by_bound in whole["summary"].items():
        for bound, figure in by_bound.items():
            values = [row["by_bound"][bound] for row in whole["rows"] if row["model"] == name]
            assert figure["mean"] == pytest.approx(np.mean(values))
            assert figure["se"] == pytest.approx(abs(values[0] - values[1]) / 2)
    assert alone["summary"]["vrnn-gmm"]["elbo"]["se"] is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt, FloatingPointError("no number")])
def test_rows_that_are_there_are_said_and_survive_a_stop(folder, monkeypatch, capsys, stop):
    measured = bench.measure

    def stopped_at_the_second(name, recipe, speech, seed, *rest):
        if seed:
            raise stop
        return measured(name, recipe, speech, seed, *rest)

    monkeypatch.setattr(bench, "measure", stopped_at_the_second)
    found = bench_of(folder, "vrnn-gmm", seeds=2, bound=("elbo", "fivo"), quick=True)
    (row,) = found["rows"]
    assert list(row["by_bound"]) == list(found["summary"]["vrnn-gmm"]) == ["elbo", "fivo"]
    said = capsys.readouterr().err
    assert f"vrnn-gmm, seed 0: loss {row['test_nats']:.1f} nats per frame" in said
    assert "stopped" in said
    assert ("no number" in said) == isinstance(stop, FloatingPointError)


def test_loudness_that_is_heard_is_learned(folder, monkeypatch):
    """Every other recording is soft: whoever hears the frame before is better than any floor."""
    made = arrays()
    loud = np.repeat(np.arange(60) // 12 % 2 == 0, made["length"])
    soft = (made["wave"] * np.where(loud, 1.0, 0.02)).astype(np.int16)
    np.savez_compressed(folder / bench.FILE, **made | {"wave": soft})
    recipe = quick_recordings(bench.RECIPES["rnn-gauss"])
    model = replace(recipe.model, hidden_size=16, decoder_hidden=16)
    learning = replace(recipe.learning, updates=150, learning_rate=0.02, ema_decay=0.9)
    learning = replace(learning, batch_size=10, window=50)
    monkeypatch.setitem(bench.RECIPES, "rnn-gauss", bench.Recipe(model, learning))
    result = bench_of(folder, "rnn-gauss", seed=1)
    (row,) = result["rows"]
    assert row["test_nats"] < min(result["floors"].values()) - 0.5
    assert 0 < row["update"] <= row["updates"] == 150


def test_minutes_take_the_place_of_updates(folder, monkeypatch):
    within = Learner.updates_within

    def measured(learner, minutes, *rest):
        within(learner, 1e-9, *rest)
        return round(minutes)

    monkeypatch.setattr(Learner, "updates_within", measured)
    recipe = quick_recordings(bench.RECIPES["rnn-gauss"])
    monkeypatch.setitem(bench.RECIPES, "rnn-gauss", recipe)
    rows = [
        bench_of(folder, "rnn-gauss", seed=0, minutes=minutes)["rows"][0]
        for minutes in (0.0, float(recipe.learning.updates))
    ]
    assert rows[0]["updates"] == rows[1]["updates"] == 6
    assert rows[0]["by_bound"] == rows[1]["by_bound"]  # what was measured has left no trace


def test_the_command_line_tells_every_model(folder, capsys):
    config = ["bench", "speech", "--data", str(folder), "--quick"]
    main([*config, "--seed", "1", "--json"])
    result = json.loads(capsys.readouterr().out)
    runs = [(row["seed"], row["model"]) for row in result["rows"]]
    assert runs == [(1, model) for model in bench.RECIPES]
    assert SpeechSettings.models == tuple(bench.RECIPES)
    assert all(np.isfinite(row["test_nats"]) for row in result["rows"])
    main([*config, "--seeds", "2", "--models", "rnn-full"])
    shown = capsys.readouterr().out
    for words in ("rnn-full, seed 1", "full-covariance Gaussian", "±", "2 seeds"):
        assert words in shown


def test_missing_and_damaged_files_get_a_sentence(tmp_path, capsys):
    file = tmp_path / bench.FILE

    def refused(**changed):
        if changed:
            held = arrays(least=300) | changed
            np.savez(file, **{key: value for key, value in held.items() if value is not None})
        with pytest.raises(SystemExit) as end:
            main(["bench", "speech", "--data", str(tmp_path), "--quick"])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "--data" in refused()
    file.write_bytes(b"nothing of the kind")
    assert "fsdd.npz cannot be read" in refused()
    assert "got no wave" in refused(wave=None)
    assert "int16" in refused(wave=np.zeros(9))
    assert "length expects" in refused(length=np.full(60, -1))
    assert "add up" in refused(length=np.full(60, 300))
    assert "got none for valid, test" in refused(index=np.full(60, 9))
    assert "rate expects" in refused(rate=np.array([8000, 16000]))
    assert "expected more than 400" in refused(rate=np.array(8000))

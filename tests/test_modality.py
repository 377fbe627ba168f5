"""Modalities: one of a stranger's in two files, and models of files for scripts."""

import json

import numpy as np
import pytest
from kinds import VERSE

from worldmodel import EpisodeStore, SequenceModel, experiments
from worldmodel.experiments.cli.main import main
from worldmodel.experiments.runs.registry import EXPERIMENTS
from worldmodel.run_folder import RunError

CONFIG = '''
"""The temperatures of days: options."""

from dataclasses import dataclass, field
from typing import ClassVar

from worldmodel import SequenceModelConfig
from worldmodel.experiments.recordings.config import FilesConfig, RecordingsConfig
from worldmodel.experiments.runs.registry import Experiment, register_experiment


@dataclass(frozen=True, kw_only=True)
class WeatherConfig(RecordingsConfig):
    """Learn the weather, day by day."""

    modality: ClassVar[str] = "weather_modality:Weather"
    data: FilesConfig
    model: SequenceModelConfig = field(default_factory=lambda: SequenceModelConfig(head="normal"))


register_experiment(
    "weather",
    Experiment("weather:WeatherConfig", "worldmodel.experiments.recordings.experiment"),
)
'''
MODALITY = '''
"""The temperatures of days: files."""

from pathlib import Path

import numpy as np
from gymnasium import spaces

from worldmodel.experiments.data.readers.files import Recording, files_of, readable
from worldmodel.experiments.recordings.modality import FileModality


class Weather(FileModality):
    """A file has a temperature a line."""

    frame = "day"
    suffixes = (".csv",)
    shown = 10
    observation_space = spaces.Box(-np.inf, np.inf, (1,))

    def recordings(self, paths, on_error, report):
        def read(file):
            yield Recording(np.loadtxt(file, np.float32, ndmin=2), str(file))

        files = files_of([Path(path) for path in paths], self.suffixes)
        return readable(files, read, on_error, report)

    def write(self, samples, stem, report):
        files = [stem.with_name(f"{stem.name}-{number}.csv") for number in range(len(samples))]
        for file, sample in zip(files, samples, strict=True):
            np.savetxt(file, sample)
        return files
'''


@pytest.fixture
def weather(tmp_path, monkeypatch):
    """A folder with the plugin and its files."""
    monkeypatch.setenv("WORLDMODEL_PLUGINS", "")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "weather.py").write_text(CONFIG)
    (tmp_path / "weather_modality.py").write_text(MODALITY)
    (tmp_path / "days").mkdir()
    random = np.random.default_rng(0)
    for year in range(5):
        days = 10 + np.cumsum(random.normal(size=40))
        np.savetxt(tmp_path / "days" / f"{year}.csv", days)
    yield tmp_path
    EXPERIMENTS.pop("weather", None)


def test_a_modality_of_a_strangers_is_trained_scored_and_dreamt(weather, capsys):
    """By two files; nothing of the package is touched."""
    run, data = str(weather / "run"), str(weather / "days")
    plugin = ["--plugin", "weather"]
    main([*plugin, "train", "weather", "--data", data, "--out", run, "--quick"])
    capsys.readouterr()
    main([*plugin, "evaluate", run, "--data", f"{data}/3.csv", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["days"], result["density"], result["bound"]) == (40, True, "exact")
    loaded = experiments.load(run)
    file = np.loadtxt(f"{data}/3.csv", np.float32, ndmin=2)
    assert loaded.log_prob(file)[0] == pytest.approx(-40 * result["nats_per_day"], rel=1e-5)
    main(["generate", run, "--length", "7", "--samples", "2", "--prompt", f"{data}/3.csv"])
    said = capsys.readouterr().err
    for number in range(2):
        written = weather / "run" / "generated" / f"seed-0-{number}.csv"
        assert str(written) in said
        assert np.loadtxt(written).shape == (47,)
    model = experiments.sequence_model("weather", data, hidden_size=8, updates=3, validations=1)
    assert model.fit().sample(6).shape == (6, 1)
    with pytest.raises(RunError, match="no experiment on recordings"):
        experiments.sequence_model("control", data)


def test_a_model_of_files_is_a_run_without_a_folder(tmp_path, capsys):
    """It learns what `train text` learns, says how likely texts are, and becomes a run."""
    corpus = tmp_path / "verse.txt"
    corpus.write_text(VERSE * 10)
    options = {"hidden_size": 8, "decoder_hidden": 8, "updates": 4, "batch_size": 2}
    options |= {"window": 8, "validations": 2, "seed": 5}
    model = experiments.sequence_model("text", corpus, **options)
    assert sorted(tmp_path.iterdir()) == [corpus]
    model.fit()
    words = [w for n, v in options.items() for w in ("--" + n.replace("_", "-"), str(v))]
    main(["train", "text", "--corpus", str(corpus), "--out", str(tmp_path / "run"), *words])
    trained = experiments.load(tmp_path / "run")
    assert np.array_equal(trained.log_prob(), model.log_prob())
    assert model.log_prob(["the cat", "the dog"]).shape == (2,)
    sample = model.sample(5, prompt="the ")
    assert (sample[:4], len(sample)) == ("the ", 9)

    model.save(tmp_path / "saved")
    capsys.readouterr()
    main(["evaluate", str(tmp_path / "saved"), "--json"])
    nats = json.loads(capsys.readouterr().out)
    assert -model.log_prob().sum() == pytest.approx(
        nats["nats_per_character"] * nats["characters"]
    )
    saved = experiments.load(tmp_path / "saved")
    assert isinstance(saved, SequenceModel)
    assert all(isinstance(store, EpisodeStore) for store in saved.stores.values())
    for one in (model, saved):
        one.fit(updates=2)
    assert np.array_equal(saved.log_prob(), model.log_prob())
    other = model.log_prob(VERSE)
    model.fit(VERSE, updates=30)
    assert model.log_prob(VERSE) > other

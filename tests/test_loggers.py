"""Loggers hold what a run measured, filmed and came to; each is read back by its own package."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
from command_line import assert_refused, worldmodel
from kinds import VERSE

from worldmodel import Stage
from worldmodel.experiments.recordings.config import TextConfig, TextDataConfig
from worldmodel.experiments.runs.loggers import LOGGERS, Logging, logging
from worldmodel.experiments.runs.registry import new_run
from worldmodel.run_folder import RunFolder

STAGES = [Stage("learn", 0, 2), Stage("evaluate", 0, 1), Stage("learn", 1, 2)]
RESULT = {"real_return_mean": 12.5, "by_key": {"reward": {"nats": 0.25}}, "bound": "iwae"}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return new_run(tmp_path / "run", TextConfig(data=TextDataConfig(("a.txt",))))


def write(logs: Logging, tmp_path: Path) -> None:
    """A short life of a run: its second round of learning, a film, an evaluation."""
    film = tmp_path / "film.gif"
    imageio.imwrite(film, np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3))
    job = SimpleNamespace(stages=STAGES, stage=2)
    for job.done, nats in ((1, 1.5), (2, 1.25)):
        logs.unit(job, STAGES[2], {"nats": nats, "by_key": {"reward": 0.5}, "curve": [1, 2]})
    logs.unit(job, STAGES[1], {"real_steps": 500, "real_return_mean": 9.0})
    logs.film(film)
    logs.evaluation(RESULT)


def test_tensorboard(folder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with logging(folder, ["tensorboard"]) as logs:
        write(logs, tmp_path)
    read = EventAccumulator(str(tmp_path / "run.logs" / "tensorboard"))
    read.Reload()
    points = [(e.step, e.value) for e in read.Scalars("learn/nats")]
    assert points == [(3, 1.5), (4, 1.25)]
    assert [e.value for e in read.Scalars("learn/by_key/reward")] == [0.5, 0.5]
    assert [(e.step, e.value) for e in read.Scalars("evaluate/real_return_mean")] == [(500, 9.0)]
    assert read.Scalars("final/by_key/reward/nats")[0].value == 0.25
    assert read.Images("film")[0].encoded_image_string == (tmp_path / "film.gif").read_bytes()
    texts = read.Tags()["tensors"]
    assert {"config/text_summary", "evaluation/text_summary"} <= {*texts}


def test_mlflow(folder, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    with logging(folder, ["mlflow"]) as logs:
        write(logs, tmp_path)
    client = MlflowClient((tmp_path / "run.logs" / "mlflow").as_uri())
    (experiment,) = client.search_experiments(filter_string="name = 'worldmodel'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "learn/nats")
    assert [(m.step, m.value) for m in history] == [(3, 1.5), (4, 1.25)]
    assert run.data.metrics["final/real_return_mean"] == 12.5
    (film,) = client.list_artifacts(run.info.run_id, "films")
    assert film.file_size == (tmp_path / "film.gif").stat().st_size
    place = client.download_artifacts(run.info.run_id, "evaluation.json", str(tmp_path))
    assert json.loads(Path(place).read_text()) == RESULT


def log_records(data: bytes) -> Iterator[bytes]:
    """The records of a file of LevelDB's log format, after a header of 7 bytes."""
    place, block, begun = 7, 32_768, b""
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        begun += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def key_of(item) -> str:
    return item.key or "/".join(item.nested_key)


def test_wandb_offline(folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_SILENT", "true")
    with logging(folder, ["wandb"]) as logs:
        write(logs, tmp_path)
    (file,) = (tmp_path / "run.logs" / "wandb").rglob("*.wandb")
    history, summary = [], {}
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({key_of(i): json.loads(i.value_json) for i in items})
        if record.WhichOneof("record_type") == "summary":
            items = record.summary.update
            summary |= {key_of(i): json.loads(i.value_json) for i in items}
    points = [(row["learn/step"], row["learn/nats"]) for row in history if "learn/nats" in row]
    assert points == [(3, 1.5), (4, 1.25)]
    (size,) = (row["film.gif/size"] for row in history if "film.gif/size" in row)
    assert size == (tmp_path / "film.gif").stat().st_size
    assert summary["final/real_return_mean"] == 12.5


def test_a_command_logs_and_goes_on_logging(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "verse.txt").write_text(20 * VERSE)
    words = ("--corpus", tmp_path / "verse.txt", "--out", tmp_path / "run", "--quick")
    done = worldmodel("train", "text", *words, "--log", "tensorboard")
    assert done.returncode == 0, done.stderr
    read = EventAccumulator(str(tmp_path / "run.logs" / "tensorboard"))
    read.Reload()
    metrics = RunFolder(tmp_path / "run").metrics()
    nats = [line["nats"] for line in metrics if line["stage"] == "learn"]
    assert [e.value for e in read.Scalars("learn/nats")] == pytest.approx(nats)
    final = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    shown = read.Scalars("final/nats_per_character")[0].value
    assert shown == pytest.approx(final["nats_per_character"])


@pytest.mark.parametrize("name", LOGGERS)
def test_a_logger_that_is_not_installed_is_named_before_anything_is_made(
    name, tmp_path, monkeypatch
):
    monkeypatch.setattr(LOGGERS[name], "module", "not_installed")
    out = tmp_path / "run"
    words = ("train", "control", "--env", "CartPole-v1", "--quick", "--out", out, "--log", name)
    assert_refused(worldmodel(*words), f"--log {name} needs", f"worldmodel-gym[{name}]")
    assert not out.exists()


def test_nothing_is_written_where_nothing_was_asked_for(folder, tmp_path):
    with logging(folder, []) as logs:
        write(logs, tmp_path)
    assert not (tmp_path / "run.logs").exists()

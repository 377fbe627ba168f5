"""Loggers: scalars, films and the final evaluation of a run, for TensorBoard, W&B and MLflow.

    worldmodel train control --env CartPole-v1 --out runs/cart --log tensorboard mlflow

They write beside the run, into runs/cart.logs/, never to a server that was not asked for.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import cattrs

from worldmodel import Job, Stage, Watcher
from worldmodel.experiments.runs.registry import config_of
from worldmodel.job import Metrics
from worldmodel.run_folder import RunError, RunFolder

PROJECT = "worldmodel"
GIF = ".gif"


class Logger(ABC):
    """One of them, for one run, which may be gone on with later."""

    extra: ClassVar[str]  # of the distribution, by the name of the logger
    module: ClassVar[str]

    @classmethod
    def imported(cls) -> Any:
        """The module of its package; raises RunError where it is not installed."""
        try:
            return import_module(cls.module)
        except ImportError as error:
            raise RunError(
                f"--log {cls.extra} needs a package ({error}): pip install "
                f"'worldmodel-gym[{cls.extra}]'"
            ) from error

    @abstractmethod
    def __init__(self, place: Path, name: str, config: Mapping[str, Any]):
        """place: the folder that it writes to, to be made; name: of the run; config: for JSON."""

    @abstractmethod
    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of a kind of stage. step: of that kind."""

    @abstractmethod
    def film(self, file: Path) -> None:
        """Logs a film, .gif or .mp4."""

    @abstractmethod
    def evaluation(self, result: Mapping[str, Any]) -> None:
        """Logs the final evaluation."""

    @abstractmethod
    def close(self) -> None:
        """Writes what is left."""


class TensorBoard(Logger):
    """TensorBoard's event files; films play among its images."""

    extra, module = "tensorboard", "torch.utils.tensorboard"

    def __init__(self, place: Path, name: str, config: Mapping[str, Any]):
        self.writer = self.imported().SummaryWriter(str(place))
        self.writer.add_text("config", _as_code(config))

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self.writer.add_scalar(f"{kind}/{key}", value, step)

    def film(self, file: Path) -> None:
        if file.suffix != GIF:
            return  # it shows no other films
        summary = import_module("tensorboard.compat.proto.summary_pb2").Summary
        image = summary.Image(encoded_image_string=file.read_bytes())
        found = summary(value=[summary.Value(tag=file.stem, image=image)])
        self.writer._get_file_writer().add_summary(found)

    def evaluation(self, result: Mapping[str, Any]) -> None:
        self.scalars("final", numbers_of(result), 0)
        self.writer.add_text("evaluation", _as_code(result))

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases(Logger):
    """Weights & Biases, offline unless WANDB_MODE says otherwise: `wandb sync` uploads it."""

    extra, module = "wandb", "wandb"

    def __init__(self, place: Path, name: str, config: Mapping[str, Any]):
        self.wandb = self.imported()
        place.mkdir(parents=True, exist_ok=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        self.run = self.wandb.init(
            project=PROJECT, name=name, dir=str(place), config=dict(config), mode=mode
        )
        self.kinds: set[str] = set()

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        if kind not in self.kinds:
            self.kinds.add(kind)
            self.run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        found = {f"{kind}/{key}": value for key, value in values.items()}
        self.run.log({f"{kind}/step": step} | found)

    def film(self, file: Path) -> None:
        film = self.wandb.Video(str(file), format=file.suffix[1:])
        self.run.log({f"{file.stem}{file.suffix}": film})

    def evaluation(self, result: Mapping[str, Any]) -> None:
        self.run.summary.update({f"final/{k}": v for k, v in numbers_of(result).items()})

    def close(self) -> None:
        self.run.finish()


class MLflow(Logger):
    """MLflow, in a local folder: `mlflow ui --backend-store-uri FOLDER` shows it."""

    extra, module = "mlflow", "mlflow"

    def __init__(self, place: Path, name: str, config: Mapping[str, Any]):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow = self.imported()
        place.mkdir(parents=True, exist_ok=True)
        self.client = mlflow.MlflowClient(place.resolve().as_uri())
        found = self.client.get_experiment_by_name(PROJECT)
        id = self.client.create_experiment(PROJECT) if found is None else found.experiment_id
        self.run = self.client.create_run(id, run_name=name).info.run_id
        self.client.log_dict(self.run, dict(config), "config.json")

    def scalars(self, kind: str, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self.client.log_metric(self.run, f"{kind}/{key}", value, step=step)

    def film(self, file: Path) -> None:
        self.client.log_artifact(self.run, str(file), "films")

    def evaluation(self, result: Mapping[str, Any]) -> None:
        self.scalars("final", numbers_of(result), 0)
        self.client.log_dict(self.run, dict(result), "evaluation.json")

    def close(self) -> None:
        self.client.set_terminated(self.run)


LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Logging(Watcher):
    """Loggers of a job's units, and of what comes after."""

    def __init__(self, loggers: Sequence[Logger]):
        self.loggers = loggers

    def unit(self, job: Job, stage: Stage, metrics: Metrics) -> bool:
        values = numbers_of(metrics)
        before = sum(s.units for s in job.stages[: job.stage] if s.kind == stage.kind)
        step = int(values.get("real_steps", before + job.done))
        for logger in self.loggers:
            logger.scalars(stage.kind, values, step)
        return True

    def film(self, file: Path) -> None:
        """Logs a film."""
        for logger in self.loggers:
            logger.film(file)

    def evaluation(self, result: Mapping[str, Any]) -> None:
        """Logs the final evaluation."""
        for logger in self.loggers:
            logger.evaluation(result)


@contextmanager
def logging(folder: RunFolder, names: Sequence[str]) -> Iterator[Logging]:
    """Context manager with the loggers of a run, by name; they write beside its folder."""
    for name in names:
        LOGGERS[name].imported()  # before any of them writes
    place = folder.path.with_name(f"{folder.path.name}.logs")
    config = cattrs.unstructure(config_of(folder)) if names else {}
    loggers: list[Logger] = []
    try:
        for name in dict.fromkeys(names):
            loggers.append(LOGGERS[name](place / name, folder.path.name, config))
        yield Logging(loggers)
    finally:
        for logger in loggers:
            logger.close()


def numbers_of(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested values, by path.

    >>> numbers_of({"nats": 1.5, "by_key": {"reward": 2}, "note": "x", "curve": [1, 2]})
    {'nats': 1.5, 'by_key/reward': 2.0}
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers_of(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = float(value)
    return found


def _as_code(value: Mapping[str, Any]) -> str:
    """JSON as a block of Markdown."""
    return f"```json\n{json.dumps(value, indent=1)}\n```"

"""A model and how it learns: one objective, and the average of the weights."""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from worldmodel import ranks
from worldmodel.model import WorldModel
from worldmodel.noise import OwnNoise
from worldmodel.objectives import Metrics, Objective
from worldmodel.optimizers import OptimizerName
from worldmodel.schedules import Schedule
from worldmodel.trainer import MatmulPrecision, Trainer

WARM_UP, TIMED = 3, 20  # updates, by which the speed is measured


class BatchReader(Protocol):
    """An endless iterator of batches whose position can be saved and restored."""

    def __next__(self) -> Any: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Learner:
    """A model, the objective that it learns by, and an exponential moving average of its weights.

    Batches are the caller's: `Replay.sample`, `SequentialBatches` and `Batches` give them.
    """

    def __init__(
        self,
        model: WorldModel,
        objective: Objective,
        learning_rate: float | Schedule,
        weight_decay: float = 0.0,
        clip_norm: float = 1.0,
        ema_decay: float = 0.0,
        autocast: bool = False,
        matmul_precision: MatmulPrecision = "highest",
        optimizer: OptimizerName = "adam",
        adaptive_clip: float = 0.0,
    ):
        """ema_decay: of the average, in [0, 1); 0: there is none, and `averaged` is the model;
        the options that follow: see `Trainer`."""
        self.model = model
        self.trainer = Trainer(
            objective,
            model.parameters(),
            learning_rate,
            weight_decay,
            clip_norm,
            autocast=autocast,
            matmul_precision=matmul_precision,
            optimizer=optimizer,
            adaptive_clip=adaptive_clip,
        )
        self.ema_decay = ema_decay
        self.average: AveragedModel | None = None
        if ema_decay:
            self.average = AveragedModel(model).eval()  # buffers: the last

    @property
    def updates(self) -> int:
        """The number of updates so far."""
        return self.trainer.updates

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules with weights besides the model, by name."""
        return {} if self.average is None else {"average": self.average}

    @property
    def averaged(self) -> WorldModel:
        """The model with the average of its weights."""
        return self.model if self.average is None else cast(WorldModel, self.average.module)

    def update(self, batch: Any) -> Metrics:
        """Takes one step of the optimizer on a batch; returns the objective's metrics."""
        self.model.train()
        before = self.updates
        metrics = self.trainer.update(batch)
        self.model.eval()
        if self.average is not None:
            follow(self.average, self.model, before, self.ema_decay)
        return metrics

    def fit(
        self,
        batches: Iterable[Any],
        updates: int,
        note: Callable[[int, Metrics], None] = lambda done, metrics: None,
    ) -> WorldModel:
        """Makes `updates` updates; returns the model with the average of its weights.

        note: called with the updates that are done and the metrics of the last one.
        """
        for done, batch in zip(range(1, updates + 1), batches, strict=False):
            note(done, self.update(batch))
        return self.keep_average()

    def updates_within(
        self,
        minutes: float,
        batches: BatchReader,
        batch_of: Callable[[Any], Any] = lambda batch: batch,
    ) -> int:
        """The number of updates that fit into `minutes`, timed on a copy: the learner, the
        batches and torch's noise stay as they are.

        batch_of: turns one of `batches` into what `update` takes.
        """
        tried, place = copy.deepcopy(self), batches.state_dict()
        with OwnNoise(0)():
            for number in range(WARM_UP + TIMED):
                if number == WARM_UP:
                    begun = time.monotonic()
                tried.update(batch_of(next(batches)))
            each = (time.monotonic() - begun) / TIMED
        batches.load_state_dict(place)
        return ranks.of_first(lambda: max(1, round(60 * minutes / each)))

    def keep_average(self) -> WorldModel:
        """Gives the model the average of its weights; returns it."""
        if self.average is not None:
            self.model.load_state_dict(self.averaged.state_dict())
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """Everything that `update` depends on but the weights of the model and of `modules`."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from `state`."""
        self.trainer.load_state_dict(dict(state))


@torch.no_grad()
def follow(average: AveragedModel, model: nn.Module, number: int, decay: float) -> None:
    """Updates an average of weights, for the time after `number` others: its decay is
    (1 + n) / (10 + n), at most `decay`, so that the first weights lose their share early, and
    short runs have a useful average, too.

    `update_parameters` asks the device how often it was called, and waits for the answer.
    """
    averaged, latest = list(average.module.parameters()), list(model.parameters())
    if number:
        get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))(averaged, latest, None)
    else:
        for first, weight in zip(averaged, latest, strict=True):
            first.copy_(weight)
    for buffer, last in zip(average.module.buffers(), model.buffers(), strict=True):
        buffer.copy_(last)
    average.n_averaged += 1

"""A trainer: one objective, one optimizer."""

import functools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from worldmodel import nested, ranks
from worldmodel.objectives import Figures, Metrics, Objective
from worldmodel.optimizers import LaProp, OptimizerName, clip_adaptively
from worldmodel.schedules import Schedule, constant

MatmulPrecision = Literal["highest", "medium"]


class Trainer:
    """Minimises an objective by Adam or LaProp (decoupled weight decay, clipped gradients)."""

    def __init__(
        self,
        objective: Objective,
        parameters: Iterable[nn.Parameter],
        learning_rate: float | Schedule = 1e-3,
        weight_decay: float = 0.0,
        clip_norm: float = 10.0,
        betas: tuple[float, float] | None = None,
        autocast: bool = False,
        matmul_precision: MatmulPrecision = "highest",
        optimizer: OptimizerName = "adam",
        adaptive_clip: float = 0.0,
    ):
        """learning_rate: a number, or a schedule over updates; betas: by default 0.9 and 0.95, or
        0.99 of laprop; adaptive_clip: if not 0, clips gradients by `clip_adaptively` instead of by
        the norm of all; autocast: large products are of
        bfloat16 (weights, their gradients and recurrent states stay as they are).
        matmul_precision: see `using_matmul_precision`."""
        self.objective = objective
        self.parameters = list(parameters)
        rate = learning_rate if callable(learning_rate) else constant(learning_rate)
        self.learning_rate = rate
        self.clip_norm = clip_norm
        self.autocast = autocast
        self.matmul_precision = matmul_precision
        self.adaptive_clip = adaptive_clip
        is_adam = optimizer == "adam"
        self.optimizer: torch.optim.Optimizer = (torch.optim.AdamW if is_adam else LaProp)(
            self.parameters,
            lr=1.0,
            weight_decay=weight_decay,
            betas=betas or (0.9, 0.95 if is_adam else 0.99),
        )
        self.state = objective.initial_state()
        self.updates = 0
        self._columns = 0  # of all ranks, whose states are carried from one update to the next

    def update(self, batch: Any = None) -> Metrics:
        """Takes one step on a batch; returns the objective's metrics, and the gradient's norm.

        Of several ranks each takes its share of the batch (see `ranks.sharing`), and all take the
        same step.
        """
        if self._carries:
            self._columns = batch[0].mask.shape[1]
        device = self.parameters[0].device.type
        with using_matmul_precision(self.matmul_precision):
            autocast = torch.autocast(device, torch.bfloat16, enabled=self.autocast)
            with ranks.sharing(batch) as (own, rows), autocast:
                loss, metrics, self.state = self.objective(own, self.state, self.updates)
            self.optimizer.zero_grad()
            loss.backward()
        figures = ranks.averaged(rows, self.parameters, metrics | {"loss": loss})
        found = fetched(figures | {"gradient_norm": self._clip()})
        if not math.isfinite(found["gradient_norm"]):
            shown = {key: found[key] for key in metrics}
            raise FloatingPointError(
                f"the gradient of update {self.updates + 1} is not finite ({shown}); the "
                "parameters are as they were before it: lower the learning rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(self.updates)
        self.optimizer.step()
        self.updates += 1
        return found

    @property
    def _carries(self) -> bool:
        return getattr(self.objective, "carries", False)

    def decay_by(self, weight_decay: float) -> None:
        """Sets the weight decay from now on."""
        for group in self.optimizer.param_groups:
            group["weight_decay"] = weight_decay

    def _clip(self) -> Tensor:
        """Clips the gradients; returns their norm before."""
        if self.adaptive_clip:
            return clip_adaptively(self.parameters, self.adaptive_clip)
        return nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, count of updates and carried state; all that `update` depends on, the same
        for any number of ranks, which call it together."""
        state = ranks.whole(self.state, self._columns) if self._carries else self.state
        return {
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "state": nested.leaves(state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from `state`; where an earlier version saved it, whose modules had other
        parameters, moments begin anew."""
        saved, groups = state["optimizer"], self.optimizer.param_groups
        numbers = [len(group["params"]) for group in saved["param_groups"]]
        if numbers == [len(group["params"]) for group in groups]:
            self.optimizer.load_state_dict(saved)
        else:
            for group, options in zip(groups, saved["param_groups"], strict=True):
                group.update({name: options[name] for name in options if name != "params"})
        self.updates = state["updates"]
        device = self.parameters[0].device
        self.state = nested.to(nested.fill(self.state, state["state"]), device)
        if self._carries:
            particles = getattr(self.objective, "particles", 1)
            self._columns = len(nested.leaves(self.state)[0]) // particles
            self.state = ranks.part(self.state, self._columns)


def fetched(figures: Figures) -> Metrics:
    """Figures as numbers: all tensors are read at once."""
    tensors = [value.detach() for value in figures.values() if isinstance(value, Tensor)]
    dtype = functools.reduce(torch.promote_types, {tensor.dtype for tensor in tensors})
    numbers = iter(torch.stack([tensor.to(dtype) for tensor in tensors]).tolist())
    return {
        key: next(numbers) if isinstance(value, Tensor) else value
        for key, value in figures.items()
    }


@contextmanager
def using_matmul_precision(precision: MatmulPrecision) -> Iterator[None]:
    """Sets the precision of float32 products inside (`torch.set_float32_matmul_precision`).

    On a CPU "medium" computes them by oneDNN, which rounds what goes in to bfloat16 where the
    processor has units for it (AMX). On processors without such units it is as accurate and, for
    large products, twice as fast on those of AMD; for small ones it is slower.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)

"""Optimizers that PyTorch does not have, and clipping by the size of the weights."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

OptimizerName = Literal["adam", "laprop"]
SMALLEST = 1e-3  # norm of weights, for clipping: those that begin with zero can move


class LaProp(torch.optim.Optimizer):
    """Momentum of normalised gradients (Ziyin et al. 2020, https://arxiv.org/abs/2002.04839).

        n_t = b_2 n_{t-1} + (1 - b_2) g_t^2
        m_t = b_1 m_{t-1} + (1 - b_1) g_t / (sqrt(n_t / (1 - b_2^t)) + epsilon)
        w_t = w_{t-1} - rate (m_t / (1 - b_1^t) + decay w_{t-1})

    Adam normalises the mean of gradients, LaProp averages normalised ones: however small epsilon
    is, and however far the betas are apart, a step is never much larger than the rate.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 4e-5,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-20,
        weight_decay: float = 0.0,
    ):
        """The defaults are those of DreamerV3."""
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Takes one step; parameters without a gradient stay where they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = 0
            state["momentum"] = torch.zeros_like(parameter)
            state["square"] = torch.zeros_like(parameter)
        state["step"] += 1
        state["square"].lerp_(gradient.square(), 1 - second)
        root = (state["square"] / (1 - second ** state["step"])).sqrt_()
        state["momentum"].lerp_(gradient / root.add_(group["eps"]), 1 - first)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(state["momentum"], alpha=-group["lr"] / (1 - first ** state["step"]))


@torch.no_grad()
def clip_adaptively(parameters: Iterable[nn.Parameter], ratio: float) -> Tensor:
    """Clips the gradient of each tensor of weights to `ratio` times the norm of these (or of
    `SMALLEST`, if that is larger); returns the norm of all gradients before.

    Brock et al. 2021 (https://arxiv.org/abs/2102.06171, eq. 3), for whole tensors as in DreamerV3.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [cast(Tensor, parameter.grad) for parameter in moved]
    norms = [gradient.norm() for gradient in gradients]
    for parameter, gradient, norm in zip(moved, gradients, norms, strict=True):
        largest = ratio * parameter.norm().clamp(min=SMALLEST)
        gradient.mul_(largest / norm.clamp(min=largest))
    return torch.stack(norms).norm()

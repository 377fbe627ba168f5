"""Densities, and the noise that they are drawn with."""

import torch
from torch import Tensor


def standard_normal(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of `like`; every latent of every core is drawn here."""
    return torch.randn_like(like)

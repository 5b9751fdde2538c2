"""Mean squared error per pixel between an image and its reconstruction."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss


def loss(model: nn.Module, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The error of the reconstructions of images (B, C, H, W), in float32."""
    return mse_loss(model(x).float(), x), {}

"""Mean squared error per pixel between an image and the reconstruction of the image with noise.

Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders" (2008).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss


def loss(
    model: nn.Module, x: Tensor, generator: torch.Generator, noise: float = 0.1
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The error of reconstructions from noisy images (B, C, H, W), in float32.

    ``noise`` is the standard deviation of the Gaussian noise, in units of the pixels' range.
    """
    noisy = x + (noise * torch.randn(x.shape, generator=generator)).to(x)  # B x C x H x W
    return mse_loss(model(noisy).float(), x), {}

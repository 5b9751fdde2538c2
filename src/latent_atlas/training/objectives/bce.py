"""Binary cross-entropy per pixel between an image and its reconstruction, in nats.

-x log y - (1 - x) log(1 - y), which is least at y = x. Bishop, "Pattern Recognition and Machine Learning" (2006), 5.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, mse_loss

from latent_atlas.errors import TrainingError


def loss(model: nn.Module, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The cross-entropy of images (B, C, H, W) and their reconstructions; TrainingError if these leave [0, 1]."""
    y = model(x).float()  # B x C x H x W
    low, high = y.detach().aminmax()
    if not (low >= 0 and high <= 1):
        raise TrainingError(
            f"objective 'bce': {type(model).__name__} draws pixels from {low:g} to {high:g}, where they must be in "
            f"[0, 1]: end its decoder in a sigmoid (where they are nan, lower training.peak_learning_rate)"
        )
    with torch.autocast(x.device.type, enabled=False):  # which refuses this function
        return binary_cross_entropy(y, x), {"reconstruction_mse": mse_loss(y.detach(), x)}

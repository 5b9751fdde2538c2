"""The variational bound per pixel: log(MSE) / 2 + β KL / P, for P pixels.

Kingma & Welling, "Auto-Encoding Variational Bayes" (2014); β by Higgins et al. (2017). The noise of the decoder has its
most likely variance, which is the mean squared error: Rybkin, Daniilidis, Levine, "Simple and Effective VAE Training
with Calibrated Decoders" (2021). So β = 1 is the bound itself in any units of the pixels, up to a constant, and the
gradient is that of a VAE with variance s² and the weight β s² / MSE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from latent_atlas.errors import TrainingError


def loss(model: Any, x: Tensor, generator: torch.Generator, beta: float = 1.0) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The bound for images (B, C, H, W); ``kl_nats`` is an image's mean divergence from the standard normal."""
    mean, log_variance = posterior(model, x)  # B x k each
    z = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=generator).to(mean)  # B x k
    try:
        y = model.decoder(z)  # B x C x H x W
    except RuntimeError as refusal:
        raise TrainingError(
            f"objective 'vae': the decoder of {type(model).__name__} does not take the {z[0].numel()} numbers of "
            f"the first half of what its encoder gives, which must be means and log-variances ({refusal})"
        ) from refusal
    error = mse_loss(y.float(), x)
    divergence = (mean.square() + log_variance.exp() - 1 - log_variance).float().flatten(1).sum(1).mean() / 2
    bound = error.log() / 2 + beta * divergence / x[0].numel()
    return bound, {"reconstruction_mse": error, "kl_nats": divergence}


def posterior(model: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-variances (B, k) of the codes of images (B, C, H, W).

    By the network's method ``posterior``, if it has one; else its encoder gives the two, or one tensor (B, 2k).

    Raises
    ------
    TrainingError
        If what is given is neither.
    """
    given = getattr(model, "posterior", model.encoder)(x)
    pair = given.chunk(2, dim=1) if isinstance(given, Tensor) else tuple(given)
    if len(pair) != 2 or pair[0].shape != pair[1].shape:
        raise TrainingError(
            f"objective 'vae': {type(model).__name__} gives {' and '.join(str(tuple(part.shape)) for part in pair)}, "
            f"where means and log-variances of one shape are needed"
        )
    return pair[0], pair[1]

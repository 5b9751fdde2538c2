"""Variational autoencoders: the mean of a code's distribution, and the reconstruction among a decoder's outputs.

The methods ``encode`` and ``decode`` of the network are called, or its parts ``encoder`` and ``decoder``. They may give
a tensor, a tuple whose first entry counts, such as (mean, log-variance), or an object or a mapping with one of the
usual names: ``MEANS`` and ``IMAGES`` beside this module.
"""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.models.adapters import IMAGES, MEANS, pair_of, part, tensor_of


def encode(model: nn.Module, x: Tensor) -> Tensor:
    """Images (N, C, H, W) to the means of their codes (N, ...)."""
    return tensor_of(part(model, "encode", "encoder")(x), MEANS)


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Codes (N, ...) to images."""
    return tensor_of(part(model, "decode", "decoder")(z), IMAGES)


def posterior(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-variances (N, ...) of the codes of images."""
    return pair_of(part(model, "encode", "encoder")(x))

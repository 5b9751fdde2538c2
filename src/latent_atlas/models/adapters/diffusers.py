"""Autoencoders of Hugging Face diffusers, such as ``AutoencoderKL``: ``encode(x).latent_dist``, ``decode(z).sample``.

They take and give images in [-1, 1]. Codes are the network's own, without the ``scaling_factor`` of a pipeline.
"""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.models.adapters import IMAGES, MEANS, pair_of, part, tensor_of


def encode(model: nn.Module, x: Tensor) -> Tensor:
    """Images (N, C, H, W) to the modes of their codes (N, c, h, w)."""
    return tensor_of(part(model, "encode")(2 * x - 1), MEANS)


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Codes (N, c, h, w) to images (N, C, H, W)."""
    return (tensor_of(part(model, "decode")(z), IMAGES) + 1) / 2


def posterior(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-variances (N, c, h, w) of the codes of images."""
    return pair_of(part(model, "encode")(2 * x - 1))

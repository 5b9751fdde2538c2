"""Autoencoders of pythae: ``encoder(x).embedding`` and ``decoder(z).reconstruction``."""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.models.adapters import pair_of, part


def encode(model: nn.Module, x: Tensor) -> Tensor:
    """Images (N, C, H, W) to codes (N, k), of a variational one their means."""
    return part(model, "encoder")(x).embedding


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Codes (N, k) to images (N, C, H, W)."""
    return part(model, "decoder")(z).reconstruction


def posterior(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-variances (N, k) of the codes of images."""
    return pair_of(part(model, "encoder")(x))

"""An ``encoder`` and a ``decoder`` that give and take tensors, with codes of any shape."""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.models.adapters import part


def encode(model: nn.Module, x: Tensor) -> Tensor:
    """Images (N, C, H, W) to codes (N, ...)."""
    return part(model, "encoder")(x)


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Codes (N, ...) to images."""
    return part(model, "decoder")(z)

"""A decoder or a generator without an encoder: the code of an image is that of the closest point of the surface.

The decoder is the network's ``decoder`` or ``generator``, or else the network itself. How the closest point is found,
and from where, is said in :mod:`latent_atlas.models.closest`.
"""

from __future__ import annotations

from torch import Tensor, nn

from latent_atlas.models.adapters import IMAGES, part, tensor_of

encode = None


def decode(model: nn.Module, z: Tensor) -> Tensor:
    """Codes (N, ...) to images."""
    return tensor_of(part(model, "decoder", "generator", "__call__")(z), IMAGES)

"""How much of the tangent space that the known factors of images span a manifold holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latent_atlas.data.figures import directions
from latent_atlas.data.images import as_float, as_images
from latent_atlas.geometry.bases import orthonormal_bases
from latent_atlas.geometry.manifold import Manifold
from latent_atlas.geometry.tangent_spaces import MEMORY, TangentSpaces


class Held(NamedTuple):
    """What was measured at N images of f factors.

    Attributes
    ----------
    angles_deg : tensor (N, f)
        Angle between the derivative of each image by each factor and the manifold's tangent space at the image's code;
        NaN where the derivative is zero.
    share : tensor (N,)
        Σ cos² / t over the principal angles between the true tangent space, of dimension t, and the manifold's: of a
        random direction in the true space, the mean share of the squared length that is held. NaN where t is zero.
    true_rank, rank : tensors (N,)
        Dimensions of both spaces.
    """

    angles_deg: Tensor
    share: Tensor
    true_rank: Tensor
    rank: Tensor


def held(
    surface: Manifold,
    pixels: Tensor,
    kinds: Sequence[str],
    factors: Tensor,
    report: Callable[[int], None] = lambda done: None,
) -> Held:
    """Compare a manifold's tangent spaces with the true ones, in float64.

    The true directions are derivatives of the formula at the factors, so that the rounding of stored pixels is not in
    them; the code is that of the stored pixels.

    Parameters
    ----------
    surface : Manifold
        In float64.
    pixels : tensor (N, C, H, W)
        Figures, uint8 or floats in [0, 1].
    kinds, factors
        What they show, N each: see :func:`.figures.draw`.
    report : callable, optional
        Called with the number of images done, after each batch.

    Raises
    ------
    DataError
        If the images do not fit the manifold.
    """
    pixels = as_images(pixels, surface.image_shape)
    p, k, f = surface.pixel_count, surface.latent_dim, factors.shape[1]
    batch = max(1, MEMORY // (p * (24 * k + 100 * f)))
    found = []
    for start in range(0, len(pixels), batch):
        part = slice(start, start + batch)
        true = directions(kinds[part], factors[part], surface.image_shape)  # n x f x P
        spaces = TangentSpaces(surface.jacobian(surface.encode(as_float(pixels[part], surface.dtype))))
        # to one length, for factors have units of their own
        bases, ranks = orthonormal_bases(torch.nn.functional.normalize(true, dim=-1).mT)[:2]  # n x P x f, n
        tangential, _ = spaces.components(bases.mT)  # n x f x P
        share = tangential.square().sum((1, 2)) / ranks  # n; 0 / 0 is NaN
        found.append((spaces.angles_deg(true), share, ranks, spaces.rank))
        report(min(start + batch, len(pixels)))
    return Held(*map(torch.cat, zip(*found, strict=True)))

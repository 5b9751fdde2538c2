"""How much of their tangent spaces two manifolds share: the principal angles between two subspaces.

Björck & Golub, "Numerical Methods for Computing Angles Between Linear Subspaces" (1973): the cosines are the singular
values of AᵀB. Small angles are inaccurate that way, and come from the sines, the singular values of B - A AᵀB.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latent_atlas.data.images import as_float
from latent_atlas.errors import DataError
from latent_atlas.geometry.bases import Bases, orthonormal_bases
from latent_atlas.geometry.manifold import Manifold

BORDER = 1e-3  # smallest over largest singular value up to which float32 is not trusted with a direction
NEAR = 1 - 1e-6  # cosine above which the angle is taken from the sine: up to there the cosine gives it to 1e-10 degrees


class Agreement(NamedTuple):
    """Of two tangent spaces at each of N images, of ranks r and s; NaN where one is of rank zero.

    Attributes
    ----------
    shared : tensor (N,)
        Mean squared cosine of the min(r, s) principal angles: 1 if one space contains the other.
    chance : tensor (N,)
        Its mean over random subspaces, max(r, s) / P. For orthonormal bases A of the smaller space and B of the larger,
        r <= s, it is E tr(AᵀB BᵀA) / r = tr(E[A Aᵀ] B Bᵀ) / r. Since E[A Aᵀ] is the same in all directions and has
        the trace r, it is r/P times the identity; tr(B Bᵀ) = s.
    smallest_deg, median_deg, largest_deg : tensors (N,)
        Of the principal angles in degrees.
    """

    shared: Tensor
    chance: Tensor
    smallest_deg: Tensor
    median_deg: Tensor
    largest_deg: Tensor


def tangent_bases(surface: Manifold, pixels: Tensor) -> Bases:
    """Bases of a manifold's tangent spaces at images (N, C, H, W).

    Jacobians are computed in the manifold's precision, and decomposed in float64. A float32 manifold is measured in
    float64 where its singular values lie so far apart that :func:`unresolved` finds it.
    """
    found = orthonormal_bases(surface.jacobian(surface.encode(as_float(pixels, surface.dtype))))
    if surface.dtype != torch.float64 and (again := unresolved(found)).any():
        better = tangent_bases(surface.to(torch.float64), pixels[again])
        if again.all():
            return better
        for old, new in zip(found, better, strict=True):
            old[again] = new
    return found


def unresolved(found: Bases) -> Tensor:
    """Where a direction is so weak that rounding in float32 could turn it by more than about 0.02 degrees: (N,)."""
    return found.singular_values[:, -1] <= BORDER * found.singular_values[:, 0]


def principal_angles_deg(a: Tensor, b: Tensor) -> Tensor:
    """Principal angles in degrees, smallest first, between the spans of orthonormal bases (P, r) and (P, s).

    There are min(r, s) of them. They are accurate for small and for large angles.
    """
    a, b = (a, b) if a.shape[-1] >= b.shape[-1] else (b, a)
    products = a.mT @ b  # r x s, s <= r
    cosines = torch.linalg.svdvals(products).clamp(max=1)  # s, largest first
    sines = torch.linalg.svdvals(b - a @ products).flip(-1).clamp(max=1)  # s, smallest first
    return torch.rad2deg(torch.where(cosines > math.sqrt(0.5), sines.asin(), cosines.acos()))


def agreement(a: Bases, b: Bases) -> Agreement:
    """How much two manifolds' tangent spaces at the same N images share.

    Raises
    ------
    DataError
        If they are not of the same number of images and pixels.
    """
    if a.vectors.shape[:2] != b.vectors.shape[:2]:
        raise DataError(
            f"tangent spaces at {len(a.vectors)} images of {a.vectors.shape[1]} numbers and at {len(b.vectors)} images "
            f"of {b.vectors.shape[1]} cannot be compared: measure the same images"
        )
    count, pixels = a.vectors.shape[:2]
    if count > 1 and a.vectors.stride(0) == b.vectors.stride(0) == 0:  # the same everywhere
        one = agreement(*(Bases(*(part[:1] for part in bases)) for bases in (a, b)))
        return Agreement(*(part.expand(count) for part in one))
    a, b = (a, b) if a.vectors.shape[2] >= b.vectors.shape[2] else (b, a)
    few, many = a.ranks.minimum(b.ranks), a.ranks.maximum(b.ranks)  # N
    products = a.vectors.mT @ b.vectors  # N x k x l, l <= k
    shared = (products.square().sum((1, 2)) / few).clamp(max=1)  # N; 0 / 0 is NaN
    cosines = torch.linalg.svdvals(products).clamp(max=1)  # N x l, largest first
    angles = cosines.acos().rad2deg()
    for one in (cosines[:, 0] > NEAR).nonzero().flatten().tolist():
        found = principal_angles_deg(a.vectors[one, :, : a.ranks[one]], b.vectors[one, :, : b.ranks[one]])
        angles[one, : few[one]] = found
    angles[torch.arange(angles.shape[1]) >= few[:, None]] = math.nan
    largest = angles.gather(1, (few - 1).clamp(min=0)[:, None])[:, 0]
    chance = torch.where(few > 0, many.double() / pixels, math.nan)
    return Agreement(shared, chance, angles[:, 0], angles.nanquantile(0.5, dim=1), largest)

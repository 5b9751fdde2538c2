"""How much of their tangent spaces two manifolds share: the principal angles between two subspaces.

Björck & Golub, "Numerical Methods for Computing Angles Between Linear Subspaces" (1973): the cosines are the singular
values of AᵀB. Small angles are inaccurate that way, and come from the sines, the singular values of B - A AᵀB.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.geometry.spectra import rank_tolerance


class Agreement(NamedTuple):
    """Of two tangent spaces at each of N images, of ranks r and s; NaN where one is of rank zero.

    Attributes
    ----------
    shared : tensor (N,)
        Mean squared cosine of the min(r, s) principal angles: 1 if one space contains the other.
    chance : tensor (N,)
        Its mean over random subspaces, max(r, s) / P.
    smallest_deg, median_deg, largest_deg : tensors (N,)
        Of the principal angles in degrees.
    """

    shared: Tensor
    chance: Tensor
    smallest_deg: Tensor
    median_deg: Tensor
    largest_deg: Tensor


def orthonormal_bases(jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of the columns of matrices (N, P, k) in float64, and their ranks (N,).

    A base of rank r stands in the first r of k columns; the others are zero.
    """
    left, values, _ = torch.linalg.svd(jacobian.double(), full_matrices=False)  # N x P x k, N x k
    kept = values > rank_tolerance(values, jacobian.shape[1:])[:, None]
    return left * kept[:, None], kept.sum(1)


def principal_angles_deg(a: Tensor, b: Tensor) -> Tensor:
    """Principal angles in degrees, smallest first, between the spans of orthonormal bases (P, r) and (P, s).

    There are min(r, s) of them. They are accurate for small and for large angles.
    """
    a, b = (a, b) if a.shape[-1] >= b.shape[-1] else (b, a)
    products = a.mT @ b  # r x s, s <= r
    cosines = torch.linalg.svdvals(products).clamp(max=1)  # s, largest first
    sines = torch.linalg.svdvals(b - a @ products).flip(-1).clamp(max=1)  # s, smallest first
    return torch.rad2deg(torch.where(cosines > math.sqrt(0.5), sines.asin(), cosines.acos()))


def agreement(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> Agreement:
    """How much two manifolds' tangent spaces at the same N images share.

    Parameters
    ----------
    a, b : (tensor (N, P, k), tensor (N,))
        Bases and ranks as :func:`orthonormal_bases` gives them.

    Raises
    ------
    DataError
        If they are not of the same number of images and pixels.
    """
    (bases_a, ranks_a), (bases_b, ranks_b) = a, b
    if bases_a.shape[:2] != bases_b.shape[:2]:
        raise DataError(
            f"tangent spaces at {len(bases_a)} images of {bases_a.shape[1]} numbers and at {len(bases_b)} images of "
            f"{bases_b.shape[1]} cannot be compared: measure the same images"
        )
    count, pixels = bases_a.shape[:2]
    few, many = ranks_a.minimum(ranks_b), ranks_a.maximum(ranks_b)  # N
    shared = (bases_a.mT @ bases_b).square().sum((1, 2)) / few  # N; 0 / 0 is NaN
    chance = torch.where(few > 0, many.double() / pixels, math.nan)
    angles = torch.full((count, 3), math.nan, dtype=torch.float64)
    for one in few.nonzero().flatten().tolist():
        found = principal_angles_deg(bases_a[one, :, : ranks_a[one]], bases_b[one, :, : ranks_b[one]])
        angles[one] = torch.stack([found[0], found.quantile(0.5), found[-1]])
    return Agreement(shared, chance, *angles.unbind(1))

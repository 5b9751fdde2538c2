"""Orthonormal bases of tangent spaces: of the columns of decoders' Jacobians."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latent_atlas.geometry.spectra import rank_tolerance

EQUAL = 1e-9  # relative spread below which singular values count as equal


class Bases(NamedTuple):
    """Orthonormal bases of the columns of N matrices, in float64.

    Attributes
    ----------
    vectors : tensor (N, P, k)
        Left singular vectors, strongest first: the first r columns, r the rank. The others are zero.
    ranks : tensor (N,)
    singular_values : tensor (N, k)
        Largest first.
    """

    vectors: Tensor
    ranks: Tensor
    singular_values: Tensor


def orthonormal_bases(matrices: Tensor) -> Bases:
    """Bases of the columns of matrices (N, P, k).

    Matrices that are the same at all N places, by their strides, are decomposed once, and so are the bases the same.
    """
    places, alike = len(matrices), matrices.stride(0) == 0
    left, values, _ = torch.linalg.svd(matrices[: 1 if alike else None].double(), full_matrices=False)  # n x P x k
    kept = values > rank_tolerance(values, matrices.shape[1:])[:, None]  # n x k
    found = Bases(left * kept[:, None], kept.sum(1), values)
    return Bases(*(part.expand(places, *part.shape[1:]) for part in found)) if alike else found


def orthonormal_basis(jacobian: Tensor) -> Tensor:
    """An orthonormal basis (P, r) of the space that the columns of a matrix (P, k) span, r its rank.

    As :func:`orthonormal_bases` gives it, each vector with its largest entry in absolute value positive.
    Where all singular values are equal, as for orthonormal columns, they have no order of strength and any
    rotation of them would do as well: then the columns themselves are kept, scaled to unit length.
    """
    vectors, (rank,), (values,) = orthonormal_bases(jacobian[None])
    if float(values[0]) > 0 and float(values[0] - values[-1]) <= EQUAL * float(values[0]):
        return with_fixed_signs(jacobian / values[0])
    return with_fixed_signs(vectors[0, :, :rank])


def with_fixed_signs(vectors: Tensor) -> Tensor:
    """Columns (P, k), each turned so that its largest entry in absolute value is positive."""
    strongest = vectors.abs().argmax(dim=0, keepdim=True)  # 1 x k
    signs = torch.gather(vectors, 0, strongest).sign()  # 1 x k
    return vectors * torch.where(signs == 0, torch.ones_like(signs), signs)

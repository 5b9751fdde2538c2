"""Tangent spaces: orthonormal bases of the columns of a decoder's Jacobian."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_atlas.geometry.spectra import rank_tolerance

EQUAL = 1e-9  # relative spread below which singular values count as equal


def orthonormal_basis(jacobian: Tensor) -> Tensor:
    """An orthonormal basis (P, r) of the space that the columns of a matrix (P, k) span, r its rank.

    The left singular vectors, strongest first, each with its largest entry in absolute value positive.
    Where all singular values are equal, as for orthonormal columns, they have no order of strength and any
    rotation of them would do as well: then the columns themselves are kept, scaled to unit length.
    """
    left, values, _ = torch.linalg.svd(jacobian, full_matrices=False)  # P x k, k
    if float(values[0]) > 0 and float(values[0] - values[-1]) <= EQUAL * float(values[0]):
        return with_fixed_signs(jacobian / values[0])
    rank = int((values > rank_tolerance(values, jacobian.shape)).sum())
    return with_fixed_signs(left[:, :rank])


def with_fixed_signs(vectors: Tensor) -> Tensor:
    """Columns (P, k), each turned so that its largest entry in absolute value is positive."""
    strongest = vectors.abs().argmax(dim=0, keepdim=True)  # 1 x k
    signs = torch.gather(vectors, 0, strongest).sign()  # 1 x k
    return vectors * torch.where(signs == 0, torch.ones_like(signs), signs)

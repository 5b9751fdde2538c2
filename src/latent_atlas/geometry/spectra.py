"""Singular values of matrices, and what follows from them: rank, condition, volume, how many of them count.

Those of a Jacobian J carry the scale that a training gave its codes. Those of J L, where L Lᵀ is the covariance of the
codes over the data, are per standard deviation of the code along the directions of the surface: no invertible linear
change of the codes changes them, since J L Lᵀ Jᵀ stays what it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from latent_atlas.errors import DataError


@dataclass(frozen=True)
class Spectrum:
    """What the singular values of one matrix say.

    Attributes
    ----------
    values : tensor (min(m, n),)
        Singular values, largest first.
    tolerance : float
        Values up to this count as zero.
    """

    values: Tensor
    tolerance: float

    @property
    def sigma_max(self) -> float:
        return float(self.values[0])

    @property
    def sigma_min(self) -> float:
        return float(self.values[-1])

    @property
    def rank(self) -> int:
        """How many singular values exceed the tolerance."""
        return int((self.values > self.tolerance).sum())

    @property
    def condition_number(self) -> float:
        """σ max / σ min; infinite for a singular matrix."""
        return self.sigma_max / self.sigma_min if self.sigma_min > 0 else float("inf")

    @property
    def log_volume(self) -> float:
        """Natural logarithm of the factor by which volumes grow: the sum of log σ; -inf for a singular matrix."""
        return float(self.values.double().log().sum())

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of σ / Σσ: 1 if one value is all, n for n equal ones; NaN if all are zero.

        Roy & Vetterli, "The Effective Rank: A Measure of Effective Dimensionality" (2007).
        """
        values = self.values.double()
        return float(torch.special.entr(values / values.sum()).sum().exp())

    @property
    def participation_ratio(self) -> float:
        """(Σσ²)² / Σσ⁴: 1 if one value is all, n for n equal ones; NaN if all are zero."""
        squares = (self.values.double() / self.values[0]).square()
        return float(squares.sum().square() / squares.square().sum())


def rank_tolerance(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The largest singular value that rounding alone can leave of a zero: max(m, n) · ε · σ max.

    Singular values (..., k) of matrices of a shape (m, n) give tolerances (...). ε is the spacing of their dtype; the
    convention of numpy and MATLAB (Press et al., "Numerical Recipes", section 2.6).
    """
    return max(shape) * torch.finfo(values.dtype).eps * values.amax(-1)


def spectrum(matrix: Tensor) -> Spectrum:
    """Spectrum of a matrix (m, n), computed in its own dtype."""
    values = torch.linalg.svdvals(matrix)  # min(m, n)
    return Spectrum(values, float(rank_tolerance(values, matrix.shape)))


def code_factor(codes: Iterable[Tensor]) -> Tensor:
    """A factor L (k, r) of the covariance L Lᵀ of codes, r the number of directions in which they vary.

    Nothing is squared: the factor comes from the triangle of a QR decomposition of the centred codes, and exists for a
    covariance of any rank. Directions whose variation is within the rounding of the codes are left out.

    Parameters
    ----------
    codes : tensors (n, k)
        All codes, in batches; in the precision in which they were computed.

    Raises
    ------
    DataError
        If there are fewer than two.
    """
    triangle, count, rounding = torch.empty(0), 0, 0.0
    waiting: list[Tensor] = []
    for part in codes:
        waiting.append(torch.cat([part.new_ones(len(part), 1), part], dim=1).double())  # n x (1 + k)
        count, rounding = count + len(part), torch.finfo(part.dtype).eps
        if sum(map(len, waiting)) > part.shape[1]:  # else a decomposition would be mostly of the triangle
            triangle, waiting = _triangle(triangle, waiting), []
    triangle = _triangle(triangle, waiting) if waiting else triangle
    if count < 2:
        raise DataError(f"{count} codes have no standard deviation: give the codes of at least two images")
    _, values, directions = torch.linalg.svd(triangle[1:, 1:], full_matrices=False)  # without the part along the mean
    size = torch.linalg.matrix_norm(triangle[:, 1:], 2)
    kept = values > max(8, triangle.shape[1]) * rounding * size
    return directions[kept].T * values[kept] / (count - 1) ** 0.5


def _triangle(triangle: Tensor, rows: list[Tensor]) -> Tensor:
    """That of a QR decomposition of these rows (n, 1 + k) below an earlier one: up to 1 + k rows."""
    return torch.linalg.qr(torch.cat([triangle, *rows] if len(triangle) else rows), mode="r").R

"""Singular values of matrices, and what follows from them: rank, condition, volume."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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

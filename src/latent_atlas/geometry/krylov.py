"""The Jacobian at one code of a decoder so large that only some products with it can be afforded.

Block Golub-Kahan bidiagonalisation with full reorthogonalisation (Golub & Kahan, "Calculating the Singular Values and
Pseudo-Inverse of a Matrix", 1965; Golub, Luk & Overton, "A Block Lanczos Method for Computing the Singular Values and
Corresponding Singular Vectors of a Matrix", 1981) gives orthonormal bases V of codes and U of images with J V = U R.
One basis serves all that is measured: its first columns are random, for the sums over the spectrum (stochastic Lanczos
quadrature; Ubaru, Chen & Saad, "Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature", 2017), and the next
ones are the pulled displacements, for their angles (the iterates are those of LSQR; Paige & Saunders 1982). scipy has
the same for one vector at a time and one purpose (``svds``, ``lsmr``); a block shares the decoder's own pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from scipy.special import stdtrit
from torch import Tensor

from latent_atlas.geometry.limits import ACCURATE
from latent_atlas.geometry.manifold import Manifold
from latent_atlas.geometry.spectra import Spectrum

Floats = NDArray[np.float64]
STARTS = 4  # random columns that the sums over the spectrum are estimated from
VALUES = 16  # singular values that are given, of those that the iterations find
CHANCE = 1e-3  # of the largest singular value to exceed its upper limit
FLOAT32 = 1e-5  # of the largest singular value: below, products in float32 tell nothing from rounding


class JacobianOperator(LinearOperator):
    """The Jacobian of a manifold at one code (1, k), for scipy: float64 arrays, in blocks of columns."""

    def __init__(self, manifold: Manifold, code: Tensor) -> None:
        super().__init__(np.float64, (manifold.pixel_count, manifold.latent_dim))
        self.manifold, self.code = manifold, code.to(manifold.dtype)

    def _matmat(self, vectors: Floats) -> Floats:
        return self._product(self.manifold.pushforward, vectors)

    def _rmatmat(self, vectors: Floats) -> Floats:
        return self._product(self.manifold.pullback, vectors)

    def _product(self, product: Callable[[Tensor, Tensor], Tensor], vectors: Floats) -> Floats:
        rows = torch.from_numpy(np.ascontiguousarray(vectors.T))[None].to(self.code)  # 1 x s x k or P
        return product(self.code, rows)[0].double().cpu().numpy().T


@dataclass(frozen=True)
class PartialSpectrum(Spectrum):
    """What some products say of all k singular values. What is not known of them is NaN.

    Attributes
    ----------
    values : tensor (r,)
        The largest ones that were found. The i-th is at most the i-th true one, but for the rounding in its bound.
    dimension : int
        k.
    bounds : tensor (r,)
        Within this distance of each lies a true singular value.
    sigma_max_high : float
        Upper limit of the largest singular value, which holds with a probability of 1 - :data:`CHANCE`.
    sigma_min_high : float
        The smallest singular value is at most this.
    rank_low, rank_high : int
        Limits of the rank.
    nodes, weights : arrays (m,) and (s, m)
        The spectrum as each of s random vectors sees it: node i stands for ``weights[:, i]`` singular values.
    earlier : tuple of two such arrays, or None
        The same before the last block of products, if there were several.
    products : int
        With the Jacobian and its transpose, one for each vector.
    """

    dimension: int
    bounds: Tensor
    sigma_max_high: float
    sigma_min_high: float
    rank_low: int
    rank_high: int
    nodes: Floats
    weights: Floats
    earlier: tuple[Floats, Floats] | None
    products: int

    @property
    def complete(self) -> bool:
        """Whether all singular values are known."""
        return len(self.values) == self.dimension

    @property
    def accurate(self) -> int:
        """How many of the largest values have a bound of at most :data:`.limits.ACCURATE` of themselves."""
        return int((self.bounds <= ACCURATE * self.values).cumprod(0).sum())

    @property
    def sigma_min(self) -> float:
        return super().sigma_min if self.complete else math.nan

    @property
    def rank(self) -> float:  # type: ignore[override]
        return self.rank_low if self.rank_low == self.rank_high else math.nan

    @property
    def condition_number(self) -> float:
        return super().condition_number if self.complete else math.nan

    @property
    def log_volume(self) -> float:
        """Its mean over random vectors is at least the true one, and falls with more products."""
        return self._log_volume(self.nodes, self.weights.mean(0))

    @property
    def effective_rank(self) -> float:
        return self._effective_rank(self.nodes, self.weights.mean(0))

    @property
    def participation_ratio(self) -> float:
        return self._participation_ratio(self.nodes, self.weights.mean(0))

    def error(self, name: str) -> float:
        """Half an interval of 95% for ``log_volume``, ``effective_rank`` or ``participation_ratio``.

        By the jackknife over the random vectors; the error of the quadrature is not in it.
        """
        if self.complete or math.isinf(getattr(self, name)):
            return 0.0
        statistic, count = getattr(self, f"_{name}"), len(self.weights)
        total = self.weights.sum(0)
        others = [statistic(self.nodes, (total - one) / (count - 1)) for one in self.weights]
        return float(stdtrit(count - 1, 0.975)) * math.sqrt((count - 1) * np.var(others))

    def change(self, name: str) -> float:
        """By how much the last block of products moved one of these: how far the quadrature has converged."""
        if self.earlier is None:
            return math.nan
        nodes, weights = self.earlier
        return float(getattr(self, name) - getattr(self, f"_{name}")(nodes, weights.mean(0)))

    def _log_volume(self, nodes: Floats, weights: Floats) -> float:
        if self.rank_high < self.dimension:
            return -math.inf
        return float(weights[nodes > 0] @ np.log(nodes[nodes > 0]))

    def _effective_rank(self, nodes: Floats, weights: Floats) -> float:
        if not nodes.any():
            return math.nan
        shares = nodes[nodes > 0] / (weights @ nodes)
        return float(np.exp(-(weights[nodes > 0] * shares) @ np.log(shares)))

    def _participation_ratio(self, nodes: Floats, weights: Floats) -> float:
        if not nodes.any():
            return math.nan
        squares = (nodes / nodes.max()) ** 2
        return float((weights @ squares) ** 2 / (weights @ squares**2))


@dataclass(frozen=True)
class Angles:
    """Limits of the angles between t displacements and a tangent space; NaN where a displacement is zero.

    Attributes
    ----------
    high_deg, low_deg : arrays (t,)
        In degrees. The lower limit is NaN where the smallest singular value has none either.
    residual : array (t,)
        Of the least-squares problem that gave the upper limit, |d - J y| / |d|.
    tangential : array (P, t)
        J y, in the tangent space.
    """

    high_deg: Floats
    low_deg: Floats
    residual: Floats
    tangential: Floats


class KrylovSpace:
    """Bases V (n, m) and U (P, l) with A V = U R that m products with a matrix A and its transpose give.

    Parameters
    ----------
    operator : LinearOperator (P, n)
        Its products may be those of float32.
    products : int
        m, how many vectors are multiplied by it, and as many by its transpose. If m is n, all is exact to rounding.
    displacements : array (P, t), optional
        Those whose angles will be asked for; t more products with the transpose.
    starts : int, optional
        Random columns, at least two.
    seed : int, optional
        Of the random columns.
    exact : LinearOperator (P, n), optional
        The same matrix with products in float64: two with it and two with its transpose check those of the operator,
        and one for each displacement gives its angle. Left out, the operator's are taken to be in float64.
    """

    def __init__(
        self,
        operator: LinearOperator,
        products: int,
        displacements: Floats | None = None,
        starts: int = STARTS,
        seed: int = 0,
        exact: LinearOperator | None = None,
    ) -> None:
        self.operator, self.exact = operator, operator if exact is None else exact
        pixels, n = operator.shape
        self.precision = max(operator.shape) * float(np.finfo(float).eps)  # of products in float64
        self.floor = self.precision if exact is None else FLOAT32
        self.products = 0
        m = min(products, n)
        self.starts = min(starts, m)
        moves = _units(np.zeros((pixels, 0)) if displacements is None else displacements)[0]
        self.right, self.left = np.zeros((n, m), order="F"), np.zeros((pixels, m), order="F")  # V, U
        self.triangle, self.transposed = np.zeros((m, m)), np.zeros((n, m), order="F")  # R, AᵀU
        self.steps: list[tuple[int, int]] = []  # columns of U and of V after each block
        draw = np.random.default_rng(seed)
        block = np.linalg.qr(draw.standard_normal((n, self.starts)))[0]  # uniform among orthonormal columns
        pulled, width = self._times(operator.rmatmat, moves), self.starts + moves.shape[1]
        self.blocks = m // width  # whole ones
        place = count = 0
        while place < m:
            for more in (pulled, draw.standard_normal((n, width))):  # the latter where the former repeat each other
                basis = np.concatenate([self.right[:, :place], block], axis=1)
                missing = min(width, m - place) - block.shape[1]
                new = _split(more, basis, self.precision * float(np.linalg.norm(more)))[2]
                block = np.concatenate([block, new[:, :missing]], axis=1)
            columns = slice(place, place + block.shape[1])
            image = self._times(operator.matmat, block)  # P x b
            size = max(float(np.linalg.norm(part, 2)) for part in (self.triangle, image))
            inside, beyond, new = _split(image, self.left[:, :count], self.precision * size)
            rows = slice(count, count + new.shape[1])
            pulled = self._times(operator.rmatmat, new)  # n x c
            self.right[:, columns], self.left[:, rows], self.transposed[:, rows] = block, new, pulled
            self.triangle[:count, columns], self.triangle[rows, columns] = inside, beyond
            place, count, block = columns.stop, rows.stop, np.zeros((n, 0))
            self.steps.append((count, place))
        self.left, self.triangle, self.transposed = (
            self.left[:, :count],
            self.triangle[:count],
            self.transposed[:, :count],
        )
        self.turned, self.values, rows_of = np.linalg.svd(self.triangle, full_matrices=False)  # l x l, l, l x m
        self.directions = rows_of.T

    def _times(self, product: Callable[[Floats], Floats], vectors: Floats) -> Floats:
        self.products += vectors.shape[1]
        rows = self.operator.shape[int(product.__name__ == "rmatmat")]
        return product(vectors) if vectors.shape[1] else np.zeros((rows, 0))

    def _exactly(self, product: Callable[[Floats], Floats], vectors: Floats) -> Floats:
        """Products in float64: one by one where those of the operator are in float32, for memory's sake."""
        if self.exact is self.operator or not vectors.shape[1]:
            return self._times(product, vectors)
        return np.concatenate([self._times(product, one) for one in np.hsplit(vectors, vectors.shape[1])], axis=1)

    @property
    def complete(self) -> bool:
        """Whether V is a basis of all codes."""
        return self.right.shape[1] == self.operator.shape[1]

    @property
    def vectors(self) -> tuple[Floats, Floats]:
        """Left and right singular vectors, (P, l) and (n, l), that belong to the values."""
        return self.left @ self.turned, self.right @ self.directions

    @cached_property
    def rounding(self) -> float:
        """What the rounding of products leaves open of each singular value.

        In float64 max(P, n) ε σ max. In float32 twice the largest error that float64 finds in the products with the
        first and the last of the singular vectors that are given.
        """
        largest = float(self.values[:1].sum())
        if self.exact is self.operator or not largest:
            return self.precision * largest
        checked = sorted({0, min(VALUES, len(self.values)) - 1})
        images, codes = self.left @ self.turned[:, checked], self.right @ self.directions[:, checked]
        errors = (
            self._exactly(self.exact.matmat, codes) - images * self.values[checked],
            self._exactly(self.exact.rmatmat, images) - self.transposed @ self.turned[:, checked],
        )
        return 2 * max(float(np.linalg.norm(error, axis=0).max()) for error in errors)

    def spectrum(self) -> PartialSpectrum:
        """What is known of the singular values; all of them if V is a basis of all codes."""
        n, (count, m), rounding = self.operator.shape[1], self.triangle.shape, self.rounding
        values, residuals = np.zeros(m), np.zeros(m)
        values[:count] = self.values
        pulled = self.transposed @ self.turned - (self.right @ self.directions) * self.values  # n x l
        residuals[:count] = np.linalg.norm(pulled, axis=0)
        tolerance = self.precision * float(values[0])
        shown = m if self.complete else min(VALUES, m)
        earlier = None
        if len(self.steps) > 1:
            _, nodes, rows = np.linalg.svd(self.triangle[: self.steps[-2][0], : self.steps[-2][1]], full_matrices=False)
            earlier = nodes, n * rows.T[: self.starts] ** 2
        return PartialSpectrum(
            torch.from_numpy(values[:shown].copy()),
            tolerance,
            dimension=n,
            bounds=torch.from_numpy(residuals[:shown] / math.sqrt(2) + rounding),
            sigma_max_high=self._upper_limit(float(values[0]) + rounding),
            sigma_min_high=float(values[-1]) + rounding,
            rank_low=int((values > max(self.floor * values[0], rounding)).sum()),
            rank_high=n - int((values <= tolerance).sum()),
            nodes=self.values,
            weights=np.ones((self.starts, count)) if self.complete else n * self.directions[: self.starts] ** 2,
            earlier=earlier,
            products=self.products,
        )

    def _upper_limit(self, largest: float) -> float:
        """What the largest singular value exceeds with a probability of at most :data:`CHANCE`.

        Kuczyński & Woźniakowski, "Estimating the Largest Eigenvalue by the Power and Lanczos Algorithms with a Random
        Start" (1992), theorem 4.1, for each of the random columns: all of them have to be unfortunate.
        """
        if self.complete:
            return largest
        n = self.operator.shape[1]
        root = (math.log(1.648 * math.sqrt(n)) - math.log(CHANCE) / self.starts) / max(1, 2 * self.blocks - 1)
        return largest / math.sqrt(1 - root**2) if root < 1 else math.inf

    def angles(self, displacements: Floats, sigma_min: float = 0.0) -> Angles:
        """Between displacements (P, t) and the span of the matrix's columns.

        Parameters
        ----------
        displacements : array (P, t)
            Any; the limits are narrow for those that the bases were made for.
        sigma_min : float, optional
            A lower limit of the smallest singular value that is not zero, where one is known.
        """
        moves, lengths = _units(displacements)
        kept = self.values > self.floor * self.values[:1].sum()
        solved = self.turned[:, kept].T @ (self.left.T @ moves) / self.values[kept, None]
        images = self._exactly(self.exact.matmat, self.right @ (self.directions[:, kept] @ solved))  # P x t
        sizes = np.linalg.norm(images, axis=0)
        units = np.divide(images, sizes, out=np.zeros_like(images), where=sizes > 0)
        tangential = units * (units * moves).sum(0)
        rest = moves - tangential
        residual = np.linalg.norm(rest, axis=0)
        high = np.degrees(np.arctan2(residual, np.linalg.norm(tangential, axis=0)))
        low = np.full_like(residual, math.nan)
        if self.complete and kept.any():
            sigma_min = max(sigma_min, float(self.values[kept][-1]) - self.rounding)
        if sigma_min > 0:
            hidden = np.linalg.norm(self._exactly(self.exact.rmatmat, rest), axis=0) / sigma_min  # at most so much of
            low = np.degrees(np.arcsin(np.sqrt((residual**2 - hidden**2).clip(0, 1))))  # the rest is in the span
        found, whole = np.full((3, len(lengths)), math.nan), np.zeros_like(displacements)
        found[:, lengths > 0] = high, low, residual
        whole[:, lengths > 0] = tangential * lengths[lengths > 0]
        return Angles(found[0], found[1], found[2], whole)


def _units(displacements: Floats) -> tuple[Floats, Floats]:
    """Displacements (P, t) that are not zero, scaled to unit length, and the lengths (t,) of all."""
    lengths = np.linalg.norm(displacements, axis=0)
    return displacements[:, lengths > 0] / lengths[lengths > 0], lengths


def _split(block: Floats, basis: Floats, least: float) -> tuple[Floats, Floats, Floats]:
    """Columns (P, b) as ``basis @ inside + new @ beyond``: inside (l, b), beyond (c, b), new (P, c) orthonormal.

    Directions of a length up to ``least`` are left out. All is projected twice, against rounding.
    """
    inside, rest = np.zeros((basis.shape[1], block.shape[1])), block
    for _ in range(2):
        part = basis.T @ rest
        rest, inside = rest - basis @ part, inside + part
    rotation, triangle = np.linalg.qr(rest)
    turned, lengths, rows = np.linalg.svd(triangle, full_matrices=False)
    kept = lengths > least
    new = rotation @ turned[:, kept]
    new, again = np.linalg.qr(new - basis @ (basis.T @ new))
    return inside, again @ (lengths[kept, None] * rows[kept]), new

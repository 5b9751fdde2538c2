"""The tangent space at one code where its Jacobian does not fit into the memory budget.

Blocks of the Jacobian's columns are computed, used and given up again: a block is pushed forward and pulled back, which
gives as many columns of the metric JᵀJ, without error but rounding. An orthonormal basis is Q = J T, where T is the
inverse of the metric's Cholesky factor R (k x k): the singular values of J are those of R, and only R and T are kept.
Where squaring would cost too much, T and R are those of Cholesky QR, shifted in the first of four rounds (Fukaya et
al., "Shifted Cholesky QR for Computing the QR Factorization of Ill-Conditioned Matrices", 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from latent_atlas.geometry.manifold import Manifold

ROUNDS = 4
SQUARED = 1e-3  # smallest over largest singular value in float64 above which the metric is enough


class BlockwiseTangentSpace:
    """The tangent space of a manifold at one code, in float64.

    Parameters
    ----------
    manifold : Manifold
        In float64.
    code : tensor (1, k)
    columns : int
        How many columns of the Jacobian are held at a time.

    Raises
    ------
    LinAlgError
        If the Jacobian is rank-deficient to rounding, so that it has no triangular factor that can be inverted.
    """

    def __init__(self, manifold: Manifold, code: Tensor, columns: int) -> None:
        self.manifold, self.code, self.columns = manifold, code, columns
        k, rounding = manifold.latent_dim, torch.finfo(torch.float64).eps
        self.basis = torch.eye(k, dtype=torch.float64, device=code.device)  # T, k x k: column i of Q is J T[:, i]
        self.triangle = self.basis.clone()  # R, k x k
        for turn in range(ROUNDS):
            gram = torch.cat([manifold.pullback(code, block)[0] @ self.basis for _, block in self._blocks()])  # k x k
            gram = (gram + gram.T) / 2
            if turn == 0:
                squares = torch.linalg.eigvalsh(gram)  # smallest first
                self.squared = bool(squares[0] > SQUARED**2 * squares[-1])
            if turn == 0 and not self.squared:  # else the squared rounding errors could leave it without a factor
                gram += 11 * (manifold.pixel_count * k + k * (k + 1)) * rounding * gram.trace() * torch.eye(k).to(gram)
            factor = torch.linalg.cholesky(gram).T  # k x k
            self.basis = torch.linalg.solve_triangular(factor, self.basis, upper=True, left=False)
            self.triangle = factor @ self.triangle
            if self.squared:
                return
        if not float((gram - torch.eye(k).to(gram)).abs().max()) < math.sqrt(rounding):
            raise LinAlgError("the basis did not become orthonormal")

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of Q: their places, and their vectors (1, s, P)."""
        for place in (slice(i, i + self.columns) for i in range(0, self.manifold.latent_dim, self.columns)):
            yield place, self.manifold.pushforward(self.code, self.basis.T[None, place])

    @property
    def singular_values(self) -> Tensor:
        """Of the Jacobian, largest first: (1, k)."""
        return torch.linalg.svdvals(self.triangle)[None]

    def normal(self, displacements: Tensor) -> Tensor:
        """The normal components of displacements (t, P), of the same shape; projected once more against rounding."""
        if self.squared:  # Q Qᵀ = J T Tᵀ Jᵀ
            return torch.cat([self._beyond(part) for part in displacements.split(self.columns)])
        rest = displacements.clone()
        for _ in range(2):
            parts = torch.zeros_like(rest)
            for _, block in self._blocks():
                parts += (rest @ block[0].T) @ block[0]  # t x s, s x P
            rest -= parts
        return rest

    def _beyond(self, displacements: Tensor) -> Tensor:
        """The normal components of some displacements by products with the Jacobian and the metric's inverse."""
        rest = displacements
        for _ in range(2):
            solved = self.manifold.pullback(self.code, rest[None])[0] @ self.basis @ self.basis.T  # t x k
            rest = rest - self.manifold.pushforward(self.code, solved[None])[0]
        return rest

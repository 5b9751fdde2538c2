"""Angles between a motion of an image and the tangent space of a manifold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from scipy.integrate import quad
from scipy.special import betaln
from torch import Tensor

from latent_atlas.errors import ModelError


@dataclass(frozen=True)
class Decomposition:
    """A motion, split by a tangent space.

    Attributes
    ----------
    within : tensor (P,)
        Its orthogonal projection on the tangent space.
    beyond : tensor (P,)
        What is left over.
    """

    within: Tensor
    beyond: Tensor

    @property
    def angle_deg(self) -> float | None:
        """Angle between the motion and the tangent space in degrees, 0 to 90; None where nothing moves.

        From the lengths of both parts by atan2, which is accurate at both ends of the range, where the
        arccosine of their quotient is not.
        """
        within, beyond = float(self.within.norm()), float(self.beyond.norm())
        if within == 0 and beyond == 0:
            return None
        return math.degrees(math.atan2(beyond, within))


def decompose(motion: Tensor, basis: Tensor) -> Decomposition:
    """Split a motion (P,) by a tangent space with an orthonormal basis (P, r).

    The residual is projected once more, so that what rounding left of the tangent space in it is removed
    and angles near 0° are accurate too.
    """
    within = basis @ (basis.T @ motion)  # P
    beyond = motion - within
    correction = basis @ (basis.T @ beyond)
    return Decomposition(within + correction, beyond - correction)


@cache
def random_subspace_angle_deg(k: int, pixels: int) -> float:
    """Expected angle in degrees between a fixed direction and a random k-dimensional subspace of R^pixels.

    The squared cosine of that angle θ has the distribution Beta(k/2, (P-k)/2), so that the density of θ is
    proportional to cos(θ)^(k-1) · sin(θ)^(P-k-1) on 0 to π/2; its mean is taken by quadrature. It lies
    close to arccos √(k/P).

    Raises
    ------
    ModelError
        If k is not between 1 and ``pixels``.
    """
    if not 1 <= k <= pixels:
        raise ModelError(f"a subspace of dimension {k} does not fit into {pixels} pixels: choose k from 1 to {pixels}")
    if k == pixels:
        return 0.0
    log_scale = math.log(2) - betaln(k / 2, (pixels - k) / 2)

    def weighted(theta: float) -> float:
        log_density = (k - 1) * math.log(math.cos(theta)) + (pixels - k - 1) * math.log(math.sin(theta))
        return theta * math.exp(log_scale + log_density)

    centre = math.acos(math.sqrt(k / pixels))
    edges = sorted(
        {1e-12, *(min(max(centre + d, 1e-12), math.pi / 2 - 1e-12) for d in (-0.3, 0.3)), math.pi / 2 - 1e-12}
    )
    mean = sum(quad(weighted, low, high, limit=200)[0] for low, high in pairwise(edges))
    return math.degrees(mean)


def angle_deg(motion: Tensor, basis: Tensor) -> float | None:
    """Angle in degrees between a motion (P,) and the span of an orthonormal basis (P, r); None for no motion."""
    return decompose(motion, basis).angle_deg

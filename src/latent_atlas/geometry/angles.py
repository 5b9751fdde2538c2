"""Angles between a motion of an image and the tangent space of a manifold."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


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


def angle_deg(motion: Tensor, basis: Tensor) -> float | None:
    """Angle in degrees between a motion (P,) and the span of an orthonormal basis (P, r); None for no motion."""
    return decompose(motion, basis).angle_deg

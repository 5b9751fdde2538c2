"""Chance levels: what a random subspace would give."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import scipy  # which loads a part of it when it is used

from latent_atlas.errors import ModelError


@cache
def chance_angle_deg(rank: int, pixels: int) -> float:
    """Expected angle in degrees between a fixed direction and a random subspace of dimension ``rank`` of R^pixels.

    The squared cosine of that angle θ has the distribution Beta(k/2, (P-k)/2), so that the density of θ is
    proportional to cos(θ)^(k-1) · sin(θ)^(P-k-1) on 0 to π/2; its mean is taken by quadrature. It lies
    close to arccos √(k/P).

    Raises
    ------
    ModelError
        If the rank is not between 0 and ``pixels``.
    """
    if not 0 <= rank <= pixels:
        raise ModelError(f"a subspace of dimension {rank} does not fit into {pixels} pixels: choose 0 to {pixels}")
    if rank in (0, pixels):
        return 0.0 if rank else 90.0
    k = rank
    log_scale = math.log(2) - scipy.special.betaln(k / 2, (pixels - k) / 2)

    def weighted(theta: float) -> float:
        log_density = (k - 1) * math.log(math.cos(theta)) + (pixels - k - 1) * math.log(math.sin(theta))
        return theta * math.exp(log_scale + log_density)

    centre = math.acos(math.sqrt(k / pixels))
    edges = sorted(
        {1e-12, *(min(max(centre + d, 1e-12), math.pi / 2 - 1e-12) for d in (-0.3, 0.3)), math.pi / 2 - 1e-12}
    )
    mean = sum(scipy.integrate.quad(weighted, low, high, limit=200)[0] for low, high in pairwise(edges))
    return math.degrees(mean)


def score(share: float, rank: int, pixels: int) -> float:
    """How far a share of squared length in a tangent space exceeds chance: (share - r/P) / (1 - r/P).

    0 is chance, 1 is the whole displacement, negative values are below chance; NaN where the tangent space is the
    whole space.
    """
    chance = rank / pixels
    return (share - chance) / (1 - chance) if rank < pixels else math.nan

"""The closest point of a manifold to an image, from the code that the encoder gives it.

An autoencoder's error has two parts: what its surface cannot draw, which is the distance to the closest point, and what
its encoder misses, which is the rest. At the closest point the residual is orthogonal to the tangent space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace

import torch
from torch import Tensor

from latent_atlas.geometry.manifold import Manifold
from latent_atlas.models.closest import Map, Refined, refined

STEPS, FINISH = 60, 12  # in float32, then in float64, at most
TOLERANCE = 1e-3  # cosine of the angle between residual and tangent space: about 1e-6 of the error is left to gain
APART = 1e-5  # smallest eigenvalue of a metric over its largest entry, above which it is computed in float32
MEMORY, TOGETHER = 64 * 2**20, 100  # bytes of the matrices of the images that are computed together, and their number


def closest(manifold: Manifold, x: Tensor, tolerance: float = TOLERANCE, steps: int = STEPS) -> tuple[Refined, Tensor]:
    """The points of a manifold that are closest to images (N, C, H, W), searched from the encoder's codes.

    The search is that of :func:`latent_atlas.models.closest.refined`: up to ``steps`` steps in float32, then up to
    :data:`FINISH` in float64. What is given back is computed in float64, but for well-conditioned metrics.

    Parameters
    ----------
    manifold : Manifold
    x : tensor (N, C, H, W)
        Floats in [0, 1], or uint8.
    tolerance : float
        Cosine of the angle between residual and tangent space up to which a point counts as the closest.
    steps : int

    Returns
    -------
    found : Refined
        In float64: codes, squared distances, cosines, steps.
    start : tensor (N,)
        The squared distances of decode(encode(x)).
    """
    fast, exact = manifold.to(torch.float32), manifold.to(torch.float64)
    size = max(1, min(TOGETHER, MEMORY // (64 * (manifold.latent_dim**2 + manifold.pixel_count))))
    parts = [_closest(fast, exact, part, tolerance, steps) for part in exact.checked(x).split(size)]
    found, starts = zip(*parts, strict=True)
    return Refined(*(torch.cat(columns) for columns in zip(*map(astuple, found), strict=True))), torch.cat(starts)


def _closest(fast: Manifold, exact: Manifold, x: Tensor, tolerance: float, steps: int) -> tuple[Refined, Tensor]:
    """The closest points to images (n, C, H, W) that fit into memory."""
    codes, targets = exact.encode(x), x.flatten(1)  # n x k, n x P

    def metric(z: Tensor) -> Tensor:
        found = fast.metric(z.to(fast.dtype)).to(z)  # m x k x k
        shift = APART * found.diagonal(dim1=1, dim2=2).amax(1)
        apart = torch.linalg.cholesky_ex(found - shift[:, None, None] * torch.eye(z.shape[1]).to(z))[1] != 0
        if apart.any():
            found[apart] = exact.metric(z[apart])
        return found

    def decode(surface: Manifold) -> Map:
        return lambda z: surface.decode(z.to(surface.dtype)).flatten(1).to(z)

    def pullback(surface: Manifold) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda z, w: surface.pullback(z.to(surface.dtype), w[:, None].to(surface.dtype))[:, 0].to(z)

    start = (decode(exact)(codes) - targets).square().sum(1)
    rough = refined(
        codes, targets, decode(fast), pullback(fast), metric, steps, max(tolerance, TOLERANCE), certain=False
    )
    better = (decode(exact)(rough.codes) - targets).square().sum(1) < start  # not only by the rounding of float32
    codes[better] = rough.codes[better]
    fine = refined(codes, targets, decode(exact), pullback(exact), metric, FINISH, tolerance)
    return replace(fine, steps=rough.steps + fine.steps), start

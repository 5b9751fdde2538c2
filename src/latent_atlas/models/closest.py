"""The closest point of a decoder's surface to an image, by the method of Levenberg and Marquardt in float64.

Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters" (1963). ``DRAWS`` codes are drawn from a
standard normal distribution, always the same ones. The ``STARTS`` whose images are closest are starting points, and the
best end point counts. It is a local minimum of the distance, not surely the global one. A search has settled when the
residual is orthogonal to the tangents, or when ``PATIENCE`` steps have reduced the squared distance by less than
``REDUCTION`` of it: minima at the kinks of a piecewise linear decoder have no orthogonal residual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp

DRAWS, STARTS, STEPS = 512, 4, 300
ANGLE, SETTLED = 1e-10, 1e-5  # cosine between residual and tangents: where the search ends, where it has succeeded
PATIENCE, REDUCTION = 20, 1e-8
TINY = torch.finfo(torch.float64).tiny
MEMORY = 128 * 2**20  # bytes of the Jacobians that are computed together
log = logging.getLogger("latent_atlas")


@torch.no_grad()
def closest(decode: Callable[[Tensor], Tensor], x: Tensor, latent_dim: int) -> Tensor:
    """Codes (N, k) of the points of a surface that are closest to images.

    Parameters
    ----------
    decode : callable
        Codes (M, k) to M images, in float64.
    x : tensor (N, C, H, W)
        In float64.
    latent_dim : int
        k.
    """
    targets = x.flatten(1)  # N x P
    if not len(x):
        return x.new_empty(0, latent_dim)
    draws = torch.randn(DRAWS, latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws[0] = 0
    draws = draws.to(x.device)
    size = max(1, MEMORY // (STARTS * targets.shape[1] * latent_dim * 8))
    images = torch.cat(
        [decode(part).reshape(len(part), targets.shape[1]) for part in draws.split(size * STARTS)]
    )  # D x P
    codes, failed = [], 0
    for part in targets.split(size):
        nearest = torch.cdist(part, images).topk(STARTS, dim=1, largest=False).indices  # n x S
        z, error, settled = _refined(decode, draws[nearest].flatten(0, 1), part.repeat_interleave(STARTS, dim=0))
        best = error.reshape(-1, STARTS).argmin(1, keepdim=True)  # n x 1
        failed += int((~settled.reshape(-1, STARTS).gather(1, best)).sum())
        codes.append(z.reshape(len(part), STARTS, -1).take_along_dim(best[:, :, None], dim=1)[:, 0])  # n x k
    if failed:
        log.warning(
            f"warning: the closest points of {failed} of {len(x)} images are not settled after {STEPS} steps; their "
            f"codes are the best that were found"
        )
    return torch.cat(codes)


def _refined(decode: Callable[[Tensor], Tensor], z: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From codes (M, k) downhill to local minima: codes, squared distances (M,), and which are settled (M,)."""

    def residual(at: Tensor, which: Tensor) -> Tensor:
        return decode(at).reshape(len(at), targets.shape[1]) - targets[which]  # m x P

    z, which = z.clone(), torch.arange(len(z), device=z.device)
    r = residual(z, which)  # M x P
    error, damping, cosine = r.square().sum(1), z.new_full((len(z),), 1e-3), torch.zeros_like(z[:, 0])
    before = error.clone()
    for number in range(1, STEPS + 1):
        jacobian = _jacobian(decode, z[which])  # m x P x k
        gradient = (jacobian.mT @ r[which][:, :, None])[:, :, 0]  # m x k
        normal = jacobian.mT @ jacobian  # m x k x k
        lengths = normal.diagonal(dim1=1, dim2=2).sqrt()  # m x k
        cosine[which] = (gradient.abs() / (lengths * error[which].sqrt()[:, None] + TINY)).amax(1)
        cosine[error <= 1e-24 * targets.square().sum(1)] = 0  # on the surface
        moving = cosine[which] > ANGLE
        which, gradient, normal, lengths = which[moving], gradient[moving], normal[moving], lengths[moving]
        if not len(which):
            break
        ridge = damping[which] * lengths.square().amax(1)
        eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        step = torch.linalg.solve(normal + ridge[:, None, None] * eye, -gradient)  # m x k
        ahead = residual(z[which] + step, which)
        lower = ahead.square().sum(1) < error[which]
        better = which[lower]
        z[better] += step[lower]
        r[better], error[better] = ahead[lower], ahead[lower].square().sum(1)
        damping[which] = torch.where(lower, damping[which] / 5, damping[which] * 4).clamp(1e-12, 1e16)
        if number % PATIENCE == 0:
            cosine[which[before[which] - error[which] <= REDUCTION * before[which]]] = 0
            before = error.clone()
        which = which[(cosine[which] > 0) & (lower | (step.norm(dim=1) > 1e-14 * (1 + z[which].norm(dim=1))))]
    return z, error, cosine <= SETTLED


def _jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Jacobians (M, P, k) at codes (M, k), column by column; by central differences where a decoder has no others."""
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    try:
        columns = [jvp(decode, (z,), (axis.expand_as(z).clone(),))[1].flatten(1) for axis in axes]
    except RuntimeError:
        columns = [(decode(z + 1e-5 * axis) - decode(z - 1e-5 * axis)).flatten(1) / 2e-5 for axis in axes]
    return torch.stack(columns, dim=2)

"""Geodesics between codes in the metric that pixel space induces: polygons of least energy, with what certifies them.

The energy of a polygon with n + 1 decoded nodes x is E = n/2 · Σ |x_(i+1) - x_i|². It is least for shortest polygons of
equal speed. It is minimized over the inner codes by the Gauss-Newton method with Levenberg's
damping (Nocedal & Wright, "Numerical Optimization", section 10.3), whose equations are block tridiagonal. No second
derivative of the decoder is needed, and the result does not depend on the coordinates of the code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latent_atlas.geometry.manifold import Manifold

STEPS = 100
CONVERGED = 1e-6  # relative gradient up to which a polygon counts as stationary
DAMPING, EASED, RAISED, STUCK = (
    1e-3,
    1 / 3,
    4.0,
    1e12,
)  # of the diagonal: at first, after a success, a failure; given up


@dataclass(frozen=True)
class Geodesics:
    """Polygons between B pairs of codes.

    Attributes
    ----------
    codes : tensor (B, n + 1, k)
        Both ends included.
    images : tensor (B, n + 1, C, H, W)
    energy, length : tensors (B,)
        In units of the pixels' range, squared for the energy.
    straight : tensor (B,)
        Distance of the ends in pixel space; no path is shorter.
    relative_gradient : tensor (B,)
        The largest tangential component of a second difference over the mean segment: zero on a geodesic.
    speed_defect : tensor (B,)
        Standard deviation of the segments' lengths over their mean: zero for equal speed.
    converged : bool tensor (B,)
        Whether the relative gradient is at most :data:`CONVERGED`.
    """

    codes: Tensor
    images: Tensor
    energy: Tensor
    length: Tensor
    straight: Tensor
    relative_gradient: Tensor
    speed_defect: Tensor
    converged: Tensor


def geodesics(surface: Manifold, path: Tensor, steps: int = STEPS) -> Geodesics:
    """Polygons of locally least energy, from the polygons ``path``, whose ends stay where they are.

    Parameters
    ----------
    surface : Manifold
        In float64.
    path : tensor (B, n + 1, k)
        Codes to start from, such as points of the straight line between the ends.
    steps : int
        At most; a pair whose polygon has converged takes no more.
    """
    codes = path.clone()
    images = _decoded(surface, codes)  # B x (n+1) x P
    energy, damping = _energy(images), path.new_full((len(path),), DAMPING)
    active = torch.arange(len(path))
    gradients = path.new_zeros(len(path))
    for step in range(steps + 1):
        jacobian = surface.jacobian(codes[active, 1:-1].flatten(0, 1)).unflatten(0, (len(active), -1))  # b x m x P x k
        pull, residual = jacobian.mT, images[active].diff(dim=1).diff(dim=1)  # b x m x k x P, b x m x P
        force = (pull @ residual[..., None])[..., 0]  # b x m x k; minus the gradient over n
        metric = pull @ jacobian  # b x m x k x k
        gradients[active] = _relative(metric, force, images[active])
        going = (gradients[active] > CONVERGED) & (damping[active] < STUCK)
        if step == steps or not going.any():
            break
        beside = pull[:, :-1] @ jacobian[:, 1:]  # b x (m-1) x k x k
        active, metric, beside, force = active[going], metric[going], beside[going], force[going]
        trial = codes[active]
        trial[:, 1:-1] += _solved(metric, beside, force, damping[active])
        moved = _decoded(surface, trial)
        less = _energy(moved) < energy[active]
        better = active[less]
        codes[better], images[better], energy[better] = trial[less], moved[less], _energy(moved[less])
        damping[active] *= torch.where(less, EASED, RAISED).to(damping)
    segments = images.diff(dim=1).norm(dim=-1)  # B x n
    return Geodesics(
        codes,
        images.unflatten(-1, surface.image_shape),
        energy,
        segments.sum(1),
        (images[:, -1] - images[:, 0]).norm(dim=-1),
        gradients,
        (segments.std(1, correction=0) / segments.mean(1)).nan_to_num(),
        gradients <= CONVERGED,
    )


def line(start: Tensor, end: Tensor, segments: int) -> Tensor:
    """Points of the straight lines between codes (B, k) and (B, k): (B, segments + 1, k)."""
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t


def _decoded(surface: Manifold, codes: Tensor) -> Tensor:
    """Codes (B, n, k) to images as vectors (B, n, P)."""
    return surface.decode(codes.flatten(0, 1)).flatten(1).unflatten(0, codes.shape[:2])


def _energy(images: Tensor) -> Tensor:
    """Energies (B,) of polygons (B, n + 1, P)."""
    return (images.shape[1] - 1) / 2 * images.diff(dim=1).square().sum((1, 2))


def _relative(metric: Tensor, force: Tensor, images: Tensor) -> Tensor:
    """Largest tangential component of the second differences over the mean segment: (b,)."""
    solved = torch.linalg.lstsq(metric, force[..., None]).solution[..., 0]  # b x m x k
    tangential = (solved * force).sum(-1).clamp(min=0).sqrt().amax(1)  # b
    return (tangential / images.diff(dim=1).norm(dim=-1).mean(1)).nan_to_num()  # 0 for a single point


def _solved(metric: Tensor, beside: Tensor, force: Tensor, damping: Tensor) -> Tensor:
    """The step (b, m, k) of the block tridiagonal system with blocks 2 G_i on the diagonal, -J_iᵀ J_(i+1) beside it."""
    least = math.sqrt(torch.finfo(metric.dtype).tiny)  # so that a dead direction can be solved for
    diagonal = 2 * metric + torch.diag_embed(damping[:, None, None] * metric.diagonal(dim1=-2, dim2=-1) + least)
    pivots: list[Tensor] = []
    sides: list[Tensor] = []
    for i in range(metric.shape[1]):  # block elimination, then substitution back
        pivot, side = diagonal[:, i], force[:, i]
        if i:
            factor = torch.linalg.solve(pivots[-1], -beside[:, i - 1]).mT  # b x k x k; lower block times the inverse
            pivot, side = pivot + factor @ beside[:, i - 1], side - (factor @ sides[-1][..., None])[..., 0]
        pivots.append(pivot)
        sides.append(side)
    found = [torch.linalg.solve(pivots[-1], sides[-1])]
    for i in range(metric.shape[1] - 2, -1, -1):
        found.append(torch.linalg.solve(pivots[i], sides[i] + (beside[:, i] @ found[-1][..., None])[..., 0]))
    return torch.stack(found[::-1], dim=1)

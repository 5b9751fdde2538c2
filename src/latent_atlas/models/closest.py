"""The closest point of a decoder's surface to an image: nonlinear least squares in the code.

The squared distance |f(z) - x|² has, up to a factor 2, the gradient Jᵀr with r = f(z) - x, and the Hessian JᵀJ plus a
part of second derivatives that grows with r. Gauss and Newton leave that part out, and Levenberg (1944) and Marquardt
(1963) add a multiple of the identity, which is raised until a step succeeds. Where residuals are large, this converges
slowly, and each step costs a Jacobian. Here JᵀJ is computed at the start and after the steps :data:`ANEW` only. In
between, each gradient, one product with Jᵀ, corrects the Hessian by the formula of Broyden, Fletcher, Goldfarb and
Shanno, as damped by Powell, which keeps it positive definite (Nocedal & Wright, "Numerical Optimization", 2006,
sections 10.3 and 18.3). Near a minimum the convergence is superlinear.

What is found is a local minimum of the distance, not surely the global one. At a minimum in a kink of a piecewise
linear decoder the residual need not be orthogonal to the tangents.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp, vjp

from latent_atlas.errors import counted

DRAWS, STARTS, STEPS = 512, 4, 300
ANEW = (3, 9, 27, 81, 243)  # steps after which the surface is linearised anew
DAMPING, EASED, RAISED = 1e-3, 1 / 5, 4.0  # of the largest diagonal entry: at first, after a success, after a failure
STUCK, LEAST = (
    1e10,
    1e-8,
)  # damping at which a search is given up if less was gained since the last Jacobian, else begun anew
SETTLED = 1e-7  # cosine of the angle between residual and tangent space
ON_SURFACE = 1e-24  # squared distance a pixel up to which an image lies on the surface
EPSILON, TINY = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny
MEMORY = 128 * 2**20  # bytes of the Jacobians that are computed together
log = logging.getLogger("latent_atlas")

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Refined:
    """Where the search for N closest points has ended.

    Attributes
    ----------
    codes : tensor (N, k)
    error : tensor (N,)
        Squared distances.
    cosine : tensor (N,)
        Of the angle between residual and tangent space: 0 for an image on the surface, NaN where a derivative is not
        finite.
    steps : tensor (N,)
        How many points were tried.
    stuck : bool tensor (N,)
        Whether steps, however short, no longer reduced the distance, though the residual is not orthogonal.
    """

    codes: Tensor
    error: Tensor
    cosine: Tensor
    steps: Tensor
    stuck: Tensor


@torch.no_grad()
def closest(decode: Map, x: Tensor, latent_dim: int) -> Tensor:
    """Codes (N, k) of the points of a surface that are closest to images.

    ``DRAWS`` codes are drawn from a standard normal distribution, always the same ones. The ``STARTS`` whose images are
    closest are starting points, and the best end point counts.

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

    def flat(z: Tensor) -> Tensor:
        return decode(z).reshape(len(z), targets.shape[1])  # m x P

    def metric(z: Tensor) -> Tensor:
        jacobian = _jacobian(flat, z)
        return jacobian.mT @ jacobian  # m x k x k

    def pullback(z: Tensor, r: Tensor) -> Tensor:
        try:
            pulled: Tensor = vjp(flat, z)[1](r)[0]  # m x k
        except RuntimeError:
            pulled = (_jacobian(flat, z).mT @ r[:, :, None])[:, :, 0]
        return pulled

    draws = torch.randn(DRAWS, latent_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draws[0] = 0
    draws = draws.to(x.device)
    size = max(1, MEMORY // (STARTS * targets.shape[1] * latent_dim * 8))
    images = torch.cat([flat(part) for part in draws.split(size * STARTS)])  # D x P
    codes, failed = [], 0
    for part in targets.split(size):
        nearest = torch.cdist(part, images).topk(STARTS, dim=1, largest=False).indices  # n x S
        starts, several = draws[nearest].flatten(0, 1), part.repeat_interleave(STARTS, dim=0)
        found = refined(starts, several, flat, pullback, metric, STEPS, SETTLED)
        best = found.error.reshape(-1, STARTS).argmin(1, keepdim=True)  # n x 1
        settled = (found.cosine <= SETTLED) | found.stuck
        failed += int((~settled.reshape(-1, STARTS).gather(1, best)).sum())
        codes.append(found.codes.reshape(len(part), STARTS, -1).take_along_dim(best[:, :, None], dim=1)[:, 0])  # n x k
    if failed:
        log.warning(
            f"warning: the closest points of {failed} of {counted(len(x), 'image')} are not settled after "
            f"{STEPS} steps; their codes are the best that were found"
        )
    return torch.cat(codes)


def _jacobian(decode: Map, z: Tensor) -> Tensor:
    """Jacobians (M, P, k) at codes (M, k), column by column; by central differences where a decoder has no others."""
    axes = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    try:
        columns = [jvp(decode, (z,), (axis.expand_as(z).clone(),))[1] for axis in axes]
    except RuntimeError:
        columns = [(decode(z + 1e-5 * axis) - decode(z - 1e-5 * axis)) / 2e-5 for axis in axes]
    return torch.stack(columns, dim=2)


def refined(
    z: Tensor,
    targets: Tensor,
    decode: Map,
    pullback: Callable[[Tensor, Tensor], Tensor],
    metric: Map,
    steps: int,
    tolerance: float,
    certain: bool = True,
) -> Refined:
    """From codes downhill to local minima of the distance to images. Images that have converged are no longer computed.

    Parameters
    ----------
    z : tensor (N, k)
        In float64, as all that the functions take and give.
    targets : tensor (N, P)
    decode, pullback, metric : callable
        Codes (M, k) to images (M, P); codes and vectors (M, P) to Jᵀ times the vectors (M, k); codes to JᵀJ (M, k, k).
    steps : int
        At most.
    tolerance : float
        Cosine of the angle between residual and tangent space up to which a point counts as the closest.
    certain : bool
        Whether all end points have a cosine by their own metric, not by that of a point before.
    """
    count, k = z.shape
    wide = targets.shape[1]
    z, taken = z.clone(), torch.zeros(count, dtype=torch.int64, device=z.device)
    r = decode(z) - targets  # N x P
    error, gradient = r.square().sum(1), pullback(z, r)  # N, N x k
    hessian, factor = z.new_empty(count, k, k), z.new_empty(count, k, k)  # the factor is that of the last metric
    damping, scale, cosine, linearised = (torch.full_like(error, value) for value in (DAMPING, 0, torch.nan, 0))
    running, due, moved, stuck = (torch.full_like(taken, value, dtype=torch.bool) for value in (1, 1, 1, 0))

    def cosines(gradient: Tensor, error: Tensor, at: Tensor) -> Tensor:
        """By the last metrics of the images ``at``: (m,)."""
        squares = (gradient * _solved(gradient, factor[at])).sum(1) / error.clamp(min=TINY)
        return squares.sqrt().masked_fill(error <= ON_SURFACE * wide, 0)

    for number in range(steps + 1):
        late = (number in ANEW) | (certain and number == steps)
        at = (due | (running & moved & late)).nonzero()[:, 0]
        if len(at):
            hessian[at] = metric(z[at])
            scale[at] = hessian[at].diagonal(dim1=1, dim2=2).amax(1)
            factor[at], failed = _factor(hessian[at], k * EPSILON * scale[at])
            cosine[at] = cosines(gradient[at], error[at], at).masked_fill(failed, torch.nan)
            damping[at] = damping[at].clamp(max=DAMPING)
            running[at] = (cosine[at] > tolerance) & ~stuck[at]  # not those that are not numbers
            linearised[at], moved[at], due[at] = error[at], False, False
        active = running.nonzero()[:, 0]
        if number == steps or not len(active):
            break
        matrix, slope, before = hessian[active], gradient[active], error[active]  # m x k x k, m x k, m
        solver, failed = _factor(matrix, damping[active] * scale[active])
        step = -_solved(slope, solver).masked_fill(failed[:, None], 0)  # m x k
        there = z[active] + step
        r = decode(there) - targets[active]  # m x P
        after, slope_there = r.square().sum(1), pullback(there, r)  # m, m x k
        turned = cosines(slope_there, after, active)
        level = after <= before * (1 + wide * EPSILON)  # where distances cannot tell, gradients do
        lower = (after < before) | (level & (turned < cosine[active]))
        model = (matrix @ step[:, :, None])[:, :, 0]  # m x k
        good = lower & (before - after > -0.25 * (step * (2 * slope + model)).sum(1))
        hessian[active] = _corrected(matrix, step, model, slope_there - slope)
        damping[active] *= torch.where(good, EASED, torch.where(lower, 1.0, RAISED)).to(z)
        taken[active] += 1
        better = active[lower]
        z[better], error[better], gradient[better] = there[lower], after[lower], slope_there[lower]
        cosine[better], moved[better] = turned[lower], True
        near, lost = better[turned[lower] <= tolerance / 2], active[damping[active] > STUCK]
        stuck[lost] = error[lost] >= (1 - LEAST) * linearised[lost]
        due[lost] = ~stuck[lost] | (moved[lost] & certain)
        due[near] = certain
        running &= ~stuck
        running[near] = certain
    return Refined(z, error, cosine, taken, stuck)


def _factor(matrix: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of matrices (m, k, k) plus multiples (m,) of the identity, and which have none (m,)."""
    matrix = matrix.clone()
    matrix.diagonal(dim1=1, dim2=2).add_((ridge + TINY)[:, None])
    factor, failed = torch.linalg.cholesky_ex(matrix)
    return factor, failed != 0


def _solved(right: Tensor, factor: Tensor) -> Tensor:
    """Solutions (m, k) of the systems with right-hand sides (m, k) and Cholesky factors (m, k, k)."""
    return torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]


def _corrected(hessian: Tensor, step: Tensor, model: Tensor, change: Tensor) -> Tensor:
    """Hessians (m, k, k) after steps (m, k), which they map to ``model``, and which changed gradients by ``change``."""
    bend, seen = (step * model).sum(1, keepdim=True), (step * change).sum(1, keepdim=True)  # m x 1
    share = torch.where(seen < 0.2 * bend, 0.8 * bend / (bend - seen), 1.0)
    change = share * change + (1 - share) * model
    right = torch.stack([change, model], dim=2)  # m x k x 2
    left = torch.stack([change / (step * change).sum(1, keepdim=True), -model / bend], dim=2)
    fit = (left * right).isfinite().all(2).all(1)[:, None, None]
    return torch.baddbmm(hessian, left.where(fit, 0), right.where(fit, 0).mT)

"""Geodesics between codes in the metric that pixel space induces: polygons of least energy, with what certifies them.

The energy of a polygon with n + 1 decoded nodes x is E = n/2 · Σ |x_(i+1) - x_i|² (Shao, Kumar & Fletcher, "The
Riemannian Geometry of Deep Generative Models", 2018). It is least for shortest polygons of equal speed. It is minimized
over the inner codes by L-BFGS (Nocedal & Wright, "Numerical Optimization", section 7.2), for many pairs as one batch: a
step costs one decoding and one pullback of a vector at each node. The first approximation of the Hessian is that of
Gauss and Newton for a metric that is the same along the path: n · tridiag(-1, 2, -1) ⊗ JᵀJ. The minimum does not
depend on the coordinates of the code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latent_atlas.geometry.manifold import BATCH, JACOBIAN_MEMORY, Manifold

STEPS = 120
CONVERGED = 1e-3  # relative gradient up to which a polygon counts as stationary
LOOSE, GAIN = 3e-2, 1e-3  # tolerance from further paths; the least share of energy by which one of them must be better
HISTORY = 20  # differences of gradients that approximate the Hessian
DAMPING = 1e-2  # of the mean of the metric's diagonal
DECREASE, SHORTER, STUCK = 1e-4, 0.3, 1e-6  # Armijo's condition; the next size of a step; the smallest one
CAUTION = 0.2  # of the tolerance, up to which an estimate is believed enough to compute the relative gradient


@dataclass(frozen=True)
class Geodesics:
    """Polygons between B pairs of codes.

    Attributes
    ----------
    codes : tensor (B, n + 1, k)
        Both ends included.
    images : tensor (B, n + 1, C, H, W)
    energy, length : tensors (B,)
        Of the polygon, in units of the pixels' range, squared for the energy; in float64.
    chord : tensor (B,)
        Distance of the ends in pixel space; no path is shorter.
    relative_gradient : tensor (B,)
        The largest tangential component of a second difference over the mean segment: the angle in radians by which the
        polygon turns within the surface; zero on a geodesic. To first order, the length is at most the square of
        n · relative_gradient / 24^(1/2), as a share of it, above the local minimum.
    speed_defect : tensor (B,)
        Standard deviation of the segments' lengths over their mean: zero for equal speed.
    converged : bool tensor (B,)
        Whether the relative gradient is at most the tolerance.
    iterations : tensor (B,)
        Steps that were tried on the way from the path that was kept.
    start : tensor (B,)
        Which of the starting paths was kept.
    other : tensor (B,)
        Least energy from the other paths over the energy: 1 if they lead to the same geodesic; NaN if there is none.
    """

    codes: Tensor
    images: Tensor
    energy: Tensor
    length: Tensor
    chord: Tensor
    relative_gradient: Tensor
    speed_defect: Tensor
    converged: Tensor
    iterations: Tensor
    start: Tensor
    other: Tensor


@torch.no_grad()
def geodesics(surface: Manifold, *paths: Tensor, steps: int = STEPS, tolerance: float = CONVERGED) -> Geodesics:
    """Polygons of locally least energy between the ends of ``paths``, which stay where they are.

    Parameters
    ----------
    surface : Manifold
        Float32 serves for tolerances down to about 1e-4.
    *paths : tensors (B, n + 1, k)
        Codes to start from, n at least 2. From the others than the first, polygons are minimized up to a tolerance of
        :data:`LOOSE`. One of them is kept, and minimized further, if its energy is less by a share of :data:`GAIN`.
    steps : int
        At most, from each path; a pair that has converged takes no more.
    tolerance : float
        Relative gradient up to which a polygon counts as stationary.
    """
    _, nodes, k = paths[0].shape
    numbers = nodes * surface.pixel_count * 16 + k * (4 * k + 2 * HISTORY * nodes)  # of a pair
    size = max(1, JACOBIAN_MEMORY // (numbers * paths[0].element_size()))
    found = [_together(surface, part, steps, tolerance) for part in zip(*(p.split(size) for p in paths), strict=True)]
    return Geodesics(*(torch.cat(columns) for columns in zip(*found, strict=True)))


def lengths(surface: Manifold, codes: Tensor) -> Tensor:
    """Lengths (B,) of the decoded polygons with nodes (B, n + 1, k), in units of the pixels' range, in float64."""
    size = max(1, BATCH // (codes.shape[1] * surface.pixel_count))
    return torch.cat([_segments(_decoded(surface, part)).sum(1) for part in codes.split(size)])


def _together(surface: Manifold, paths: tuple[Tensor, ...], steps: int, tolerance: float) -> tuple[Tensor, ...]:
    """The attributes of :class:`Geodesics` for so few pairs that all of them fit into memory."""
    first = _Descent(surface, paths[0])
    tried = [first, *(_Descent(surface, path, first.factor) for path in paths[1:])]
    for number, descent in enumerate(tried):
        descent.run(steps, LOOSE if number else tolerance, certified=not number)
    energies = torch.stack([descent.energy for descent in tried])  # paths x B
    start = torch.cat([energies[:1] * (1 - GAIN), energies[1:]]).argmin(0)  # B
    other = energies.scatter(0, start[None], torch.inf).amin(0)  # B
    kept = first
    if start.any():
        every = torch.arange(len(start), device=start.device)
        kept = _Descent(surface, torch.stack([descent.codes for descent in tried])[start, every], first.factor)
        kept.iterations = torch.stack([descent.iterations for descent in tried])[start, every]
        kept.run(steps, tolerance)
    kept.certify(kept.relative.isnan())
    segments, ends = _segments(kept.images), kept.images[:, [0, -1]]  # B x n, B x 2 x P
    return (
        kept.codes,
        kept.images.unflatten(-1, surface.image_shape),
        kept.energy,
        segments.sum(1),
        _segments(ends)[:, 0],
        kept.relative,
        (segments.std(1, correction=0) / segments.mean(1)).nan_to_num(),
        kept.relative <= tolerance,
        kept.iterations,
        start,
        torch.where(other.isfinite(), other / kept.energy, torch.nan),
    )


class _Descent:
    """Polygons on their way down, from codes (B, n + 1, k); m = n - 1 nodes move."""

    def __init__(self, surface: Manifold, codes: Tensor, factor: Tensor | None = None) -> None:
        pairs, nodes, k = codes.shape
        self.surface, self.codes = surface, codes.clone()
        self.images = _decoded(surface, codes)  # B x (n+1) x P
        self.energy, self.gradient = self._measured(codes, self.images)  # B, B x m x k
        self.relative = torch.full_like(self.energy, torch.nan)  # where it is not known for these codes
        self.iterations = torch.zeros(pairs, dtype=torch.long, device=codes.device)
        if factor is None:
            metric = surface.metric(codes[:, [0, nodes // 2, -1]].flatten(0, 1)).unflatten(0, (pairs, 3)).mean(1)
            level = DAMPING * metric.diagonal(dim1=1, dim2=2).mean(1) + torch.finfo(codes.dtype).tiny  # B
            factor = torch.linalg.cholesky(metric + level[:, None, None] * torch.eye(k).to(codes))  # B x k x k
        self.factor = factor
        beside = codes.new_ones(nodes - 3)
        springs = 2 * codes.new_ones(nodes - 2).diag() - beside.diag(1) - beside.diag(-1)  # m x m
        self.loose = torch.linalg.inv((nodes - 1) * springs)

    def run(self, steps: int, tolerance: float, certified: bool = True) -> None:
        """At most so many steps, until all pairs have converged, by an estimate if not certified, or are stuck."""
        history: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=HISTORY)
        size = torch.ones_like(self.energy)
        wanted = torch.full_like(self.energy, CAUTION * tolerance)
        for _ in range(steps):
            direction = self._direction(history)  # B x m x k
            slope = _inner(self.gradient, direction)  # B
            estimate = (-slope / (2 * self.energy)).nan_to_num().clamp(min=0).sqrt()
            going = estimate > wanted
            if certified:
                self.certify(self.relative.isnan() & ~going)
                going = ~(self.relative <= tolerance)
                wanted = torch.where(self.relative > tolerance, SHORTER * estimate, wanted)
            at = (going & (size > STUCK)).nonzero()[:, 0]  # b
            if not len(at):
                break
            trial, step = self.codes[at], size[at, None, None].to(direction) * direction[at]  # b x n+1 x k, b x m x k
            trial[:, 1:-1] += step
            images = self.images[at]  # b x n+1 x P
            images[:, 1:-1] = _decoded(self.surface, trial[:, 1:-1])
            energy, gradient = self._measured(trial, images)
            less = energy <= self.energy[at] + DECREASE * size[at] * slope[at]
            moved = at[less]
            s, y = (torch.zeros_like(self.gradient) for _ in range(2))
            s[moved], y[moved] = step[less], (gradient - self.gradient[at])[less]
            history.append((s, y, _inner(s, y)))
            self.iterations[at] += 1
            size[at] = torch.where(less, 1, SHORTER * size[at])
            self.codes[moved], self.images[moved], self.relative[moved] = trial[less], images[less], torch.nan
            self.energy[moved], self.gradient[moved] = energy[less], gradient[less]

    def certify(self, which: Tensor) -> None:
        """Find the relative gradient of these pairs: (B,) booleans."""
        memory = (
            self.images.shape[1] * self.surface.pixel_count * self.codes.shape[2] * 8
        )  # bytes of a pair's Jacobians
        for at in which.nonzero()[:, 0].split(max(1, JACOBIAN_MEMORY // memory)) if which.any() else ():
            images = self.images[at].double()  # b x n+1 x P
            jacobian = self.surface.jacobian(self.codes[at, 1:-1].flatten(0, 1)).double()  # b·m x P x k
            pull, residual = jacobian.mT, images.diff(dim=1).diff(dim=1).flatten(0, 1)  # b·m x k x P, b·m x P
            force = pull @ residual[..., None]  # b·m x k x 1
            solved = torch.linalg.lstsq(pull @ jacobian, force).solution  # b·m x k x 1
            tangential = (
                (solved * force).sum((1, 2)).clamp(min=0).sqrt().unflatten(0, (-1, images.shape[1] - 2)).amax(1)
            )  # b
            self.relative[at] = (tangential / _segments(images).mean(1)).nan_to_num()  # 0 for a single point

    def _measured(self, codes: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (b,) and their gradients (b, m, k) of polygons (b, n + 1, k) with images (b, n + 1, P)."""
        segments = images.shape[1] - 1
        pulled = -segments * images.diff(dim=1).diff(dim=1).flatten(0, 1)  # b·m x P
        gradient = self.surface.pullback(codes[:, 1:-1].flatten(0, 1), pulled[:, None])[:, 0]  # b·m x k
        return segments / 2 * _segments(images).square().sum(1), gradient.unflatten(0, (len(codes), -1))

    def _direction(self, history: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Minus the approximate inverse of the Hessian times the gradient: (B, m, k); the two-loop recursion."""
        q, factors = self.gradient, []
        for s, y, curvature in reversed(history):
            factors.append(_share(_inner(s, q), curvature).to(q))
            q = q - factors[-1] * y
        q = torch.cholesky_solve((self.loose @ q).mT, self.factor).mT
        for (s, y, curvature), factor in zip(history, reversed(factors), strict=True):
            q = q + (factor - _share(_inner(y, q), curvature).to(q)) * s
        return -q


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products (B,) of (B, m, k), in float64."""
    return (a.double() * b).sum((1, 2))


def _share(product: Tensor, curvature: Tensor) -> Tensor:
    """Quotients (B, 1, 1), zero where the curvature is not positive."""
    return torch.where(curvature > 0, product / curvature, 0)[:, None, None]


def _decoded(surface: Manifold, codes: Tensor) -> Tensor:
    """Codes (B, n, k) to images as vectors (B, n, P)."""
    parts = codes.flatten(0, 1).split(max(1, BATCH // surface.pixel_count))
    return torch.cat([surface.decode(part).flatten(1) for part in parts]).unflatten(0, codes.shape[:2])


def _segments(images: Tensor) -> Tensor:
    """Lengths (B, n) of the segments of polygons (B, n + 1, P), in float64."""
    return images.double().diff(dim=1).norm(dim=-1)

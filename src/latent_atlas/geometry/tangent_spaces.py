"""Spectra and angles at many images at once: what is cheap enough to ask of a whole dataset.

Singular values come from the k x k Gram matrices of Jacobians, and projections from the normal equations with one
step of refinement; both in float64, whatever the Jacobians were computed in. Squaring costs accuracy where singular
values lie far apart, and a matrix where it would cost more than :data:`BORDER` allows goes through a singular value
decomposition, by way of a QR decomposition, instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from latent_atlas.data.images import as_float, as_images
from latent_atlas.geometry.blocks import SQUARED, BlockwiseTangentSpace
from latent_atlas.geometry.krylov import STARTS, Angles, JacobianOperator, KrylovSpace, PartialSpectrum
from latent_atlas.geometry.manifold import Manifold
from latent_atlas.geometry.spectra import rank_tolerance
from latent_atlas.geometry.transformations import Transformation

# Smallest over largest singular value above which Gram matrices are used, by the precision of the Jacobian. The error
# that squaring leaves in the smallest singular value σ is about ε σ max² / σ, ε of float64: 2e-10 of σ at the border
# for Jacobians in float64. Below the border of float32 a direction may be nothing but rounding.
BORDER = {torch.float64: SQUARED, torch.float32: 1e-5}
MEMORY = 192 * 2**20  # bytes that a batch of Jacobians, their copies in float64 and their Gram matrices may take
WHOLE = 512 * 2**20  # bytes that those of a single image may take
EXACT_UP_TO = 2048  # latent coordinates up to which all columns of a Jacobian are computed
PRODUCTS = 128  # vectors that are multiplied by a Jacobian of more, and by its transpose


class TangentSpaces:
    """The tangent spaces that many Jacobians span.

    Parameters
    ----------
    jacobian : tensor (N, P, k)
        In float64 or float32, with k <= P.

    Raises
    ------
    ValueError
        If it is of another precision or shape, or holds what is not a number.
    """

    def __init__(self, jacobian: Tensor) -> None:
        if jacobian.dtype not in BORDER or jacobian.dim() != 3 or jacobian.shape[2] > jacobian.shape[1]:
            raise ValueError(
                f"Jacobians must be float64 or float32 of shape (N, P, k) with k <= P, not {jacobian.dtype} of shape "
                f"{tuple(jacobian.shape)}"
            )
        broken = (~jacobian.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        if broken:
            raise ValueError(f"the Jacobian at image {broken[0]} of this batch is not finite: look at its code")
        self.precision = jacobian.dtype
        self.tangents = jacobian.mT.double().contiguous()  # N x k x P

    @cached_property
    def singular_values(self) -> Tensor:
        """Largest first, in float64: (N, k)."""
        if not self._needs_qr.any():
            return self._roots
        values = self._roots.clone()
        values[self._needs_qr] = torch.linalg.svdvals(self._factors[1])
        return values

    @property
    def rank(self) -> Tensor:
        """Dimension of each tangent space: singular values that are more than rounding: (N,)."""
        return (self.singular_values > self._tolerance(self.singular_values)[:, None]).sum(1)

    def scaled_values(self, factor: Tensor) -> Tensor:
        """Singular values (N, r) of the Jacobians times a matrix (k, r), largest first, in float64."""
        if not factor.shape[1]:
            return self.tangents.new_empty(len(self.tangents), 0)
        return TangentSpaces(self.tangents.mT @ factor).singular_values

    def angles_deg(self, displacements: Tensor) -> Tensor:
        """Angles in degrees between displacements (N, t, P) and the tangent spaces (N, t); NaN where one is zero.

        From the lengths of both components by atan2, which is accurate near 0 and near 90 degrees.
        """
        tangential, normal = self.components(displacements)
        angles = torch.rad2deg(torch.atan2(normal.norm(dim=-1), tangential.norm(dim=-1)))  # N x t
        return angles.masked_fill(~displacements.any(dim=-1), math.nan)

    def components(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements (N, t, P) split into tangential and normal components, (N, t, P) each, in float64.

        The normal component is projected once more, so that what rounding left in it of the tangent space is removed.
        """
        vectors = displacements.double()
        tangential = self._projected(vectors)
        correction = self._projected(vectors - tangential)
        return tangential + correction, vectors - tangential - correction

    def _projected(self, vectors: Tensor) -> Tensor:
        """Orthogonal projections of vectors (N, t, P) on the tangent spaces, before refinement."""
        projected = torch.empty_like(vectors)
        qr = self._needs_qr
        lost = self.rank < self.tangents.shape[1]  # N
        if qr.any():
            basis = self._factors[0]  # n x P x k
            projected[qr] = (vectors[qr] @ basis) @ basis.mT
        plain = slice(None) if not qr.any() else ~qr
        tangents = self.tangents[plain]  # n x k x P
        factors, failed = self._cholesky
        lost[plain] |= failed != 0
        projected[plain] = torch.cholesky_solve(tangents @ vectors[plain].mT, factors).mT @ tangents
        for one in lost.nonzero().flatten().tolist():
            basis = self._basis(one)  # P x r
            projected[one] = (vectors[one] @ basis) @ basis.mT
        return projected

    @cached_property
    def _cholesky(self) -> tuple[Tensor, Tensor]:
        """Cholesky factors (n, k, k) of the Gram matrices that need no QR, and which of them failed (n,)."""
        plain = slice(None) if not self._needs_qr.any() else ~self._needs_qr
        return torch.linalg.cholesky_ex(self._gram[plain])

    @property
    def uncertain(self) -> Tensor:
        """For which matrices float32 cannot tell the smallest singular value from rounding: (N,)."""
        apart = self._apart(self.singular_values)
        return apart if self.precision == torch.float32 else torch.zeros_like(apart)

    @cached_property
    def _gram(self) -> Tensor:
        return self.tangents @ self.tangents.mT  # N x k x k

    @cached_property
    def _roots(self) -> Tensor:
        """Singular values by way of the Gram matrices: (N, k)."""
        return torch.linalg.eigvalsh(self._gram).flip(-1).clamp(min=0).sqrt()

    @cached_property
    def _needs_qr(self) -> Tensor:
        """Which matrices go through a QR decomposition: (N,)."""
        return self._apart(self._roots)

    @cached_property
    def _factors(self) -> tuple[Tensor, Tensor]:
        """QR decompositions of the n matrices that need one: (n, P, k) and (n, k, k)."""
        return torch.linalg.qr(self.tangents[self._needs_qr].mT)

    def _tolerance(self, values: Tensor) -> Tensor:
        """Singular values up to which directions count as rounding: (N,)."""
        rounding = rank_tolerance(values, self.tangents.shape[1:])
        return rounding.maximum(BORDER[torch.float32] * values[:, 0]) if self.precision == torch.float32 else rounding

    def _apart(self, values: Tensor) -> Tensor:
        """For which matrices singular values lie too far apart for squaring: (N,)."""
        return values[:, -1] <= BORDER[self.precision] * values[:, 0]

    def _basis(self, one: int) -> Tensor:
        """An orthonormal basis (P, r) of one tangent space, without directions that are but rounding."""
        _, values, right = torch.linalg.svd(self.tangents[one], full_matrices=False)  # k, k x P
        tolerance = self._tolerance(values[None])
        return right[values > tolerance].mT


class Limits(NamedTuple):
    """What some products with the Jacobian at one image say: of its spectrum, times the matrix as well, and of angles.

    ``scaled`` is None where no matrix was asked for, or one without columns.
    """

    spectrum: PartialSpectrum
    scaled: PartialSpectrum | None
    angles: Angles


@dataclass(frozen=True)
class Population:
    """What was measured at N images.

    Attributes
    ----------
    singular_values : tensor (N, k)
        Of the decoder's Jacobian at each image's code, largest first, in float64.
    rank : tensor (N,)
        Dimension of the tangent space at each image.
    angles_deg : tensor (N, t)
        Angle between each displacement of the reconstructed image and the tangent space there; NaN where it is zero.
    transformations : tuple of str
        In the order of the columns.
    scaled_values : tensor (N, r)
        Singular values of the Jacobians times the matrix (k, r) that was asked for; of no columns if none was.
    limits : tuple of N Limits, or empty
        What is known where not all columns of the Jacobians were computed. The numbers above are then one-sided: the
        largest singular values from below, ranks and angles from above.
    """

    singular_values: Tensor
    rank: Tensor
    angles_deg: Tensor
    transformations: tuple[str, ...]
    scaled_values: Tensor
    limits: tuple[Limits, ...] = ()


def measure(
    manifold: Manifold,
    pixels: Tensor | np.ndarray,
    transformations: Mapping[str, tuple[Transformation, float]],
    report: Callable[[int], None] = lambda done: None,
    device: torch.device | None = None,
    factor: Tensor | None = None,
    exact_up_to: int = EXACT_UP_TO,
    products: int = PRODUCTS,
) -> Population:
    """Spectra and invariance angles at all of the images (N, C, H, W).

    Parameters
    ----------
    manifold : Manifold
        It measures in its own precision: float32 is twice as fast, float64 exact. Images whose singular values lie too
        far apart for float32 are measured in float64 in either case; where that is a whole batch, so is all the rest.
    pixels : tensor or array (N, C, H, W), (C, H, W), or (N, H, W) for one channel
        uint8, or floats in [0, 1].
    transformations : mapping of name to (transformation, step)
        Applied to the reconstructed images; none leaves out the angles.
    report : callable, optional
        Called with the number of images done, after each batch.
    device : torch.device, optional
        Where to compute; by default where the manifold and the images are.
    factor : float64 tensor (k, r), optional
        The singular values of the Jacobians times this matrix are measured too, such as that of
        :func:`latent_atlas.geometry.spectra.code_factor`.
    exact_up_to : int, optional
        Up to so many latent coordinates all columns of the Jacobians are computed. Above, some products with them give
        limits (:class:`.krylov.KrylovSpace`).
    products : int, optional
        How many vectors are then multiplied by each Jacobian, and as many by its transpose; fewer where their images
        would take more than :data:`WHOLE`.

    Raises
    ------
    DataError
        If the images do not fit the manifold.

    Notes
    -----
    Memory stays below about a GiB on top of the manifold's and the images', whatever N is. Where the Jacobian of a
    single image takes more, it is computed in blocks of columns; only one that is rank-deficient is
    then held whole.
    """
    pixels = as_images(pixels, manifold.image_shape)
    surface = manifold if device is None else manifold.to(manifold.dtype, device)
    p, k = manifold.pixel_count, manifold.latent_dim
    factor = torch.empty(k, 0, dtype=torch.float64) if factor is None else factor
    if k > exact_up_to:
        return _by_products(surface, pixels, transformations, report, device, factor, products)
    each = p * (20 * (k + factor.shape[1]) + 40 * len(transformations)) + 40 * k * k  # bytes
    batch = MEMORY // each or int(each <= WHOLE)
    columns = None if batch else max(1, MEMORY // (64 * p))  # of one Jacobian that are held at a time
    if columns:
        surface = surface.to(torch.float64)
    factor = factor.to(device or pixels.device)
    count = len(pixels)
    results = [  # allocated once: small tensors that stay among large ones that go would leave holes in the memory
        torch.empty(count, k, dtype=torch.float64), torch.empty(count, dtype=torch.int64),
        torch.empty(count, factor.shape[1], dtype=torch.float64),
        torch.empty(count, len(transformations), dtype=torch.float64),
    ]  # fmt: skip
    done = 0
    exact: Manifold | None = None

    def measured(surface: Manifold, part: Tensor) -> tuple[list[Tensor], Tensor]:
        codes = surface.encode(as_float(part, surface.dtype))  # n x k
        moves = _displacements(surface.decode(codes), transformations) if transformations else None  # n x t x P
        if columns and len(codes):
            with suppress(LinAlgError):  # one that is rank-deficient is measured whole
                return _blockwise(surface, codes, moves, columns, factor), torch.zeros(1, dtype=torch.bool)
        jacobian = surface.jacobian(codes)  # n x P x k
        same = len(codes) > 1 and jacobian.stride(0) == 0  # everywhere, as that of a subspace
        spaces = TangentSpaces(jacobian[:1] if same else jacobian)
        found = [spaces.singular_values, spaces.rank, spaces.scaled_values(factor)]
        if moves is not None:
            found.append(spaces.angles_deg(moves.flatten(0, 1)[None] if same else moves).reshape(moves.shape[:2]))
        if same:
            found[:3] = [part.expand(len(codes), *part.shape[1:]).clone() for part in found[:3]]
        return found, spaces.uncertain.expand(len(codes))

    for part in pixels.split(max(1, batch)):
        part = part.to(device)
        found, again = measured(surface, part)
        if again.any():
            exact = exact or surface.to(torch.float64, device)
            better, _ = measured(exact, part[again])
            for old, new in zip(found, better, strict=True):
                old[again] = new
            if again.all():
                surface = exact
        for whole, some in zip(results, found, strict=False):  # without transformations there are no angles
            whole[done : done + len(part)] = some
        done += len(part)
        report(done)
    values, ranks, scaled, angles = results
    return Population(values, ranks, angles, tuple(transformations), scaled)


def _blockwise(surface: Manifold, code: Tensor, moves: Tensor | None, columns: int, factor: Tensor) -> list[Tensor]:
    """At one code (1, k), from blocks of its Jacobian's columns: what is measured of a batch."""
    space = BlockwiseTangentSpace(surface, code, columns)
    values = space.singular_values
    found = [values, (values > rank_tolerance(values, (surface.pixel_count, surface.latent_dim))).sum(1)]
    found.append(torch.linalg.svdvals(space.triangle @ factor)[None])
    if moves is not None:
        normal = space.normal(moves[0])  # t x P
        angles = torch.rad2deg(torch.atan2(normal.norm(dim=-1), (moves[0] - normal).norm(dim=-1)))
        found.append(angles.masked_fill(~moves[0].any(dim=-1), math.nan)[None])
    return found


def _by_products(
    surface: Manifold,
    pixels: Tensor,
    transformations: Mapping[str, tuple[Transformation, float]],
    report: Callable[[int], None],
    device: torch.device | None,
    factor: Tensor,
    products: int,
) -> Population:
    """What :func:`measure` gives of more coordinates than all columns are computed of."""
    scale = factor.cpu().numpy()
    found: list[Limits] = []
    for image in pixels.split(1):
        code = surface.encode(as_float(image.to(device), surface.dtype))  # 1 x k
        moves = _displacements(surface.decode(code), transformations)[0] if transformations else None  # t x P
        space = KrylovTangentSpace(surface, code, moves, products)
        angles = space.angles(code.new_zeros(0, surface.pixel_count) if moves is None else moves)
        spectrum, scaled = space.krylov.spectrum(), None
        if scale.shape[1]:
            times = aslinearoperator(scale)
            whole, exact = (part @ times if part is not None else None for part in (space.operator, space.exact))
            del space  # its bases are large
            scaled = KrylovSpace(whole, _affordable(whole, products), exact=exact).spectrum()
        found.append(Limits(spectrum, scaled, angles))
        report(len(found))

    def together(parts: list[Tensor], empty: int) -> Tensor:
        return torch.stack(parts) if parts else torch.empty(0, empty, dtype=torch.float64)

    return Population(
        together([one.spectrum.values for one in found], 0),
        torch.tensor([one.spectrum.rank_high for one in found], dtype=torch.int64),
        together([torch.from_numpy(one.angles.high_deg) for one in found], len(transformations)),
        tuple(transformations),
        together([one.scaled.values if one.scaled else torch.empty(0, dtype=torch.float64) for one in found], 0),
        tuple(found),
    )


class KrylovTangentSpace:
    """The tangent space at one code as far as some products show it, with the methods of :class:`TangentSpaces`.

    Parameters
    ----------
    surface : Manifold
    code : tensor (1, k)
    displacements : tensor (t, P), optional
        Those that it will be compared with.
    products : int, optional
        As of :func:`measure`.
    """

    def __init__(
        self, surface: Manifold, code: Tensor, displacements: Tensor | None = None, products: int = PRODUCTS
    ) -> None:
        single = surface.dtype != torch.float64
        self.operator = JacobianOperator(surface, code)
        self.exact = JacobianOperator(surface.to(torch.float64), code) if single else None
        moves = None if displacements is None else _columns(displacements)
        self.krylov = KrylovSpace(self.operator, _affordable(self.operator, products), moves, exact=self.exact)

    @cached_property
    def rank(self) -> Tensor:
        """The largest that the tangent space may have: (1,)."""
        return torch.tensor([self.krylov.spectrum().rank_high])

    def angles(self, displacements: Tensor) -> Angles:
        """Limits of the angles between displacements (t, P) and the tangent space."""
        return self.krylov.angles(_columns(displacements))

    def angles_deg(self, displacements: Tensor) -> Tensor:
        """Upper limits of the angles between displacements (1, t, P) and the tangent space: (1, t)."""
        return torch.from_numpy(self.angles(displacements[0]).high_deg)[None]

    def components(self, displacements: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements (1, t, P) as parts in the tangent space and the shortest rests that were found."""
        tangential = torch.from_numpy(self.angles(displacements[0]).tangential.T)[None].to(displacements)
        return tangential, displacements - tangential


def _affordable(operator: LinearOperator, products: int) -> int:
    """How many vectors are multiplied by a matrix, so that their images take no more than they may."""
    pixels, codes = operator.shape
    return max(2 * STARTS, min(products, WHOLE // (8 * (pixels + 2 * codes))))


def _columns(displacements: Tensor) -> np.ndarray:
    """Displacements (t, P) as an array (P, t) in float64."""
    return displacements.double().cpu().numpy().T


def _displacements(image: Tensor, transformations: Mapping[str, tuple[Transformation, float]]) -> Tensor:
    """What each step changes in images (n, C, H, W): (n, t, C·H·W)."""
    moved = [entry.displacement(image, step).flatten(1) for entry, step in transformations.values()]
    return torch.stack(moved, dim=1)

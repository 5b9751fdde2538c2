"""True tangent spaces against those of manifolds: planted ones, chance, and directions that are zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from surfaces import Chart, orthonormal, random
from torch import Tensor

from latent_atlas.data.figures import PERIODS, directions, draw, ranges
from latent_atlas.errors import DataError, LatentAtlasWarning
from latent_atlas.geometry.factors import held
from latent_atlas.geometry.manifold import Autoencoder

SHAPE = (1, 12, 14)
PIXELS = 12 * 14
KINDS = [*PERIODS] * 3


def some_factors(kinds: Sequence[str] = KINDS, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    low, high = ranges(shape)
    share = torch.rand(len(kinds), len(low), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = low + (high - low) * share
    found[:, 2] *= 180
    return found


def flat(basis: Tensor, shape: tuple[int, int, int] = SHAPE) -> Autoencoder:
    """The subspace of the columns (P, k), which need not be orthonormal."""
    inverse = torch.linalg.pinv(basis)
    chart = Chart(lambda x: x.flatten(1) @ inverse.T, lambda z: (z @ basis.T).reshape(-1, *shape))
    return Autoencoder(chart, basis.shape[1], shape)


def test_a_planted_tangent_space_is_held_whole() -> None:
    """In any basis of it, and with further directions beside it."""
    factors = some_factors(["triangle"])
    true = directions(["triangle"], factors, SHAPE)[0].T  # P x 5
    image = draw(["triangle"], factors, SHAPE)
    mixed = torch.cat([true @ random(5, 5), random(PIXELS, 2, seed=1)], 1)
    found = held(flat(mixed), image, ["triangle"], factors)
    assert found.angles_deg.max() < 1e-8
    assert float(found.share) == pytest.approx(1, abs=1e-12)
    assert (found.true_rank.tolist(), found.rank.tolist()) == ([5], [7])


def test_a_part_of_it_is_held_as_far_as_it_reaches() -> None:
    """x and y alone: two of the five dimensions, whole."""
    factors = some_factors(["rectangle"])
    true = directions(["rectangle"], factors, SHAPE)[0].T  # P x 5
    found = held(flat(true[:, :2]), draw(["rectangle"], factors, SHAPE), ["rectangle"], factors)
    assert found.angles_deg[0, :2].max() < 1e-8
    assert float(found.share) == pytest.approx(2 / 5, abs=1e-12)
    orthogonal = orthonormal(PIXELS, 9)
    orthogonal = torch.linalg.qr(orthogonal - true @ torch.linalg.lstsq(true, orthogonal).solution)[0]
    none = held(flat(orthogonal), draw(["rectangle"], factors, SHAPE), ["rectangle"], factors)
    assert none.angles_deg.min() > 90 - 1e-8
    assert float(none.share) < 1e-20


def test_random_subspaces_hold_their_chance() -> None:
    factors = some_factors()
    images = draw(KINDS, factors, SHAPE)
    shares = torch.stack([held(flat(orthonormal(PIXELS, 6, seed)), images, KINDS, factors).share for seed in range(40)])
    # of one direction the variance is about 2 r / P² (Beta(r/2, (P - r)/2)); those of one subspace are not independent
    assert float(shares.mean()) == pytest.approx(6 / PIXELS, abs=4 * math.sqrt(2 * 6) / PIXELS / math.sqrt(40))


def test_the_share_is_that_of_the_principal_angles() -> None:
    factors = some_factors()
    basis = random(PIXELS, 6)
    found = held(flat(basis), draw(KINDS, factors, SHAPE), KINDS, factors)
    columns = torch.linalg.qr(basis)[0]
    for number, true in enumerate(directions(KINDS, factors, SHAPE)):
        true = true[true.any(-1)]
        cosines = torch.linalg.svdvals(torch.linalg.qr(true.T)[0].T @ columns)
        assert float(found.share[number]) == pytest.approx(float(cosines.square().mean()), abs=1e-12)


def test_rotation_of_a_ring_has_no_angle_and_no_dimension() -> None:
    factors = some_factors()
    found = held(flat(random(PIXELS, 6)), draw(KINDS, factors, SHAPE), KINDS, factors)
    rings = torch.tensor([kind == "ring" for kind in KINDS])
    undefined = torch.zeros(len(KINDS), 5, dtype=torch.bool)
    undefined[rings, 2] = True
    assert torch.equal(found.angles_deg.isnan(), undefined)
    assert torch.equal(found.true_rank, torch.where(rings, 4, 5))
    assert found.share.isfinite().all()


def test_batches_and_rounded_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time gives the same; the code is that of the stored pixels, the directions are not rounded."""
    factors = some_factors()
    images = draw(KINDS, factors, SHAPE)
    first, second = random(PIXELS, 1, seed=4), random(PIXELS, 3, seed=5)
    chart = Chart(
        lambda x: x.flatten(1) @ second,
        lambda z: (z @ second.T + z.square() @ first.expand(-1, 3).T).reshape(-1, *SHAPE),
    )
    surface = Autoencoder(chart, 3, SHAPE)
    whole = held(surface, images, KINDS, factors)
    done: list[int] = []
    monkeypatch.setattr("latent_atlas.geometry.factors.MEMORY", 1)
    for a, b in zip(whole, held(surface, images, KINDS, factors, done.append), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10, equal_nan=True)
    assert done == list(range(1, 13))
    rounded = (255 * images).round().to(torch.uint8)
    assert torch.equal(held(surface, rounded, KINDS, factors).angles_deg.nan_to_num(),
                       held(surface, rounded.double() / 255, KINDS, factors).angles_deg.nan_to_num())  # fmt: skip


def test_a_manifold_of_rank_zero_holds_nothing() -> None:
    factors = some_factors()
    with pytest.warns(LatentAtlasWarning, match="its Jacobian is zero"):
        surface = flat(torch.zeros(PIXELS, 2, dtype=torch.float64))
    found = held(surface, draw(KINDS, factors, SHAPE), KINDS, factors)
    assert found.rank.tolist() == [0] * 12
    assert not found.share.any()
    assert found.angles_deg[0].tolist() == [90.0] * 5


def test_images_of_another_shape_are_refused() -> None:
    factors = some_factors()
    with pytest.raises(DataError, match="do not fit this manifold"):
        held(flat(random(PIXELS, 2)), draw(KINDS, factors, (1, 14, 12)), KINDS, factors)

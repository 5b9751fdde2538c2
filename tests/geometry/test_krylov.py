"""Limits from products with a Jacobian: they hold, and with enough products they are the numbers of other routes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from latent_diffusion import LatentDiffusion
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsmr, svds
from support import shake_statistics
from surfaces import planted, random
from torch import nn

import latent_atlas
from latent_atlas.geometry.blocks import BlockwiseTangentSpace
from latent_atlas.geometry.krylov import CHANCE, JacobianOperator, KrylovSpace
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.geometry.spectra import spectrum
from latent_atlas.geometry.tangent_spaces import EXACT_UP_TO, PRODUCTS, KrylovTangentSpace, TangentSpaces, measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.models.registry import build
from latent_atlas.study.schema import SampleParams

Floats = NDArray[np.float64]
MOVES = {name: (TRANSFORMATIONS[name], 1.0) for name in ("rotation", "shift_x", "brightness", "blur")}
GAPS = [1.0, 1.0 - 1e-12, 0.5, 0.5 * (1 - 1e-12), 0.5 * (1 - 2e-12), 0.1, 0.02, 0.02 * (1 - 1e-12), 0.01, 0.004]


class Single(LinearOperator):
    """A matrix whose products are those of float32."""

    def __init__(self, matrix: Floats) -> None:
        super().__init__(np.float64, matrix.shape)
        self.matrix = matrix.astype(np.float32)

    def _matmat(self, vectors: Floats) -> Floats:
        return (self.matrix @ vectors.astype(np.float32)).astype(np.float64)

    def _rmatmat(self, vectors: Floats) -> Floats:
        return (self.matrix.T @ vectors.astype(np.float32)).astype(np.float64)


def angles_by_svd(matrix: Floats, displacements: Floats, rank: int) -> Floats:
    """Angles in degrees (t,) from the definition, by two projections on the left singular vectors."""
    basis = np.linalg.svd(matrix, full_matrices=False)[0][:, :rank]
    rest = displacements - basis @ (basis.T @ displacements)
    rest -= basis @ (basis.T @ rest)
    return np.degrees(np.arctan2(np.linalg.norm(rest, axis=0), np.linalg.norm(basis.T @ displacements, axis=0)))


def trials(count: int, least: float, seed: int) -> list[tuple[Floats, Floats, int]]:
    """Matrices with planted singular values, some of them nearly equal or zero; the values; the products to use."""
    draw = np.random.default_rng(seed)
    found = []
    for trial in range(count):
        rows, columns = int(draw.integers(20, 60)), int(draw.integers(8, 20))
        values = np.sort(10.0 ** draw.uniform(math.log10(least), 0, columns))[::-1].copy()
        if trial % 3 == 0:
            values[1:3] = values[1] * np.array([1, 1 - 1e-12])
        if trial % 5 == 0:
            values[-2:] = 0
        matrix = planted(rows, columns, values.tolist(), seed=2 * trial).numpy()
        found.append((matrix, values, int(draw.integers(8, columns + 1))))
    return found


@pytest.mark.parametrize("single", [False, True])
def test_limits_hold_in_a_thousand_trials(single: bool) -> None:
    exceeded = whole = 0
    for seed, (matrix, values, products) in enumerate(trials(1000, 1e-3 if single else 1e-6, seed=int(single))):
        draw = np.random.default_rng(seed)
        moves = np.stack([draw.standard_normal(len(matrix)), matrix @ draw.standard_normal(len(values))], axis=1)
        exact = aslinearoperator(matrix)
        space = KrylovSpace(Single(matrix) if single else exact, products, moves, 3, seed, exact if single else None)
        found, angles, rank = space.spectrum(), space.angles(moves), int((values > 0).sum())
        nearest = np.abs(found.values.numpy()[:, None] - values).min(1)
        assert (nearest <= found.bounds.numpy()).all(), seed
        assert (found.values.numpy() <= values[: len(found.values)] + space.rounding).all(), seed
        assert found.rank_low <= rank <= found.rank_high, seed
        assert values[-1] <= found.sigma_min_high, seed
        exceeded += values[0] > found.sigma_max_high
        wanted = angles_by_svd(matrix, moves, rank)
        assert (angles.high_deg >= wanted - 1e-6).all(), seed
        known = ~np.isnan(angles.low_deg)
        assert (angles.low_deg[known] <= wanted[known] + 1e-6).all(), seed
        assert np.allclose(angles.residual, np.sin(np.radians(angles.high_deg)), atol=1e-12)
        whole += space.complete
        assert known.all() or not space.complete or single
    assert exceeded <= 1000 * CHANCE + 5
    assert 50 < whole < 500  # both kinds were met


def surface_of(matrix: torch.Tensor) -> Autoencoder:
    """A linear decoder among images of 1 x 12 x 12."""
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, matrix.shape[1]))
    model.decoder = nn.Linear(matrix.shape[1], 144)
    model.decoder.weight = nn.Parameter(matrix)
    return Autoencoder(model.double(), matrix.shape[1], (1, 12, 12))


def test_gaps_of_a_trillionth_by_every_route() -> None:
    values = torch.tensor(GAPS, dtype=torch.float64)
    surface, code = surface_of(planted(144, len(GAPS), GAPS)), random(1, len(GAPS))
    jacobian = surface.jacobian(code)
    space = KrylovTangentSpace(surface, code, products=len(GAPS))
    squared = 2e-15 / values  # what squaring may cost: a few ε σ max² / σ
    routes = {
        "Gram matrix": (TangentSpaces(jacobian).singular_values[0], squared),
        "QR decomposition": (spectrum(jacobian[0]).values, torch.full_like(values, 3e-15)),
        "blocks of columns": (BlockwiseTangentSpace(surface, code, columns=3).singular_values[0], squared),
        "products": (space.krylov.spectrum().values, torch.full_like(values, 3e-15)),
    }
    assert not TangentSpaces(jacobian)._needs_qr.any()
    for name, (found, allowed) in routes.items():
        assert ((found - values).abs() <= allowed).all(), name
    for name in ("QR decomposition", "products"):
        found = routes[name][0]
        gaps = (found[:-1] - found[1:])[[0, 2, 3, 6]]
        torch.testing.assert_close(gaps, (values[:-1] - values[1:])[[0, 2, 3, 6]], rtol=0, atol=6e-15)
    # fewer products than coordinates: a block of four finds both of a pair
    wide = [*GAPS, *[0.003 / (place + 1) for place in range(50)]]
    operator = aslinearoperator(planted(144, 60, wide).numpy())
    part = KrylovSpace(operator, 40).spectrum()
    assert float(part.bounds[:2].max()) < 1e-9
    assert part.values[:2].tolist() == pytest.approx(GAPS[:2], rel=0, abs=1e-14)
    assert part.values[2:5].tolist() == pytest.approx(GAPS[2:5], rel=0, abs=1e-14)


def test_all_routes_agree_on_a_convolutional_network() -> None:
    torch.manual_seed(0)
    model = build("convolutional", (1, 28, 28), 128)
    shake_statistics(model)
    surface = Autoencoder(model.double(), 128, (1, 28, 28))
    image = random(1, 1, 28, 28).sigmoid()
    whole = measure(surface, image, MOVES)
    code = surface.encode(image)
    blocks = BlockwiseTangentSpace(surface, code, columns=50)
    products = measure(surface, image, MOVES, exact_up_to=127, products=128)
    near: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-8}
    torch.testing.assert_close(blocks.singular_values, whole.singular_values, **near)
    torch.testing.assert_close(products.singular_values, whole.singular_values, **near)
    torch.testing.assert_close(products.angles_deg, whole.angles_deg, **near)
    assert torch.equal(products.rank, whole.rank)
    limits = products.limits[0]
    assert (limits.angles.low_deg <= whole.angles_deg[0].numpy() + 1e-8).all()
    assert np.allclose(limits.angles.low_deg, whole.angles_deg[0], atol=1e-4)
    exact = spectrum(surface.jacobian(code)[0])
    for name in ("sigma_min", "rank", "condition_number", "log_volume", "effective_rank", "participation_ratio"):
        assert getattr(limits.spectrum, name) == pytest.approx(getattr(exact, name), rel=1e-8), name
    fewer = measure(surface, image, MOVES, exact_up_to=127, products=64).limits[0]
    nearest = (fewer.spectrum.values[:, None] - whole.singular_values).abs().min(1).values
    assert (nearest <= fewer.spectrum.bounds).all()
    assert (fewer.angles.high_deg >= whole.angles_deg[0].numpy() - 1e-9).all()
    assert math.isnan(fewer.spectrum.rank)
    assert math.isnan(fewer.spectrum.sigma_min)
    assert fewer.spectrum.products == 64 + 64 + 4 + 4  # both ways, and twice a displacement


def test_operator_for_scipy() -> None:
    surface = surface_of(planted(144, 12, [2.0**-i for i in range(12)]))
    operator = JacobianOperator(surface, random(1, 12))
    assert svds(operator, k=3, return_singular_vectors=False) == pytest.approx([0.25, 0.5, 1.0], rel=1e-10)
    displacement = random(144, 1, seed=3).numpy()
    residual = lsmr(operator, displacement[:, 0], atol=0, btol=0, conlim=0, maxiter=200)[3]
    angles = KrylovSpace(operator, 12, displacement).angles(displacement)
    assert angles.residual[0] * np.linalg.norm(displacement) == pytest.approx(residual, rel=1e-10)
    left, right = KrylovSpace(operator, 12).vectors
    assert np.allclose(operator.matmat(right), left * [2.0**-i for i in range(12)], rtol=0, atol=1e-14)


def test_sums_over_the_spectrum() -> None:
    """At least what each random vector sees; intervals contain the truth; more products change less."""
    contained = {"log_volume": 0, "effective_rank": 0, "participation_ratio": 0}
    for seed in range(200):
        values = np.random.default_rng(seed).uniform(0.5, 2, 80)
        matrix = planted(100, 80, values.tolist(), seed=seed).numpy()
        space = KrylovSpace(aslinearoperator(matrix), 48, seed=seed)
        found = space.spectrum()
        exact = spectrum(torch.from_numpy(matrix))
        _, true, rows = np.linalg.svd(matrix)
        seen = 80 * (rows @ space.right[:, : space.starts]).T ** 2 @ np.log(true)  # of each random vector
        assert (found.weights @ np.log(found.nodes) >= seen - 1e-9).all()
        assert abs(found.weights.sum(1) - 80).max() < 1e-9
        for name in contained:
            contained[name] += abs(getattr(found, name) - getattr(exact, name)) <= found.error(name)
        assert abs(found.change("log_volume")) < 1
    assert min(contained.values()) > 180, contained


def test_what_is_not_known() -> None:
    surface = surface_of(planted(144, 40, [1.0 / (place + 1) for place in range(40)]))
    space = KrylovTangentSpace(surface, random(1, 40), products=16)
    found = space.krylov.spectrum()
    assert (found.rank_low, found.rank_high, len(found.values)) == (16, 40, 16)
    assert np.isnan(space.angles(random(2, 144)).low_deg).all()
    # a lower limit of the smallest singular value gives one of the angle
    inside = random(3, 40, seed=1) @ surface.jacobian(random(1, 40))[0].T  # t x P
    displacements = torch.cat([inside + 0.1 * random(3, 144, seed=2), torch.zeros(1, 144).double()])
    angles = space.krylov.angles(displacements.numpy().T, sigma_min=1 / 40)
    wanted = TangentSpaces(surface.jacobian(random(1, 40))).angles_deg(displacements[None])[0].numpy()
    assert (angles.low_deg[:3] <= wanted[:3]).all()
    assert (wanted[:3] <= angles.high_deg[:3]).all()
    assert np.isnan([angles.high_deg[3], angles.low_deg[3], wanted[3]]).all()
    tangential, normal = space.components(displacements[None])
    torch.testing.assert_close(tangential + normal, displacements[None], rtol=0, atol=1e-15)
    assert not tangential[0, 3].any()


def test_ranks_that_are_lost_are_seen() -> None:
    surface = surface_of(planted(144, 30, [3.0, 2.0, 1.0, 0.5]))
    found = KrylovTangentSpace(surface, random(1, 30), products=12).krylov.spectrum()
    assert found.rank_low == 4
    assert found.rank_high == 22  # of the 12 that were asked for, 8 change nothing
    assert found.log_volume == -math.inf
    assert found.values[:4].tolist() == pytest.approx([3.0, 2.0, 1.0, 0.5], rel=1e-12)
    nothing = KrylovTangentSpace(surface_of(torch.zeros(144, 30).double()), random(1, 30), random(1, 144), products=12)
    assert nothing.krylov.spectrum().rank_low == 0
    assert nothing.angles(random(1, 144)).high_deg == pytest.approx([90])


def test_a_decoder_of_latent_diffusion() -> None:
    """Attention, GroupNorm and shortcuts, in float32, by the functions for users."""
    torch.manual_seed(0)
    surface = Autoencoder(LatentDiffusion((3, 4, 4), channels=(16, 8, 8), groups=4), 48, (3, 16, 16))
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    options: dict[str, Any] = {"exact_up_to": 47, "products": 32}
    angles = latent_atlas.angles(surface, image, ["rotation", "blur"], **options)
    exact = latent_atlas.angles(surface, image, ["rotation", "blur"])
    assert (angles["angle_deg"] >= exact["angle_deg"] - 1e-4).all()
    assert (angles[["share", "score"]] <= exact[["share", "score"]] + 1e-6).all(axis=None)
    assert angles["angle_low_deg"].isna().all()
    assert (angles["rank"] == 48).all()
    spectra = latent_atlas.spectra(surface, image, training=torch.rand(60, 3, 16, 16), **options)
    whole = latent_atlas.spectra(surface, image, training=torch.rand(60, 3, 16, 16))
    assert (spectra["sigma_max"] - whole["sigma_max"]).abs().lt(spectra["sigma_max_bound"]).all()
    assert (whole["sigma_max"] <= spectra["sigma_max_high"]).all()
    assert (whole["sigma_min"] <= spectra["sigma_min_high"]).all()
    assert spectra["rank"].isna().all()
    assert spectra["rank_low"].between(1, 48).all()
    assert (spectra["rank_high"] == 48).all()
    assert set(spectra["reason"]) == {"not all directions were measured"}
    assert (spectra["log_volume"] + spectra["log_volume_error"] > whole["log_volume"]).all()
    assert spectra["products_per_sd"].gt(0).all()


def test_defaults_of_a_study_are_those_of_the_library() -> None:
    sample = SampleParams(split="test", size=None, seed=0)
    assert (sample.exact_up_to, sample.products) == (EXACT_UP_TO, PRODUCTS)

"""Spectra and angles of many images at once: equal to those of one at a time, also where squaring would lose digits."""

from __future__ import annotations

import math

import pytest
import torch
from surfaces import angle_deg
from torch import Tensor

from latent_atlas.data.images import as_float
from latent_atlas.geometry import tangent_spaces as population
from latent_atlas.geometry.bases import orthonormal_basis
from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace
from latent_atlas.geometry.tangent_spaces import TangentSpaces, measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.models import registry

SHAPE = (1, 10, 10)
STEPS = {name: (TRANSFORMATIONS[name], 1.0) for name in ("rotation", "shift_x", "brightness")}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_singular_values(values: list[float], rows: int = 40) -> Tensor:
    """A matrix (1, rows, k) of these singular values."""
    left, right = (torch.linalg.qr(random(size, len(values), seed=size)).Q for size in (rows, len(values)))
    return ((left * torch.tensor(values, dtype=torch.float64)) @ right.T)[None]


@pytest.mark.parametrize("k", [1, 2, 7])
def test_singular_values(k: int) -> None:
    jacobian = random(5, 40, k)
    torch.testing.assert_close(
        TangentSpaces(jacobian).singular_values, torch.linalg.svdvals(jacobian), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("smallest", [1e-1, 1e-2, 1e-3, 1e-4, 3.1e-5, 1e-6, 1e-8, 1e-12])
def test_small_singular_values_are_not_lost(smallest: float) -> None:
    jacobian = with_singular_values([1.0, 0.7, 0.1, smallest])
    found = TangentSpaces(jacobian).singular_values[0]
    assert float(found[-1]) == pytest.approx(smallest, rel=max(1e-7, 1e-15 / smallest))


def test_squaring_alone_would_lose_them() -> None:
    jacobian = with_singular_values([1.0, 0.7, 0.1, 1e-9])
    squared = torch.linalg.eigvalsh(jacobian.mT @ jacobian)[0, 0].clamp(min=0).sqrt()
    assert float(squared) != pytest.approx(1e-9, rel=0.1)


@pytest.mark.parametrize("smallest", [1e-1, 1e-3, 1e-4, 1e-5])
def test_single_precision_is_kept_to_its_own_rounding(smallest: float) -> None:
    jacobian = with_singular_values([1.0, 0.7, 0.1, smallest]).float()
    found, wanted = TangentSpaces(jacobian).singular_values, torch.linalg.svdvals(jacobian.double())
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("values", [[1.0, 0.5, 0.2], [1.0, 0.5, 1e-4], [1.0, 0.5, 1e-7], [1.0, 0.5, 0.0]])
def test_angles(values: list[float]) -> None:
    jacobian = with_singular_values(values)
    displacements = random(1, 4, 40, seed=3)
    basis = orthonormal_basis(jacobian[0])
    wanted = torch.tensor([[angle_deg(displacement, basis) for displacement in displacements[0]]], dtype=torch.float64)
    torch.testing.assert_close(TangentSpaces(jacobian).angles_deg(displacements), wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("smallest", [0.1, 1e-4])
def test_planted_angles(smallest: float) -> None:
    jacobian = with_singular_values([1.0, 0.5, smallest])
    basis = orthonormal_basis(jacobian[0])
    beyond = random(40, seed=5)
    beyond = beyond - basis @ (basis.T @ beyond)
    beyond = (beyond - basis @ (basis.T @ beyond)) / beyond.norm()
    angles = [0.0, 1e-9, 1e-3, 0.5, math.pi / 2 - 1e-9, math.pi / 2]
    displacements = torch.stack([math.cos(a) * basis[:, -1] + math.sin(a) * beyond for a in angles])[None]
    found = torch.deg2rad(TangentSpaces(jacobian).angles_deg(displacements)[0])
    torch.testing.assert_close(found, torch.tensor(angles, dtype=torch.float64), rtol=0, atol=3e-12)


def test_no_displacement_has_no_angle() -> None:
    found = TangentSpaces(random(2, 40, 3)).angles_deg(torch.zeros(2, 1, 40))
    assert found.isnan().all()


def one_at_a_time(surface: Manifold, pixels: Tensor) -> tuple[Tensor, Tensor]:
    values, angles = [], []
    for part in pixels.split(1):
        codes = surface.encode(as_float(part, surface.dtype))
        image = surface.decode(codes)
        jacobian = surface.jacobian(codes)[0]
        values.append(torch.linalg.svdvals(jacobian))
        basis = orthonormal_basis(jacobian)
        moves = [torch.from_numpy(entry.apply(image.numpy(), step)) - image for entry, step in STEPS.values()]
        angles.append(torch.tensor([angle_deg(move.flatten(), basis) for move in moves], dtype=torch.float64))
    return torch.stack(values), torch.stack(angles)


def surfaces() -> dict[str, Manifold]:
    torch.manual_seed(0)
    networks = {name: registry.build(name, SHAPE, 4, {}) for name in ("convolutional", "fully_connected")}
    networks["convolutional"] = registry.build("convolutional", SHAPE, 4, {"kernel": 3})
    flat = PrincipalSubspace(torch.linalg.qr(random(100, 4)).Q.T.contiguous(), random(100).abs(), SHAPE)
    return {name: Autoencoder(network.double(), 4, SHAPE) for name, network in networks.items()} | {"pca": flat}


@pytest.mark.parametrize("name", ["convolutional", "fully_connected", "pca"])
@pytest.mark.parametrize("memory", [25_000, population.MEMORY])  # the first is enough for one image
def test_a_population(name: str, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "MEMORY", memory)
    surface = surfaces()[name]
    pixels = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values, angles = one_at_a_time(surface, pixels)
    done: list[int] = []
    found = measure(surface, pixels, STEPS, done.append)
    torch.testing.assert_close(found.singular_values, values, rtol=1e-8, atol=1e-14)
    torch.testing.assert_close(found.angles_deg, angles, rtol=0, atol=1e-7)
    assert found.transformations == tuple(STEPS)
    assert done[-1] == 6
    single = measure(surface.to(torch.float32), pixels, STEPS)
    torch.testing.assert_close(single.singular_values, values, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(single.angles_deg, angles, rtol=0, atol=1e-2)


def test_spectra_alone_and_of_nothing() -> None:
    surface = surfaces()["pca"]
    pixels = torch.zeros(3, *SHAPE, dtype=torch.uint8)
    found = measure(surface, pixels, {})
    assert found.angles_deg.shape == (3, 0)
    torch.testing.assert_close(found.singular_values, torch.ones(3, 4, dtype=torch.float64), rtol=1e-12, atol=0)
    nothing = measure(surface, pixels[:0], STEPS)
    assert nothing.singular_values.shape == (0, 4)
    assert nothing.angles_deg.shape == (0, 3)


@pytest.mark.parametrize("memory", [70_000, population.MEMORY])  # the first is enough for one image
def test_more_coordinates_than_the_rank(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, what is but rounding must not count as a direction."""
    monkeypatch.setattr(population, "MEMORY", memory)
    torch.manual_seed(0)
    network = registry.build("fully_connected", SHAPE, 20, {"widths": [30, 6]}).double()
    surface = Autoencoder(network, 20, SHAPE)
    pixels = torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    double = measure(surface, pixels, STEPS)
    asked: list[torch.dtype] = []
    jacobian = Autoencoder.jacobian

    def heard(self: Autoencoder, z: Tensor) -> Tensor:
        asked.append(z.dtype)
        return jacobian(self, z)

    monkeypatch.setattr(Autoencoder, "jacobian", heard)
    single = measure(surface.to(torch.float32), pixels, STEPS)
    assert asked.count(torch.float32) == 1  # all the rest is measured in double precision from the start
    monkeypatch.undo()
    torch.testing.assert_close(double.angles_deg, one_at_a_time(surface, pixels)[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(single.angles_deg, double.angles_deg, rtol=0, atol=1e-3)


@pytest.mark.parametrize("jacobian", [random(2, 3, 4), random(2, 4, 3).bfloat16(), torch.full((1, 4, 3), math.nan)])
def test_what_is_no_batch_of_jacobians(jacobian: Tensor) -> None:
    with pytest.raises(ValueError, match="Jacobian"):
        TangentSpaces(jacobian)


def test_jacobian_that_is_the_same_everywhere_is_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    basis = torch.linalg.qr(random(100, 5)).Q.T
    surface = PrincipalSubspace(basis * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])[:, None].double(), random(100), SHAPE)
    pixels, factor = random(7, *SHAPE, seed=3).sigmoid(), random(5, 3, seed=4)
    sizes: list[int] = []
    whole = TangentSpaces.__init__

    def counted(self: TangentSpaces, jacobian: Tensor) -> None:
        sizes.append(len(jacobian))
        whole(self, jacobian)

    monkeypatch.setattr(TangentSpaces, "__init__", counted)
    together = measure(surface, pixels, STEPS, factor=factor)
    assert set(sizes) == {1}
    for number in range(7):
        alone = measure(surface, pixels[number : number + 1], STEPS, factor=factor)
        for field in ("singular_values", "rank", "angles_deg", "scaled_values"):
            value = getattr(together, field)[number : number + 1]
            torch.testing.assert_close(value, getattr(alone, field), rtol=1e-12, atol=1e-10)

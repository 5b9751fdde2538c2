"""Closest points of manifolds to images, and what encoders miss, against formulas, scipy and their definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from sklearn.decomposition import PCA
from surfaces import Chart, degrees_by_least_squares, orthonormal, random
from torch import Tensor, nn

from latent_atlas.data.images import Images, as_float
from latent_atlas.geometry import closest as module
from latent_atlas.geometry.closest import closest
from latent_atlas.geometry.fitted import FittedTransformer
from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace
from latent_atlas.geometry.pca import fit
from latent_atlas.geometry.reconstruction import errors, gaps

COLUMNS = ["mse_closest", "encoder_gap", "steps", "residual_angle_deg", "converged"]


def chart(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], k: int, pixels: int) -> Autoencoder:
    """A surface among images of 1 x 1 x ``pixels``."""
    return Autoencoder(Chart(encode, lambda z: decode(z).reshape(-1, 1, 1, pixels)), k, (1, 1, pixels))


def network(activation: type[nn.Module] = nn.Tanh) -> Autoencoder:
    """An untrained network of images of 8 x 8 pixels."""
    torch.manual_seed(1)
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    model.decoder = nn.Sequential(nn.Linear(3, 16), activation(), nn.Linear(16, 64), nn.Unflatten(1, (1, 8, 8)))
    return Autoencoder(model, 3, (1, 8, 8))


@pytest.fixture
def x(digits: Images) -> Tensor:
    return as_float(digits.test[:12], torch.float64)


@pytest.mark.parametrize("mean", [True, False])
def test_of_pca_is_the_projection(mean: bool, digits: Images) -> None:
    fitted = fit(digits.train)
    surface = PrincipalSubspace(fitted.components[:5], fitted.mean * mean, digits.shape)
    table = gaps(surface, digits.test[:50])
    assert list(table.columns) == COLUMNS
    assert table["encoder_gap"].abs().max() < 1e-12
    assert table["steps"].max() <= 1
    assert table["residual_angle_deg"].to_numpy() == pytest.approx(90, abs=1e-9)
    assert table["converged"].all()
    assert table["mse_closest"].to_numpy() == pytest.approx(
        errors(surface, digits.test[:50])["mse"].to_numpy(), rel=1e-12
    )


def test_of_a_sphere_is_the_radial_projection() -> None:
    def decode(z: Tensor) -> Tensor:
        a, b = z.unbind(1)
        return torch.stack([a.sin() * b.cos(), a.sin() * b.sin(), a.cos()], dim=1)

    def encode(x: Tensor) -> Tensor:  # off by up to 0.3
        a, b, c = x.flatten(1).unbind(1)
        return torch.stack([torch.atan2(torch.hypot(a, b), c) + 0.3 * a, torch.atan2(b, a) - 0.2 * c], dim=1)

    places = torch.rand(30, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.2
    surface = chart(encode, decode, 2, 3)
    found, start = closest(surface, places, 1e-10)
    radial = places / places.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(surface.decode(found.codes), radial, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.error, (places - radial).square().flatten(1).sum(1), rtol=0, atol=1e-10)
    torch.testing.assert_close(start, (places - surface.reconstruct(places)).square().flatten(1).sum(1))
    assert float(found.cosine.max()) <= 1e-10


def test_gap_of_an_encoder_that_is_wrong_by_an_angle() -> None:
    wrong, radius = 0.4, torch.tensor([0.5, 0.9, 1.7], dtype=torch.float64)
    angle = torch.tensor([0.3, 0.7, 1.2], dtype=torch.float64)
    places = radius * torch.stack([angle.cos(), angle.sin()])  # 2 x 3
    surface = chart(
        lambda x: torch.atan2(x.flatten(1)[:, 1:], x.flatten(1)[:, :1]) + wrong,
        lambda z: torch.cat([z.cos(), z.sin()], dim=1), 1, 2,
    )  # fmt: skip
    table = gaps(surface, places.T.reshape(3, 1, 1, 2))
    least, start = (radius - 1).square(), radius.square() + 1 - 2 * radius * math.cos(wrong)
    assert table["mse_closest"].to_numpy() == pytest.approx((least / 2).numpy(), rel=1e-5)
    assert table["encoder_gap"].to_numpy() == pytest.approx((1 - least / start).numpy(), rel=1e-5)
    assert table["steps"].between(1, 8).all()


def test_of_a_network_is_what_scipy_finds(x: Tensor) -> None:
    surface = network().to(torch.float64)
    found, start = closest(surface, x)
    for i, code in enumerate(surface.encode(x)):
        reference = least_squares(
            lambda z, i=i: (surface.decode(torch.from_numpy(z)[None]) - x[i]).flatten().numpy(), code.numpy(),
            jac=lambda z: surface.jacobian(torch.from_numpy(z)[None])[0].numpy(), xtol=1e-12, ftol=1e-12,
        )  # fmt: skip
        assert float(found.error[i]) == pytest.approx(2 * reference.cost, rel=1e-5)
    assert bool((found.error < 0.999 * start).all())
    assert int(found.steps.max()) < 20


@pytest.mark.parametrize("steps", [0, 2, 60])
def test_angles_are_those_of_the_definition(steps: int, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FINISH", 0)
    surface = network().to(torch.float64)
    found, _ = closest(surface, x, steps=steps)
    residuals = (surface.decode(found.codes) - x).flatten(1)
    assert int(found.steps.max()) <= steps
    for r, jacobian, cosine in zip(residuals, surface.jacobian(found.codes), found.cosine.tolist(), strict=True):
        assert math.degrees(math.acos(cosine)) == pytest.approx(degrees_by_least_squares(r, jacobian), abs=1e-5)


def test_of_images_on_the_surface_nothing_is_missed() -> None:
    basis = orthonormal(24, 3)
    surface = chart(lambda x: x.flatten(1) @ basis.to(x), lambda z: z @ basis.T.to(z), 3, 24)
    table = gaps(surface, surface.decode(0.3 * random(4, 3)))
    assert table["mse_closest"].max() < 1e-24
    assert table["converged"].all()
    assert table[["encoder_gap", "residual_angle_deg"]].isna().all(axis=None)


def test_of_a_dead_decoder_its_only_image() -> None:
    surface = chart(lambda x: x.flatten(1)[:, :2], lambda z: 0 * z[:, :1].expand(-1, 6) + 0.5, 2, 6)
    table = gaps(surface, random(3, 1, 1, 6))
    assert (table["encoder_gap"] == 0).all()
    assert (table["residual_angle_deg"] == 90).all()
    assert (table["steps"] == 0).all()
    assert table["converged"].all()


def test_where_coordinates_do_nothing_or_the_same() -> None:
    basis = orthonormal(24, 2)
    surface = chart(lambda x: x.flatten(1)[:, :4], lambda z: (z[:, :2] + z[:, 1:3]).sin() @ basis.T.to(z), 4, 24)
    images = 0.2 * random(5, 1, 1, 24, seed=1)
    found, _ = closest(surface, images, 1e-9)
    normal = images.flatten(1) - images.flatten(1) @ basis @ basis.T
    torch.testing.assert_close(found.error, normal.square().sum(1), rtol=1e-9, atol=0)
    assert float(found.cosine.max()) <= 1e-9


def test_of_a_squeezed_plane_is_the_projection() -> None:
    basis = orthonormal(24, 2) * torch.tensor([1, 1e-5], dtype=torch.float64)  # float32 cannot tell its metric
    surface = chart(lambda x: 0 * x.flatten(1)[:, :2], lambda z: z @ basis.T.to(z), 2, 24)
    images = 0.1 * random(5, 1, 1, 24, seed=1)
    found, _ = closest(surface, images, 1e-6)
    normal = images.flatten(1) - images.flatten(1) @ orthonormal(24, 2) @ orthonormal(24, 2).T
    torch.testing.assert_close(found.error, normal.square().sum(1), rtol=1e-9, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_of_constant_images(value: float, activation: type[nn.Module]) -> None:
    table = gaps(network(activation), torch.full((2, 1, 8, 8), value))
    assert np.isfinite(table.to_numpy(np.float64)).all()
    assert table["encoder_gap"].between(0, 1).all()


def test_in_kinks_the_search_ends_and_says_so(x: Tensor) -> None:
    table = gaps(network(nn.ReLU), x)
    assert np.isfinite(table.to_numpy(np.float64)).all()
    assert (table["encoder_gap"] > 0).all()
    assert (table["converged"] == (table["residual_angle_deg"] > 89.94)).all()
    assert not table["converged"].all()


class Root(Manifold):
    """A line of grey images whose parametrization has no derivative at zero."""

    family, latent_dim, image_shape = "root", 1, (1, 1, 6)

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def encode(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1)[:, :1]

    def decode(self, z: Tensor) -> Tensor:
        return z.abs().sqrt().expand(-1, 6).reshape(-1, 1, 1, 6)

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Root:
        return Root(dtype)


def test_derivatives_that_are_not_finite() -> None:
    table = gaps(Root(), torch.full((2, 1, 1, 6), 0.5))
    assert not table["converged"].any()
    assert table["residual_angle_deg"].isna().all()
    assert table["mse_closest"].to_numpy() == pytest.approx(0.25)


def test_of_a_fitted_transformer(digits: Images) -> None:
    fitted = PCA(4).fit(as_float(digits.train[:200], torch.float64).flatten(1).numpy())
    table = gaps(FittedTransformer(fitted, digits.shape), digits.test[:5])
    assert table["encoder_gap"].abs().max() < 1e-9
    assert table["converged"].all()


def test_an_image_has_the_same_closest_point_among_others(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    surface = network()
    together, start = closest(surface, x)
    monkeypatch.setattr(module, "MEMORY", 1)
    alone, start_alone = closest(surface, x)
    torch.testing.assert_close(alone.error, together.error, rtol=1e-5, atol=0)
    torch.testing.assert_close(start_alone, start, rtol=1e-12, atol=0)
    assert alone.codes.shape == (12, 3)


def test_images_that_have_converged_are_no_longer_computed(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    surface = network().to(torch.float64)
    x = x.clone()
    x[:10] = surface.decode(surface.encode(x[:10]))  # whose codes by the encoder are others
    computed: list[int] = []
    pullback = type(surface).pullback

    def counted(self: Autoencoder, z: Tensor, w: Tensor) -> Tensor:
        computed.append(len(z))
        return pullback(self, z, w)

    monkeypatch.setattr(type(surface), "pullback", counted)
    found, _ = closest(surface, x)
    assert sum(computed) == 2 * len(x) + int(found.steps.sum())  # at both starts, and once a step
    assert int(found.steps.min()) < int(found.steps.max())


def test_the_grey_of_the_caller_stays_and_no_images_give_no_rows(digits: Images) -> None:
    pixels = digits.test[:3].clone()
    surface = network()
    gaps(surface, pixels)
    assert torch.equal(pixels, digits.test[:3])
    assert surface.dtype == torch.float32
    assert list(gaps(surface, pixels[:0]).columns) == COLUMNS

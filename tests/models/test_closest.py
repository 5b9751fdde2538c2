"""Closest points of a surface to images, against formulas."""

from __future__ import annotations

import logging

import pytest
import torch
from surfaces import orthonormal, random
from torch import Tensor, nn

from latent_atlas.models import closest as module
from latent_atlas.models.closest import closest


def decoder(k: int = 3, activation: type[nn.Module] = nn.Tanh) -> nn.Module:
    """Codes to images of 1 x 4 x 6 pixels."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(k, 16), activation(), nn.Linear(16, 24), nn.Unflatten(1, (1, 4, 6))).double()


def test_of_a_plane_is_the_projection() -> None:
    basis, offset, x = orthonormal(24, 3), random(24, seed=1), random(7, 1, 4, 6, seed=2)
    found = closest(lambda z: z @ basis.T + offset, x, 3)
    torch.testing.assert_close(found, (x.flatten(1) - offset) @ basis, rtol=0, atol=1e-6)


def test_of_a_circle_is_the_angle() -> None:
    angle = 6 * torch.rand(40, dtype=torch.float64)
    radius = 0.3 + torch.rand(40, dtype=torch.float64)  # from far inside to far outside
    x = (radius * torch.stack([angle.cos(), angle.sin()])).T.reshape(-1, 1, 1, 2)
    found = closest(lambda z: torch.cat([z.cos(), z.sin()], dim=1), x, 1)[:, 0]
    assert float((found - angle).sin().abs().max()) < 1e-4
    assert bool(((found - angle).cos() > 0).all())


def test_of_images_on_the_surface_is_their_code() -> None:
    network, z = decoder(), random(20, 3)
    torch.testing.assert_close(closest(network, network(z).detach(), 3), z, rtol=0, atol=1e-7)


def test_leaves_residuals_that_are_orthogonal_to_the_surface() -> None:
    network, x = decoder(), random(10, 1, 4, 6, seed=3)
    z = closest(network, x, 3).requires_grad_()
    distances = (network(z) - x).square().sum()
    (gradient,) = torch.autograd.grad(distances, z)
    assert float(gradient.abs().max()) < 1e-5 * float(distances.detach())
    for seed in range(5):
        beside = network(z.detach() + 0.01 * random(10, 3, seed=seed))
        assert float((beside - x).square().sum()) > float(distances.detach())


def test_is_the_same_for_an_image_alone_and_leaves_the_generator_alone() -> None:
    network, x = decoder(), random(6, 1, 4, 6, seed=3)
    state = torch.get_rng_state()
    together = closest(network, x, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(together, closest(network, x, 3))
    torch.testing.assert_close(together[:1], closest(network, x[:1], 3), rtol=0, atol=1e-5)
    assert closest(network, x[:0], 3).shape == (0, 3)


def test_where_a_decoder_branches_on_numbers_differences_do() -> None:
    network, z = decoder(), random(5, 3)

    class Counts(torch.autograd.Function):
        """An operation without a forward derivative."""

        @staticmethod
        def forward(context: object, t: Tensor) -> Tensor:
            return t * 1

    with pytest.raises(RuntimeError):
        torch.func.jvp(Counts.apply, (z,), (z,))
    torch.testing.assert_close(
        closest(lambda t: network(Counts.apply(t)), network(z).detach(), 3), z, rtol=0, atol=1e-6
    )


def test_of_a_piecewise_linear_decoder_settles(caplog: pytest.LogCaptureFixture) -> None:
    closest(decoder(activation=nn.ReLU), random(10, 1, 4, 6, seed=3), 3)
    assert not caplog.records


def test_that_is_not_settled_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "STEPS", 2)
    with caplog.at_level(logging.WARNING, logger="latent_atlas"):
        closest(decoder(), random(4, 1, 4, 6, seed=3), 3)
    assert "the closest points of 4 of 4 images are not settled after 2 steps" in caplog.text

"""Tangent spaces from blocks of columns: the same numbers as from whole Jacobians."""

from __future__ import annotations

import pytest
import torch
from support import shake_statistics
from surfaces import planted, random
from torch import nn

from latent_atlas.geometry import tangent_spaces
from latent_atlas.geometry.blocks import BlockwiseTangentSpace
from latent_atlas.geometry.manifold import Autoencoder, Manifold
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.models.registry import build

MOVES = {name: (TRANSFORMATIONS[name], 1.0) for name in ("rotation", "shift_x", "brightness", "blur")}


def trained_like(architecture: str) -> Autoencoder:
    """A network whose BatchNorm statistics are all at work."""
    torch.manual_seed(0)
    model = build(architecture, (1, 12, 12), 7, {"kernel": 3} if architecture == "convolutional" else {})
    shake_statistics(model)
    return Autoencoder(model.double(), 7, (1, 12, 12))


def linear(values: list[float]) -> Autoencoder:
    """A linear decoder with these singular values."""
    model = nn.Module()
    k = len(values)
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, k))
    model.decoder = nn.Linear(k, 144)
    torch.manual_seed(0)
    model.decoder.weight = nn.Parameter(planted(144, k, values))
    return Autoencoder(model.double(), k, (1, 12, 12))


SURFACES = {
    "convolutional": lambda: trained_like("convolutional"),
    "fully connected": lambda: trained_like("fully_connected"),
    "ill-conditioned": lambda: linear([10.0 ** -(i / 2) for i in range(7)]),
    "rank-deficient": lambda: linear([3.0, 2.0, 1.0, 0.5, 0.0, 0.0]),
}


@pytest.mark.parametrize("kind", SURFACES)
def test_same_numbers_as_from_whole_jacobians(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = 3
    surface: Manifold = SURFACES[kind]()
    x = random(2, 1, 12, 12).sigmoid()
    whole = measure(surface, x, MOVES)
    held = []
    pushforward = surface.pushforward

    def watched(z: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        held.append(v.shape[1])
        return pushforward(z, v)

    monkeypatch.setattr(tangent_spaces, "MEMORY", 64 * 144 * columns)
    monkeypatch.setattr(tangent_spaces, "WHOLE", 0)
    monkeypatch.setattr(surface, "pushforward", watched)
    monkeypatch.setattr(surface, "to", lambda *_: surface)
    blocks = measure(surface, x, MOVES)
    assert torch.equal(blocks.rank, whole.rank)
    torch.testing.assert_close(blocks.angles_deg, whole.angles_deg, rtol=0, atol=1e-9)
    largest = float(whole.singular_values.max())
    torch.testing.assert_close(blocks.singular_values, whole.singular_values, rtol=1e-9, atol=1e-14 * largest)
    assert min(held) <= columns
    assert max(held) == (surface.latent_dim if kind == "rank-deficient" else columns)


def test_basis_is_orthonormal() -> None:
    surface = linear([10.0**-i for i in range(8)])
    space = BlockwiseTangentSpace(surface, random(1, 8), columns=3)
    basis = torch.cat([block[0] for _, block in space._blocks()])  # k x P
    torch.testing.assert_close(basis @ basis.T, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-8)


def test_angles_near_0_and_90_degrees() -> None:
    surface = linear([1.0, 1e-3, 1e-5])
    space = BlockwiseTangentSpace(surface, random(1, 3), columns=2)
    jacobian = surface.jacobian(random(1, 3))[0]  # P x 3
    inside = (jacobian @ random(3, 1, seed=5)).T
    assert float(space.normal(inside).norm() / inside.norm()) < 1e-10
    outside = torch.linalg.qr(torch.cat([jacobian, random(144, 1)], dim=1))[0][:, 3][None]
    torch.testing.assert_close(space.normal(outside), outside, rtol=0, atol=1e-11)

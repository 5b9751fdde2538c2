"""Angles and spectra as tables: closed forms of linear subspaces, and images that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from surfaces import orthonormal
from torch import Tensor

import latent_atlas
from latent_atlas.errors import DataError, ParamsError
from latent_atlas.geometry.manifold import Manifold, PrincipalSubspace
from latent_atlas.geometry.transformations import TRANSFORMATIONS

SHAPE = (1, 6, 6)
PIXELS = torch.arange(2 * 36).reshape(2, *SHAPE).to(torch.uint8)


@pytest.fixture
def surface() -> PrincipalSubspace:
    """A linear subspace of 3 dimensions through zero, in float32."""
    return PrincipalSubspace(orthonormal(36, 3).T.float(), torch.zeros(36), SHAPE)


def test_angles_are_those_of_the_closed_form(surface: PrincipalSubspace) -> None:
    """A linear subspace contains each image scaled; the share of a shift is the squared length of its projection."""
    table = latent_atlas.angles(surface, PIXELS, {"brightness": 7, "shift_x": 0.5})
    assert table["image"].tolist() == [0, 0, 1, 1]
    assert table["transformation"].tolist() == ["brightness", "shift_x"] * 2
    assert table["step"].tolist() == [7, 0.5] * 2
    assert table["rank"].tolist() == [3] * 4
    assert table["angle_deg"][[0, 2]].tolist() == pytest.approx([0, 0], abs=1e-9)
    exact = surface.to(torch.float64)
    images = exact.reconstruct(PIXELS.double() / 255)
    basis = torch.linalg.qr(exact.components.T)[0]
    displacement = TRANSFORMATIONS["shift_x"].displacement(images, 0.5).flatten(1)  # 2 x 36
    expected = (displacement @ basis).square().sum(1) / displacement.square().sum(1)
    assert table["share"][[1, 3]].tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_default_steps(surface: PrincipalSubspace) -> None:
    table = latent_atlas.angles(surface, PIXELS[0]).set_index("transformation")
    assert table["step"].to_dict() == {
        "rotation": 1, "shift_x": 1, "shift_y": 1, "scaling": 5, "shear": 2, "brightness": 5, "contrast": 5,
        "blur": 0.5,
    }  # fmt: skip
    with pytest.raises(ParamsError, match="unknown transformation 'turn'"):
        latent_atlas.angles(surface, PIXELS, ["turn"])


def test_spectra_of_a_scaled_basis() -> None:
    values = torch.tensor([4.0, 2.0, 0.0], dtype=torch.float64)
    surface = PrincipalSubspace(values[:, None] * orthonormal(36, 3).T, torch.zeros(36).double(), SHAPE)
    table = latent_atlas.spectra(surface, PIXELS)
    assert list(table.columns) == [
        "image", "sigma_max", "sigma_min", "rank", "rank_tolerance", "condition_number", "log_volume",
    ]  # fmt: skip
    assert table["sigma_max"].tolist() == pytest.approx([4, 4], rel=1e-12)
    assert table["rank"].tolist() == [2, 2]


@pytest.mark.parametrize(
    "images",
    [
        PIXELS.numpy(),
        PIXELS[:, 0],
        PIXELS.double() / 255,
        (PIXELS.double() / 255).numpy(),
    ],
)
def test_forms_of_the_same_images(surface: PrincipalSubspace, images: Tensor | np.ndarray) -> None:
    expected = latent_atlas.angles(surface, PIXELS, ["rotation"])
    pd.testing.assert_frame_equal(latent_atlas.angles(surface, images, ["rotation"]), expected, rtol=1e-12)


ENTRY_POINTS: list[Callable[[Manifold, Tensor], object]] = [
    lambda surface, images: latent_atlas.measure(surface, images, {}),
    lambda surface, images: latent_atlas.angles(surface, images, ["rotation"]),
    lambda surface, images: latent_atlas.spectra(surface, images),
    lambda surface, images: latent_atlas.interpolate(surface, images[0], images[1], 2),
]


@pytest.mark.parametrize("call", ENTRY_POINTS)
def test_images_that_do_not_fit(surface: PrincipalSubspace, call: Callable[[Manifold, Tensor], object]) -> None:
    with pytest.raises(DataError, match=r"do not fit this manifold: it needs .* of shape N x 1 x 6 x 6"):
        call(surface, torch.rand(2, 1, 8, 8))
    with pytest.raises(DataError, match=r"in \[0, 1\]"):
        call(surface, PIXELS.float())
    with pytest.raises(DataError, match=r"not torch.int64"):
        call(surface, PIXELS.long())
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        call(surface, torch.full((2, *SHAPE), math.nan))


def test_encode_checks_the_shape(surface: PrincipalSubspace) -> None:
    with pytest.raises(
        DataError, match=r"of shape N x 1 x 6 x 6 for this manifold, not torch.float32 of shape 2 x 1 x 4"
    ):
        surface.encode(torch.rand(2, 1, 4, 9))
    with pytest.raises(DataError, match=r"not torch.int64"):
        surface.encode(PIXELS.long())
    torch.testing.assert_close(surface.encode(PIXELS), surface.encode(PIXELS.to(surface.dtype) / 255))

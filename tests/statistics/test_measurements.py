"""Angles and spectra as tables: closed forms of linear subspaces, and images that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from surfaces import Chart, orthonormal, sphere
from torch import Tensor

import latent_atlas
from latent_atlas.errors import DataError, ParamsError
from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace
from latent_atlas.geometry.pca import fit
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
        "effective_rank", "participation_ratio", "reason",
    ]  # fmt: skip
    assert table["sigma_max"].tolist() == pytest.approx([4, 4], rel=1e-12)
    assert table["rank"].tolist() == [2, 2]
    assert table["effective_rank"].tolist() == pytest.approx([3 / 2 ** (2 / 3)] * 2, rel=1e-12)  # of 2/3 and 1/3


class TestPerStandardDeviation:
    """Spectra in which the scale of the code does not count."""

    NUMBERS = ("sigma_max", "sigma_min", "condition_number", "log_volume", "effective_rank", "participation_ratio")

    def test_of_pca_are_the_deviations_along_the_components(self) -> None:
        images = torch.randint(0, 256, (300, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        found = fit(images)
        row = latent_atlas.spectra(found.subspace(3, centred=True), PIXELS, training=images).iloc[0]
        deviations = found.variance[:3].sqrt()
        assert row["sigma_max"] == pytest.approx(1, rel=1e-10)
        assert row["sigma_max_per_sd"] == pytest.approx(float(deviations[0]), rel=1e-10)
        assert row["sigma_min_per_sd"] == pytest.approx(float(deviations[2]), rel=1e-10)
        assert row["log_volume_per_sd"] == pytest.approx(float(deviations.log().sum()), rel=1e-10)
        assert (row["directions"], row["rank_per_sd"], row["reason"]) == (3, 3, None)

    @pytest.mark.parametrize("columns", [None, 1])
    def test_do_not_change_with_the_coordinates(self, columns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of a curved surface under a linear change of its codes, while the plain ones do change."""
        if columns:  # of the Jacobian at a time
            monkeypatch.setattr("latent_atlas.geometry.tangent_spaces.MEMORY", 1)
            monkeypatch.setattr("latent_atlas.geometry.tangent_spaces.WHOLE", 0)
        images = 0.2 + 0.6 * random_images(40)
        change = torch.tensor([[3.0, 1.0], [-0.5, 0.02]], dtype=torch.float64)
        back = torch.linalg.inv(change)
        plain = sphere()
        changed = Autoencoder(
            Chart(lambda x: plain.encode(x) @ change.T, lambda z: plain.decoder(z @ back.T)), 2, plain.image_shape
        )
        one, other = (latent_atlas.spectra(surface, images, training=images) for surface in (plain, changed))
        for number in self.NUMBERS:
            name = f"{number}_per_sd"
            assert other[name].tolist() == pytest.approx(one[name].tolist(), rel=1e-10)
            assert other[number].tolist() != pytest.approx(one[number].tolist(), rel=0.01)

    def test_where_codes_do_not_vary_are_null_with_a_reason(self, surface: PrincipalSubspace) -> None:
        table = latent_atlas.spectra(surface, PIXELS, training=PIXELS[:1].expand(20, -1, -1, -1))
        assert set(table["reason"]) == {"the codes do not vary"}
        assert set(table["directions"]) == {0}
        assert table[[f"{number}_per_sd" for number in self.NUMBERS]].isna().all(axis=None)
        assert table["sigma_max"].notna().all()

    def test_of_rank_zero_are_null_with_a_reason(self) -> None:
        flat = PrincipalSubspace(torch.zeros(3, 36).double(), torch.zeros(36).double(), SHAPE)
        table = latent_atlas.spectra(flat, PIXELS)
        assert set(table["reason"]) == {"rank zero"}
        assert set(table["rank"]) == {0}
        assert table[["effective_rank", "participation_ratio"]].isna().all(axis=None)

    def test_of_all_of_pixel_space_have_no_score(self) -> None:
        whole = PrincipalSubspace(torch.eye(36).double(), torch.zeros(36).double(), SHAPE)
        table = latent_atlas.angles(whole, PIXELS, ["shift_x"])
        assert set(table["reason"]) == {"the tangent space is all of pixel space"}
        assert table["score"].isna().all()
        assert set(table["chance_deg"]) == {0}

    def test_need_two_images(self, surface: PrincipalSubspace) -> None:
        with pytest.raises(DataError, match="1 codes have no standard deviation: give the codes of at least two"):
            latent_atlas.spectra(surface, PIXELS, training=PIXELS[:1])


def random_images(count: int) -> Tensor:
    """Images of 1 x 1 x 3 pixels in [0, 1]."""
    return torch.rand(count, 1, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


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

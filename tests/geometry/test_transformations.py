"""transformations: what each does to simple images, and its velocity against differences."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from surfaces import random

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import ParamsError
from latent_atlas.geometry.transformations import TRANSFORMATIONS, Transformation, transformation
from latent_atlas.study import schema as config

NAMES = list(TRANSFORMATIONS)
MOVING = [name for name, entry in TRANSFORMATIONS.items() if entry.velocity is not None]


def moved(name: str, images: np.ndarray, step: float) -> np.ndarray:
    """Images (N, C, H, W) or a single plane (H, W) after a step."""
    shaped = images.reshape(-1, *images.shape[-3:]) if images.ndim == 4 else images[None, None]
    return TRANSFORMATIONS[name].apply(shaped, step).reshape(images.shape)


def dot(row: int, column: int, size: int = 9) -> np.ndarray:
    """A black plane with one white pixel."""
    plane = np.zeros((size, size))
    plane[row, column] = 1
    return plane


def hill(height: int = 28, width: int = 28, down: float = 1.5, right: float = -2.0) -> np.ndarray:
    """A smooth bump beside the centre, black near the edge."""
    y = np.arange(height)[:, None] - (height - 1) / 2 - down
    x = np.arange(width)[None, :] - (width - 1) / 2 - right
    bump = np.exp(-(y**2 / (2 * 1.6**2) + x**2 / (2 * 1.8**2)))
    return np.where(bump > 1e-7, bump, 0)


@pytest.fixture(scope="module")
def pictures(fashion_mnist: Images) -> np.ndarray:
    """Three real images (3, 1, 28, 28)."""
    return as_float(fashion_mnist.train[[5, 6, 71]], torch.float64).numpy()


class TestAll:
    """What holds of every transformation."""

    def test_parameter_file_knows_the_same_names(self) -> None:
        assert tuple(TRANSFORMATIONS) == config.TRANSFORMATION_NAMES
        assert all(entry.name == name for name, entry in TRANSFORMATIONS.items())

    @pytest.mark.parametrize("name", NAMES)
    def test_step_of_zero_changes_nothing(self, name: str, pictures: np.ndarray) -> None:
        assert np.abs(moved(name, pictures, 0.0) - pictures).max() < 1e-14

    @pytest.mark.parametrize("name", NAMES)
    def test_step_does_something_and_leaves_its_input_alone(self, name: str, pictures: np.ndarray) -> None:
        before = pictures.copy()
        assert np.abs(moved(name, pictures, 2.0) - pictures).max() > 0.005
        velocity = TRANSFORMATIONS[name].velocity
        if velocity is not None:
            velocity(pictures)
        assert np.array_equal(pictures, before)

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_each_channel_of_each_image_is_moved_alike(self, name: str, dtype: type) -> None:
        entry = TRANSFORMATIONS[name]
        images: np.ndarray = random(2, 3, 7, 9).sigmoid().numpy().astype(dtype)
        together = entry.apply(images, 1.5)
        assert together.shape == images.shape
        for picture in range(2):
            for channel in range(3):
                plane = images[picture, channel][None, None]
                assert np.array_equal(together[picture, channel], entry.apply(plane, 1.5)[0, 0])
                if entry.velocity is not None:
                    assert np.array_equal(entry.velocity(images)[picture, channel], entry.velocity(plane)[0, 0])

    @pytest.mark.parametrize("name", MOVING)
    @pytest.mark.parametrize("shape", [(28, 28), (23, 30)])
    def test_velocity_is_the_derivative_at_zero(self, name: str, shape: tuple[int, int]) -> None:
        images = hill(*shape)[None, None]
        entry = TRANSFORMATIONS[name]
        assert entry.velocity is not None
        step = 1e-3
        differences = (entry.apply(images, step) - entry.apply(images, -step)) / (2 * step)
        inside = (..., slice(2, -2), slice(2, -2))
        velocity = entry.velocity(images)
        assert np.abs(velocity).max() > 1e-3
        assert np.abs(velocity - differences)[inside].max() < 1e-6 * np.abs(velocity).max()

    def test_velocity_of_blur_is_zero(self) -> None:
        """So there is none to measure an angle of: the change grows with the square of the step."""
        assert TRANSFORMATIONS["blur"].velocity is None
        changes = [np.abs(moved("blur", hill(), step) - hill()).max() for step in (0.5, 1.0)]
        assert changes[0] / 0.5 < 0.7 * changes[1] / 1.0
        assert np.array_equal(moved("blur", hill(), 0.01), hill())


class TestAsTheStudy:
    """The three transformations of the reference study, to the last bit."""

    def test_rotation(self, pictures: np.ndarray) -> None:
        found = moved("rotation", pictures, 1.0)
        for image, turned in zip(pictures, found, strict=True):
            assert np.array_equal(turned[0], ndimage.rotate(image[0], 1, reshape=False))

    def test_shifts(self, pictures: np.ndarray) -> None:
        for name, by in (("shift_x", [0, 1]), ("shift_y", [1, 0])):
            found = moved(name, pictures, 1.0)
            for image, shifted in zip(pictures, found, strict=True):
                assert np.array_equal(shifted[0], ndimage.shift(image[0], by))


class TestShift:
    """To the right, and down."""

    @pytest.mark.parametrize(("name", "place"), [("shift_x", (3, 5)), ("shift_y", (4, 4))])
    def test_by_one_pixel(self, name: str, place: tuple[int, int]) -> None:
        assert moved(name, dot(3, 4), 1.0) == pytest.approx(dot(*place), abs=1e-14)

    @pytest.mark.parametrize(("name", "place"), [("shift_x", (3, 2)), ("shift_y", (1, 4))])
    def test_back_by_two(self, name: str, place: tuple[int, int]) -> None:
        assert moved(name, dot(3, 4), -2.0) == pytest.approx(dot(*place), abs=1e-14)

    def test_of_a_fraction_moves_the_centre_of_mass_by_it(self) -> None:
        y, x = ndimage.center_of_mass(hill())
        assert ndimage.center_of_mass(moved("shift_x", hill(), 0.3)) == pytest.approx((y, x + 0.3), abs=1e-4)
        assert ndimage.center_of_mass(moved("shift_y", hill(), 0.3)) == pytest.approx((y + 0.3, x), abs=1e-4)

    def test_black_comes_in(self) -> None:
        found = moved("shift_x", np.ones((5, 5)), 2.0)
        assert found[:, :2] == pytest.approx(np.zeros((5, 2)), abs=1e-14)
        assert found[:, 2:] == pytest.approx(np.ones((5, 3)), abs=1e-14)


class TestRotation:
    """About the centre, against the clock."""

    @pytest.mark.parametrize("size", [8, 9])
    @pytest.mark.parametrize("turns", [1, 2, -1])
    def test_by_right_angles(self, size: int, turns: int) -> None:
        plane = random(size, size).numpy()
        plane[[0, -1]] = plane[:, [0, -1]] = 0  # at the very edge a rounded coordinate may fall outside
        assert moved("rotation", plane, 90.0 * turns) == pytest.approx(np.rot90(plane, turns), abs=1e-10)

    def test_moves_what_is_right_of_the_centre_up(self) -> None:
        image = hill(down=0.0, right=3.0)
        assert ndimage.center_of_mass(image) == pytest.approx((13.5, 16.5), abs=1e-6)
        row, column = ndimage.center_of_mass(moved("rotation", image, 10.0))
        angle = math.radians(10)
        assert (row - 13.5, column - 13.5) == pytest.approx((-3 * math.sin(angle), 3 * math.cos(angle)), abs=1e-3)


class TestScaling:
    """About the centre, by percent."""

    @pytest.mark.parametrize("percent", [5.0, 20.0, -10.0])
    def test_moments_grow(self, percent: float) -> None:
        image, factor = hill(), 1 + percent / 100
        found = moved("scaling", image, percent)
        assert found.sum() == pytest.approx(image.sum() * factor**2, rel=1e-3)
        y, x = (place - 13.5 for place in ndimage.center_of_mass(image))
        centre = tuple(place - 13.5 for place in ndimage.center_of_mass(found))
        assert centre == pytest.approx((factor * y, factor * x), abs=1e-3)

    def test_by_100_percent_doubles_each_distance(self) -> None:
        found = moved("scaling", dot(4, 5), 100.0)
        assert found[4, 6] == pytest.approx(1, abs=1e-12)
        assert found[4, 4] == pytest.approx(0, abs=1e-12)


class TestShear:
    """Rows move sideways."""

    def test_by_45_degrees_moves_each_row_by_its_height(self) -> None:
        size = 9
        plane = np.zeros((size, size))
        plane[:, 4] = 1  # an upright line through the centre
        found = moved("shear", plane, 45.0)
        inside = found[1:-1]  # at the corners a rounded coordinate may fall outside
        assert inside == pytest.approx(np.eye(size)[:, ::-1][1:-1], abs=1e-10)  # leans to the right above

    def test_keeps_the_row_of_the_centre(self) -> None:
        plane = random(9, 9).numpy()
        assert moved("shear", plane, 20.0)[4] == pytest.approx(plane[4], abs=1e-14)


class TestLight:
    """Brightness and contrast."""

    def test_brightness_multiplies(self, pictures: np.ndarray) -> None:
        assert moved("brightness", pictures, 5.0) == pytest.approx(1.05 * pictures, abs=1e-15)
        assert moved("brightness", pictures, -100.0) == pytest.approx(0 * pictures, abs=1e-15)

    def test_contrast_keeps_the_mean_of_each_plane_and_multiplies_the_deviation(self) -> None:
        images = random(2, 3, 6, 5).numpy()
        found = moved("contrast", images, 25.0)
        assert found.mean(axis=(2, 3)) == pytest.approx(images.mean(axis=(2, 3)), abs=1e-15)
        assert found.std(axis=(2, 3)) == pytest.approx(1.25 * images.std(axis=(2, 3)), rel=1e-13)

    def test_contrast_of_a_constant_image_changes_nothing(self) -> None:
        plane = np.full((8, 8), 0.25)
        assert np.array_equal(moved("contrast", plane, 50.0), plane)


class TestBlur:
    """A Gaussian."""

    def test_of_a_dot_is_the_gaussian(self) -> None:
        sigma = 1.5
        offsets = np.arange(-6, 7)  # scipy cuts at four standard deviations
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        weights /= weights.sum()
        expected = np.zeros((15, 15))
        expected[1:14, 1:14] = np.outer(weights, weights)
        assert moved("blur", dot(7, 7, 15), sigma) == pytest.approx(expected, abs=1e-15)

    def test_takes_the_outside_for_black(self) -> None:
        found = moved("blur", np.ones((9, 9)), 0.5)
        assert found[4, 4] == pytest.approx(1, abs=1e-12)
        assert found[4, 0] < 0.95


class TestByName:
    """Finding one."""

    @pytest.mark.parametrize("name", NAMES)
    def test_shipped(self, name: str) -> None:
        assert transformation(name) is TRANSFORMATIONS[name]

    def test_users_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "own_transformations_for_a_test.py").write_text(
            "def upside_down(images, step):\n    return images[..., ::-1, :]\n\n"
            "def warm(images, step):\n    return images + step\n\nwarm.unit = 'kelvin'\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        found = transformation("own_transformations_for_a_test:upside_down")
        assert isinstance(found, Transformation)
        assert (found.name, found.unit, found.velocity) == ("own_transformations_for_a_test:upside_down", "step", None)
        images = random(1, 1, 4, 3).numpy()
        assert np.array_equal(found.apply(images, 1.0), images[:, :, ::-1])
        assert transformation("own_transformations_for_a_test:warm").unit == "kelvin"
        with pytest.raises(
            ParamsError, match=r"own_transformations_for_a_test:cool': own_transformations_for_a_test has no cool"
        ):
            transformation("own_transformations_for_a_test:cool")

    def test_unknown(self) -> None:
        with pytest.raises(ParamsError, match=r"unknown transformation 'twist': choose one of rotation, .*blur"):
            transformation("twist")
        with pytest.raises(
            ParamsError, match=r"'nowhere_at_all:twist': no module named 'nowhere_at_all'; put nowhere_at_all\.py"
        ):
            transformation("nowhere_at_all:twist")


@pytest.mark.parametrize("entry", TRANSFORMATIONS.values(), ids=list(TRANSFORMATIONS))
@pytest.mark.parametrize("shape", [(3, 2, 9, 12), (2, 1, 50, 50)])
def test_displacement_is_what_a_step_changes(entry: Transformation, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).random(shape)
    found = entry.displacement(torch.from_numpy(images), 1.5)
    np.testing.assert_allclose(found.numpy(), entry.apply(images, 1.5) - images, rtol=0, atol=1e-13)


def test_transformation_that_is_not_linear() -> None:
    entry = Transformation("gamma", "step", lambda images, step: images ** (1 + step))
    images = np.random.default_rng(0).random((2, 1, 5, 5))
    found = entry.displacement(torch.from_numpy(images), 0.1)
    np.testing.assert_array_equal(found.numpy(), images**1.1 - images)

"""angles: between a motion and a subspace, where the answer is known, and what chance alone would give."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from surfaces import degrees_by_least_squares, orthonormal, random, sphere
from torch import Tensor

from latent_atlas.errors import ModelError
from latent_atlas.geometry.angles import angle_deg, chance_angle_deg, decompose
from latent_atlas.geometry.bases import orthonormal_basis

PIXELS, K = 784, 16


@pytest.fixture(scope="module")
def planes() -> tuple[Tensor, Tensor, Tensor]:
    """A matrix (784, 16) with columns far from orthonormal, a unit vector in their span, and one orthogonal to it."""
    jacobian = random(PIXELS, K) @ torch.diag(torch.logspace(0, -3, K, dtype=torch.float64)) @ random(K, K, seed=1)
    inside = jacobian @ random(K, seed=2)
    whole = torch.linalg.qr(torch.cat([jacobian, random(PIXELS, 1, seed=3)], dim=1))[0]
    return jacobian, inside / inside.norm(), whole[:, -1]


class TestAngle:
    """The angle of one motion."""

    def test_of_a_tangent_is_0(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        jacobian, inside, _ = planes
        found = angle_deg(7.5 * inside, orthonormal_basis(jacobian))
        assert found == pytest.approx(0, abs=1e-10)

    def test_of_a_normal_is_90(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        jacobian, _, outside = planes
        found = angle_deg(-0.01 * outside, orthonormal_basis(jacobian))
        assert found == pytest.approx(90, abs=1e-10)

    @pytest.mark.parametrize("degrees", [0.001, 1.0, 30.0, 45.0, 75.25, 89.999])
    @pytest.mark.parametrize("length", [1e-6, 1.0, 300.0])
    def test_in_between(self, planes: tuple[Tensor, Tensor, Tensor], degrees: float, length: float) -> None:
        jacobian, inside, outside = planes
        angle = math.radians(degrees)
        motion = length * (math.cos(angle) * inside + math.sin(angle) * outside)
        assert angle_deg(motion, orthonormal_basis(jacobian)) == pytest.approx(degrees, abs=1e-9)
        assert angle_deg(-motion, orthonormal_basis(jacobian)) == pytest.approx(degrees, abs=1e-9)
        assert degrees_by_least_squares(motion, jacobian) == pytest.approx(degrees, abs=1e-6)

    def test_close_to_0(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        """A billionth of a radian, of which an arccosine sees nothing."""
        jacobian, inside, outside = planes
        motion = inside + 1e-9 * outside
        split = decompose(motion, orthonormal_basis(jacobian))
        assert split.angle_deg is not None
        assert math.radians(split.angle_deg) == pytest.approx(1e-9, rel=1e-4)
        by_arccosine = math.acos(min(1.0, float(split.within.norm() / motion.norm())))
        assert abs(by_arccosine - 1e-9) > 0.5e-9

    def test_close_to_90(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        """A billionth of a radian off a normal, of which an arcsine sees nothing."""
        jacobian, inside, outside = planes
        motion = outside - 1e-9 * inside
        split = decompose(motion, orthonormal_basis(jacobian))
        assert split.angle_deg is not None
        assert math.radians(90 - split.angle_deg) == pytest.approx(1e-9, rel=1e-4)
        by_arcsine = math.asin(min(1.0, float(split.beyond.norm() / motion.norm())))
        assert abs(math.pi / 2 - by_arcsine - 1e-9) > 0.5e-9

    def test_to_columns_that_are_orthonormal_to_nine_digits_only(self) -> None:
        """They are kept as they are, and a tangent direction lies in their span all the same."""
        strengths = torch.linspace(1 - 0.9e-9, 1, K, dtype=torch.float64)
        jacobian = orthonormal(PIXELS, K) * strengths
        basis = orthonormal_basis(jacobian)
        assert float((basis.T @ basis - torch.eye(K)).abs().max()) > 1e-9
        assert angle_deg(jacobian.sum(dim=1), basis) == pytest.approx(0, abs=1e-10)

    def test_of_no_motion_is_none(self) -> None:
        assert angle_deg(torch.zeros(PIXELS, dtype=torch.float64), orthonormal(PIXELS, K)) is None

    def test_to_a_subspace_of_no_dimension_is_90(self) -> None:
        assert angle_deg(random(9), random(9, 0)) == 90

    def test_to_the_whole_space_is_0(self) -> None:
        assert angle_deg(random(9), orthonormal(9, 9)) == pytest.approx(0, abs=1e-13)

    @pytest.mark.parametrize("theta", [0.3, 1.2, 2.5])
    def test_on_a_sphere(self, theta: float) -> None:
        """A shift along the axis lifts off the sphere by as much as the point is near the pole."""
        surface = sphere(2.0)
        basis = orthonormal_basis(surface.jacobian(torch.tensor([[theta, 0.7]], dtype=torch.float64))[0])
        along_the_axis = torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
        assert angle_deg(along_the_axis, basis) == pytest.approx(abs(90 - math.degrees(theta)), rel=1e-12)


class TestDecomposition:
    """Both parts of a motion."""

    def test_parts_add_up_and_are_orthogonal(self) -> None:
        motion, basis = random(PIXELS, seed=5), orthonormal(PIXELS, K)
        split = decompose(motion, basis)
        torch.testing.assert_close(split.within + split.beyond, motion, rtol=0, atol=1e-14)
        assert float((basis.T @ split.beyond).norm()) < 1e-15 * float(motion.norm())
        torch.testing.assert_close(basis @ (basis.T @ split.within), split.within, rtol=0, atol=1e-14)
        assert float(split.within.norm()) ** 2 + float(split.beyond.norm()) ** 2 == pytest.approx(
            float(motion.norm()) ** 2, rel=1e-14
        )


class TestChance:
    """The angle of a fixed direction to a random subspace."""

    @pytest.mark.parametrize(
        ("k", "pixels", "radians"),
        [
            (1, 2, math.pi / 4),  # a line in the plane: all angles alike
            (1, 3, 1.0),  # density sin θ
            (2, 3, math.pi / 2 - 1),  # density cos θ
            (2, 4, math.pi / 4),  # density sin 2θ
            (1, 4, math.pi / 4 + 1 / math.pi),  # density 4/π sin² θ
            (2, 5, math.pi / 2 - 2 / 3),  # density 3 cos θ sin² θ
        ],
    )
    def test_closed_forms(self, k: int, pixels: int, radians: float) -> None:
        assert chance_angle_deg(k, pixels) == pytest.approx(math.degrees(radians), abs=1e-9)

    @pytest.mark.parametrize(("k", "pixels"), [(1, 5), (3, 64), (16, 784), (128, 784), (100, 3072)])
    def test_and_the_complement_make_a_right_angle(self, k: int, pixels: int) -> None:
        both = chance_angle_deg(k, pixels) + chance_angle_deg(pixels - k, pixels)
        assert both == pytest.approx(90, abs=1e-8)

    @pytest.mark.parametrize(("k", "pixels"), [(1, 2), (2, 3), (1, 9), (4, 9), (8, 9), (16, 64), (48, 64)])
    def test_random_subspaces(self, k: int, pixels: int) -> None:
        """The mean over many subspaces is within four standard errors."""
        count = 4000
        bases = torch.linalg.qr(random(count, pixels, k, seed=k))[0]
        direction = torch.zeros(pixels, dtype=torch.float64)
        direction[0] = 1
        angles = torch.tensor([angle_deg(direction, basis) for basis in bases], dtype=torch.float64)
        error = float(angles.std()) / math.sqrt(count)
        assert error < 0.5
        assert float(angles.mean()) == pytest.approx(chance_angle_deg(k, pixels), abs=4 * error)

    def test_of_the_models_is_near_the_simple_estimate(self) -> None:
        for k, estimate in ((16, 81.8), (32, 78.3), (128, 66.2)):
            assert chance_angle_deg(k, 784) == pytest.approx(estimate, abs=0.15)
            assert math.degrees(math.acos(math.sqrt(k / 784))) == pytest.approx(estimate, abs=0.05)

    @pytest.mark.parametrize("pixels", [10, 784])
    def test_falls_with_k(self, pixels: int) -> None:
        dimensions = range(1, pixels + 1, 1 if pixels < 100 else 29)
        angles = [chance_angle_deg(k, pixels) for k in dimensions]
        assert all(later < earlier for earlier, later in pairwise(angles))
        assert 0 <= angles[-1] < angles[0] < 90

    @pytest.mark.parametrize("pixels", [1, 3, 784])
    def test_of_the_whole_space_is_0(self, pixels: int) -> None:
        assert chance_angle_deg(pixels, pixels) == 0

    @pytest.mark.parametrize("k", [0, -1, 785])
    def test_of_an_impossible_dimension(self, k: int) -> None:
        with pytest.raises(ModelError, match=f"dimension {k} does not fit into 784 pixels: choose k from 1 to 784"):
            chance_angle_deg(k, 784)

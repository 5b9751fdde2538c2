"""Angles between a displacement and a subspace, where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from surfaces import degrees_by_least_squares, orthonormal, random, sphere
from torch import Tensor

from latent_atlas.geometry.tangent_spaces import TangentSpaces

PIXELS, K = 784, 16


def components(displacement: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """Tangential and normal component (P,) of a displacement (P,) at a Jacobian (P, k)."""
    tangential, normal = TangentSpaces(jacobian[None]).components(displacement[None, None])
    return tangential[0, 0], normal[0, 0]


def angle(displacement: Tensor, jacobian: Tensor) -> float:
    """Angle in degrees between a displacement (P,) and the columns of a matrix (P, k)."""
    return float(TangentSpaces(jacobian[None]).angles_deg(displacement[None, None]))


@pytest.fixture(scope="module")
def planes() -> tuple[Tensor, Tensor, Tensor]:
    """A matrix (784, 16) with columns far from orthonormal, a unit vector in their span, and one orthogonal to it."""
    jacobian = random(PIXELS, K) @ torch.diag(torch.logspace(0, -3, K, dtype=torch.float64)) @ random(K, K, seed=1)
    inside = jacobian @ random(K, seed=2)
    whole = torch.linalg.qr(torch.cat([jacobian, random(PIXELS, 1, seed=3)], dim=1))[0]
    return jacobian, inside / inside.norm(), whole[:, -1]


class TestAngle:
    """The angle of one displacement."""

    def test_of_a_tangent_is_0(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        jacobian, inside, _ = planes
        found = angle(7.5 * inside, jacobian)
        assert found == pytest.approx(0, abs=1e-10)

    def test_of_a_normal_is_90(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        jacobian, _, outside = planes
        found = angle(-0.01 * outside, jacobian)
        assert found == pytest.approx(90, abs=1e-10)

    @pytest.mark.parametrize("degrees", [0.001, 1.0, 30.0, 45.0, 75.25, 89.999])
    @pytest.mark.parametrize("length", [1e-6, 1.0, 300.0])
    def test_in_between(self, planes: tuple[Tensor, Tensor, Tensor], degrees: float, length: float) -> None:
        jacobian, inside, outside = planes
        radians = math.radians(degrees)
        displacement = length * (math.cos(radians) * inside + math.sin(radians) * outside)
        assert angle(displacement, jacobian) == pytest.approx(degrees, abs=1e-9)
        assert angle(-displacement, jacobian) == pytest.approx(degrees, abs=1e-9)
        assert degrees_by_least_squares(displacement, jacobian) == pytest.approx(degrees, abs=1e-6)

    def test_close_to_0(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        """A billionth of a radian, of which an arccosine sees nothing."""
        jacobian, inside, outside = planes
        displacement = inside + 1e-9 * outside
        tangential, _ = components(displacement, jacobian)
        assert math.radians(angle(displacement, jacobian)) == pytest.approx(1e-9, rel=1e-4)
        by_arccosine = math.acos(min(1.0, float(tangential.norm() / displacement.norm())))
        assert abs(by_arccosine - 1e-9) > 0.5e-9

    def test_close_to_90(self, planes: tuple[Tensor, Tensor, Tensor]) -> None:
        """A billionth of a radian off a normal, of which an arcsine sees nothing."""
        jacobian, inside, outside = planes
        displacement = outside - 1e-9 * inside
        _, normal = components(displacement, jacobian)
        assert math.radians(90 - angle(displacement, jacobian)) == pytest.approx(1e-9, rel=1e-4)
        by_arcsine = math.asin(min(1.0, float(normal.norm() / displacement.norm())))
        assert abs(math.pi / 2 - by_arcsine - 1e-9) > 0.5e-9

    def test_to_columns_that_are_orthonormal_to_nine_digits_only(self) -> None:
        """A tangent direction lies in their span all the same."""
        strengths = torch.linspace(1 - 0.9e-9, 1, K, dtype=torch.float64)
        jacobian = orthonormal(PIXELS, K) * strengths
        assert angle(jacobian.sum(dim=1), jacobian) == pytest.approx(0, abs=1e-10)

    def test_of_no_displacement_is_undefined(self) -> None:
        assert math.isnan(angle(torch.zeros(PIXELS, dtype=torch.float64), orthonormal(PIXELS, K)))

    def test_to_a_subspace_of_no_dimension_is_90(self) -> None:
        assert angle(random(9), torch.zeros(9, 2, dtype=torch.float64)) == 90

    def test_to_the_whole_space_is_0(self) -> None:
        assert angle(random(9), orthonormal(9, 9)) == pytest.approx(0, abs=1e-13)

    @pytest.mark.parametrize("theta", [0.3, 1.2, 2.5])
    def test_on_a_sphere(self, theta: float) -> None:
        """A shift along the axis lifts off the sphere by as much as the point is near the pole."""
        surface = sphere(2.0)
        jacobian = surface.jacobian(torch.tensor([[theta, 0.7]], dtype=torch.float64))[0]
        along_the_axis = torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
        assert angle(along_the_axis, jacobian) == pytest.approx(abs(90 - math.degrees(theta)), rel=1e-12)


class TestComponents:
    """Both components of a displacement."""

    def test_they_add_up_and_are_orthogonal(self) -> None:
        displacement, basis = random(PIXELS, seed=5), orthonormal(PIXELS, K)
        tangential, normal = components(displacement, basis)
        torch.testing.assert_close(tangential + normal, displacement, rtol=0, atol=1e-14)
        assert float((basis.T @ normal).norm()) < 1e-15 * float(displacement.norm())
        torch.testing.assert_close(basis @ (basis.T @ tangential), tangential, rtol=0, atol=1e-14)
        assert float(tangential.norm()) ** 2 + float(normal.norm()) ** 2 == pytest.approx(
            float(displacement.norm()) ** 2, rel=1e-14
        )

"""Chance levels: closed forms, and random subspaces."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from surfaces import angle_deg, random

from latent_atlas.errors import ModelError
from latent_atlas.statistics.chance import chance_angle_deg, score


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

    def test_of_no_dimension_is_90(self) -> None:
        assert chance_angle_deg(0, 784) == 90

    @pytest.mark.parametrize("k", [-1, 785])
    def test_of_an_impossible_dimension(self, k: int) -> None:
        with pytest.raises(ModelError, match=f"dimension {k} does not fit into 784 pixels: choose 0 to 784"):
            chance_angle_deg(k, 784)


def test_score_is_0_at_chance_and_1_for_the_whole_displacement() -> None:
    assert score(16 / 784, 16, 784) == pytest.approx(0, abs=1e-15)
    assert score(1.0, 16, 784) == pytest.approx(1)
    assert score(0.0, 392, 784) == pytest.approx(-1)
    assert math.isnan(score(1.0, 784, 784))

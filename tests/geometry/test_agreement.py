"""Principal angles: planted ones, those of random subspaces, and what does not change them."""

from __future__ import annotations

import math

import pytest
import torch
from surfaces import orthonormal, planted, random
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.geometry.agreement import agreement, orthonormal_bases, principal_angles_deg


def turned(angles_deg: list[float], pixels: int, more: int = 0) -> tuple[Tensor, Tensor]:
    """Orthonormal bases of two subspaces with these principal angles; the second has more dimensions, at 90 degrees."""
    count = len(angles_deg)
    frame = orthonormal(pixels, 2 * count + more)  # P x (2 count + more)
    angles = torch.tensor(angles_deg, dtype=torch.float64).deg2rad()
    other = frame[:, :count] * angles.cos() + frame[:, count : 2 * count] * angles.sin()
    mixed = [orthonormal(count, count, seed=1), orthonormal(count + more, count + more, seed=2)]
    return frame[:, :count] @ mixed[0], torch.cat([other, frame[:, 2 * count :]], dim=1) @ mixed[1]


class TestPrincipalAngles:
    """The angles between two subspaces."""

    @pytest.mark.parametrize(
        "angles", [[0.0, 30.0, 90.0], [1e-9, 1e-7, 1e-5, 1e-3, 1.0], [44.999, 45.0, 45.001], [89.999999, 90.0]]
    )
    @pytest.mark.parametrize("more", [0, 3])
    def test_planted(self, angles: list[float], more: int) -> None:
        a, b = turned(angles, 40, more)
        wanted = torch.tensor(angles, dtype=torch.float64)
        torch.testing.assert_close(principal_angles_deg(a, b), wanted, rtol=0, atol=1e-8)
        torch.testing.assert_close(principal_angles_deg(b, a), wanted, rtol=0, atol=1e-8)

    def test_of_lines(self) -> None:
        a, b = random(5, 1), random(5, 1, seed=1)
        cosine = float((a * b).sum().abs() / (a.norm() * b.norm()))
        assert principal_angles_deg(a / a.norm(), b / b.norm()).tolist() == pytest.approx(
            [math.degrees(math.acos(cosine))]
        )


class TestAgreement:
    """Tangent spaces of two manifolds at many images."""

    def test_summarizes_the_angles(self) -> None:
        a, b = turned([10.0, 20.0, 60.0], 30, more=1)
        found = agreement((a[None], torch.tensor([3])), (b[None], torch.tensor([4])))
        squares = [math.cos(math.radians(angle)) ** 2 for angle in (10, 20, 60)]
        assert float(found.shared) == pytest.approx(sum(squares) / 3, abs=1e-12)
        assert [float(found.smallest_deg), float(found.median_deg), float(found.largest_deg)] == pytest.approx(
            [10, 20, 60], abs=1e-8
        )
        assert float(found.chance) == pytest.approx(4 / 30)

    def test_random_subspaces_are_at_chance(self) -> None:
        draws = 400
        a, b = orthonormal_bases(random(draws, 24, 3)), orthonormal_bases(random(draws, 24, 5, seed=1))
        found = agreement(a, b)
        error = float(found.shared.std()) / math.sqrt(draws)
        assert float(found.shared.mean()) == pytest.approx(5 / 24, abs=4 * error)
        assert found.chance.tolist() == [5 / 24] * draws

    def test_codes_may_change_linearly(self) -> None:
        a, b = random(2, 30, 4), random(2, 30, 6, seed=1)
        change = planted(4, 4, [100.0, 10.0, 1.0, 0.1])
        for one, other in zip(
            agreement(orthonormal_bases(a), orthonormal_bases(b)),
            agreement(orthonormal_bases(a @ change), orthonormal_bases(b)),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)

    def test_a_space_that_contains_the_other(self) -> None:
        a = random(1, 20, 6)
        found = agreement(orthonormal_bases(a[..., :4]), orthonormal_bases(a))
        assert float(found.shared) == pytest.approx(1, abs=1e-12)
        assert float(found.largest_deg) == pytest.approx(0, abs=1e-6)

    def test_lower_ranks(self) -> None:
        """A space of rank 2 of 4 columns, and one of rank zero."""
        full, low = random(3, 20, 4), random(3, 20, 4, seed=1)
        low[1] = planted(20, 4, [2.0, 1.0])
        low[2] = 0
        bases, ranks = orthonormal_bases(low)
        assert ranks.tolist() == [4, 2, 0]
        found = agreement(orthonormal_bases(full), (bases, ranks))
        whole, _ = torch.linalg.qr(full[1])
        alone = principal_angles_deg(whole, torch.linalg.qr(planted(20, 4, [2.0, 1.0])[:, :2])[0])
        assert float(found.largest_deg[1]) == pytest.approx(float(alone[-1]))
        assert found.chance[:2].tolist() == [4 / 20, 4 / 20]
        assert all(math.isnan(part[2]) for part in found)

    def test_other_images(self) -> None:
        with pytest.raises(DataError, match="2 images of 20 numbers and at 3 images of 20"):
            agreement(orthonormal_bases(random(2, 20, 4)), orthonormal_bases(random(3, 20, 4)))

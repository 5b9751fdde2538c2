"""Principal angles: planted ones, those of random subspaces, and what does not change them."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from support import Study
from surfaces import Chart, collapsed, orthonormal, planted, random
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.errors import DataError
from latent_atlas.geometry.agreement import agreement, principal_angles_deg, tangent_bases
from latent_atlas.geometry.bases import Bases, orthonormal_bases
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.models.checkpoints import Checkpoint


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

    @pytest.mark.parametrize(
        "angles", [[0.0, 30.0, 90.0], [1e-9, 1e-7, 1e-5], [1e-3, 0.05, 0.08, 0.081], [0.1, 45.0, 89.999999], [30.0]]
    )
    @pytest.mark.parametrize("more", [0, 3])
    def test_angles_of_planted_subspaces(self, angles: list[float], more: int) -> None:
        """At one of several images, in any basis."""
        a, b = turned(angles, 40, more)
        spaces = [torch.stack([random(*part.shape, seed=4), part]) for part in (a, b)]
        found = agreement(*map(orthonormal_bases, spaces))
        wanted = [angles[0], statistics.median(angles), angles[-1]]
        assert [float(part[1]) for part in found[2:]] == pytest.approx(wanted, abs=1e-8)

    def test_summarizes_the_angles(self) -> None:
        a, b = turned([10.0, 20.0, 60.0], 30, more=1)
        found = agreement(orthonormal_bases(a[None]), orthonormal_bases(b[None]))
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
        lower = orthonormal_bases(low)
        assert lower.ranks.tolist() == [4, 2, 0]
        found = agreement(orthonormal_bases(full), lower)
        whole, _ = torch.linalg.qr(full[1])
        alone = principal_angles_deg(whole, torch.linalg.qr(planted(20, 4, [2.0, 1.0])[:, :2])[0])
        assert float(found.largest_deg[1]) == pytest.approx(float(alone[-1]))
        assert float(found.median_deg[1]) == pytest.approx(float(alone.mean()))
        assert found.chance[:2].tolist() == [4 / 20, 4 / 20]
        assert all(math.isnan(part[2]) for part in found)

    def test_other_images(self) -> None:
        with pytest.raises(DataError, match="2 images of 20 numbers and at 3 images of 20"):
            agreement(orthonormal_bases(random(2, 20, 4)), orthonormal_bases(random(3, 20, 4)))

    def test_linear_subspaces_are_compared_once(self) -> None:
        """PCA has the same tangent space at all images."""
        small, large = (orthonormal_bases(random(20, k, seed=k).expand(50, -1, -1)) for k in (3, 5))
        found = agreement(small, large)
        assert [part.stride(0) for part in (*small, *large, *found)] == [0] * 11
        assert found.shared.shape == (50,)
        mixed = agreement(small, Bases(*(part.clone() for part in large)))
        for one, other in zip(found, mixed, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


class TestTangentBases:
    """Tangent spaces of a manifold at images."""

    def test_of_float32_are_close_to_those_of_float64(self, trained: Study, digits: Images) -> None:
        """A trained network, whose singular values float32 resolves."""
        checkpoint = Checkpoint.load(trained.folder / "checkpoints" / "fc4.safetensors")
        surface = Autoencoder(checkpoint.model, 4, checkpoint.input_shape, build=checkpoint.build)
        rough, exact = (tangent_bases(one, digits.test[:50]) for one in (surface, surface.to(torch.float64)))
        assert torch.equal(rough.ranks, exact.ranks)
        assert 0 < float(agreement(rough, exact).largest_deg.max()) < 0.01

    def test_what_float32_does_not_resolve_is_measured_in_float64(self) -> None:
        """Two columns that float32 rounds to the same at dark images, and that are far apart at bright ones."""
        one, other = torch.tensor([[1 / 3, 1 / 7, 1 / 11, 0], [1, -1, 0, 0]], dtype=torch.float64)

        def decode(z: Tensor) -> Tensor:
            apart = torch.where(z[:, :1] > 0.5, 1.0, 1e-9).to(z)
            second = one.to(z) + apart * other.to(z)
            return (z[:, :1] * one.to(z) + z[:, 1:] * second).reshape(-1, 1, 1, 4)

        surface = Autoencoder(Chart(lambda x: x.flatten(1)[:, :2], decode), 2, (1, 1, 4))
        images = torch.tensor([[0.1, 0.3, 0, 0], [0.9, 0.3, 0, 0]]).view(2, 1, 1, 4)
        rough = surface.to(torch.float32)
        assert orthonormal_bases(rough.jacobian(rough.encode(images))).ranks.tolist() == [1, 2]
        plane = orthonormal_bases(torch.stack([one, other], dim=1).expand(2, -1, -1))
        for chosen in (images, images[:1]):
            found = tangent_bases(rough, chosen)
            assert found.ranks.tolist() == [2] * len(chosen)
            assert float(agreement(found, Bases(*(part[: len(chosen)] for part in plane))).largest_deg.max()) < 1e-4

    def test_dead_decoder_has_no_tangent_space(self, trained: Study, digits: Images) -> None:
        dead = collapsed(trained)
        surface = Autoencoder(dead.model, 2, dead.input_shape, build=dead.build)
        assert tangent_bases(surface, digits.test[:3]).ranks.tolist() == [0, 0, 0]

"""Geodesics on surfaces where they are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from surfaces import Chart, orthonormal, random, sphere
from torch import Tensor

from latent_atlas.geometry.geodesics import geodesics, lengths
from latent_atlas.geometry.manifold import Autoencoder, PrincipalSubspace
from latent_atlas.geometry.paths import line, smooth


def codes(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def formula(decoder: Callable[[Tensor], Tensor], pixels: int, latent_dim: int = 2) -> Autoencoder:
    """The surface that a formula draws among images of so many pixels."""
    return Autoencoder(Chart(lambda x: x.flatten(1)[:, :latent_dim], decoder), latent_dim, (1, 1, pixels))


def cylinder(z: Tensor) -> Tensor:
    return torch.stack([z[:, 0].cos(), z[:, 0].sin(), z[:, 1]], dim=1).reshape(-1, 1, 1, 3)


def flat_torus(z: Tensor) -> Tensor:
    return torch.cat([z.cos(), 2 * z[:, 1:].cos() / 2, z.sin()], dim=1)[:, [0, 3, 1, 4]].reshape(-1, 1, 1, 4)


class TestGeodesics:
    """Polygons of least energy."""

    def test_sphere(self) -> None:
        """Great circles; the error of n segments falls with n squared, which Richardson's rule removes."""
        surface = sphere()
        start, end = codes([0.3, 0.2], [1.2, -1.0]), codes([1.5, 2.0], [0.6, 1.4])
        ends = [surface.decode(z).flatten(1) for z in (start, end)]
        arc = (ends[0] * ends[1]).sum(1).acos()
        found = {n: geodesics(surface, line(start, end, n), tolerance=1e-7) for n in (12, 24)}
        assert all(part.converged.all() for part in found.values())
        gap = {n: arc - part.length for n, part in found.items()}
        torch.testing.assert_close(gap[12] / gap[24], torch.full_like(arc, 4), rtol=0.01, atol=0)
        richardson = (4 * found[24].length - found[12].length) / 3
        torch.testing.assert_close(richardson, arc, rtol=0, atol=1e-6)
        plane = torch.linalg.cross(ends[0], ends[1])
        assert float((found[24].images.flatten(2) * plane[:, None]).sum(-1).abs().max()) < 1e-5
        assert float(found[24].speed_defect.max()) < 1e-5
        torch.testing.assert_close(found[24].energy, found[24].length ** 2 / 2, rtol=1e-9, atol=0)
        assert (found[24].chord < found[24].length).all()

    @pytest.mark.parametrize(("decoder", "pixels"), [(cylinder, 3), (flat_torus, 4)])
    def test_developable(self, decoder: Callable[[Tensor], Tensor], pixels: int) -> None:
        """In these coordinates geodesics are straight lines; a bent path between the same ends returns to them."""
        start, end = codes([0.1, 0.0]), codes([2.0, 1.0])
        straight = line(start, end, 16)
        bent = straight + 0.3 * torch.sin(torch.linspace(0, math.pi, 17))[None, :, None]
        found = geodesics(formula(decoder, pixels), bent, tolerance=1e-7)
        assert found.converged.all()
        torch.testing.assert_close(found.codes, straight, rtol=0, atol=1e-4)

    def test_linear(self) -> None:
        """In a linear subspace a geodesic is the line, of the length of the chord."""
        surface = PrincipalSubspace(orthonormal(20, 3).T, random(20), (1, 4, 5))
        path = line(random(4, 3), random(4, 3, seed=1), 8)
        found = geodesics(surface, path)
        torch.testing.assert_close(found.codes, path)
        torch.testing.assert_close(found.length, found.chord)

    def test_coordinates_of_the_code_do_not_matter(self) -> None:
        """A code space that is stretched and bent leaves geodesics alone, but not the lines between codes."""
        plain = sphere()

        def bent(z: Tensor) -> Tensor:
            return torch.stack([z[:, 0] / 3 + 0.2 * z[:, 1] ** 2, z[:, 1] + 0.1 * z[:, 1] ** 3], dim=1)

        other = formula(lambda z: plain.decoder(bent(z)), 3)
        ends = codes([0.3, 0.2]), codes([2.5, 1.1])
        there = geodesics(other, line(*ends, 20), tolerance=1e-7)
        here = geodesics(plain, line(bent(ends[0]), bent(ends[1]), 20), tolerance=1e-7)
        torch.testing.assert_close(there.length, here.length, rtol=0, atol=1e-6)
        torch.testing.assert_close(there.images, here.images, rtol=0, atol=1e-4)
        lines = (plain.decode(bent(line(*ends, 20)[0])), plain.decode(line(bent(ends[0]), bent(ends[1]), 20)[0]))
        lengths = [float(images.flatten(1).diff(dim=0).norm(dim=1).sum()) for images in lines]
        assert abs(lengths[0] - lengths[1]) > 1e-3

    def test_is_no_longer_than_where_it_started(self) -> None:
        surface = sphere()
        path = line(codes([0.2, -2.0]), codes([0.2, 2.0]), 30)
        start = surface.decode(path[0]).flatten(1).diff(dim=0).norm(dim=1).sum()
        found = geodesics(surface, path, steps=3)
        assert float(found.length) < float(start)
        assert not found.converged.any()
        torch.testing.assert_close(found.codes[:, [0, -1]], path[:, [0, -1]])

    def test_ends_that_are_the_same(self) -> None:
        found = geodesics(sphere(), line(codes([1.0, 1.0]), codes([1.0, 1.0]), 4))
        assert float(found.length) == 0
        assert found.converged.all()

    def test_keeps_the_shorter_of_two(self) -> None:
        """Around a cylinder there are two geodesics between two points; both starts find theirs."""
        start, far, near = codes([0.0, 0.0]), codes([4.0, 1.0]), codes([4.0 - 2 * math.pi, 1.0])
        surface = formula(cylinder, 3)
        long, short = line(start, far, 12), line(start, near, 12)
        there = geodesics(surface, long)
        found = geodesics(surface, long, short)
        assert found.start.tolist() == [1]
        assert float(there.other) != float(there.other)  # no other path was given
        torch.testing.assert_close(found.other, there.energy / found.energy, rtol=1e-3, atol=0)
        torch.testing.assert_close(found.length, geodesics(surface, short).length, rtol=1e-6, atol=0)
        assert geodesics(surface, short, long).start.tolist() == [0]

    def test_paths_to_the_same_geodesic_agree(self) -> None:
        straight = line(codes([0.3, 0.2]), codes([1.5, 2.0]), 8)
        wave = torch.sin(torch.linspace(0, math.pi, 9, dtype=torch.float64))[None, :, None]
        found = geodesics(sphere(), straight, straight + 0.2 * wave)
        assert found.start.tolist() == [0]
        assert float(found.other) == pytest.approx(1, abs=1e-3)

    def test_pairs_do_not_mix(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pairs are computed in parts that fit into memory, with the same results."""
        path = line(codes([0.3, 0.2], [1.2, -1.0], [0.5, 0.5]), codes([1.5, 2.0], [0.6, 1.4], [2.0, -0.5]), 6)
        every = geodesics(sphere(), path, tolerance=1e-7)
        monkeypatch.setattr("latent_atlas.geometry.geodesics.JACOBIAN_MEMORY", 1)
        torch.testing.assert_close(geodesics(sphere(), path, tolerance=1e-7).codes, every.codes, rtol=0, atol=1e-6)

    def test_a_dead_decoder(self) -> None:
        """All codes draw the same image: nothing to minimize."""
        found = geodesics(formula(lambda z: 0 * z.reshape(-1, 1, 1, 2) + 0.5, 2), line(codes([0, 0]), codes([1, 2]), 4))
        assert (float(found.length), float(found.relative_gradient)) == (0, 0)
        assert found.converged.all()

    def test_relative_gradient_bounds_the_excess(self) -> None:
        """A polygon that is not yet minimal is longer by at most (n · relative gradient)² / 24 of its length."""
        path = line(codes([0.4, -1.0]), codes([1.2, 1.0]), 10)
        least = geodesics(sphere(), path, tolerance=1e-8)
        early = geodesics(sphere(), path, steps=4)
        excess = float(early.length / least.length - 1)
        assert 0 < excess <= float((10 * early.relative_gradient) ** 2 / 24)


class TestLengths:
    """Lengths of decoded curves."""

    def test_lengths(self) -> None:
        """A meridian of a sphere, by a spline through a few nodes."""
        nodes = line(codes([0.2, 1.0]), codes([1.7, 1.0]), 4)
        found = lengths(sphere(2.0), smooth(nodes, 64))
        assert float(found) == pytest.approx(3.0, rel=1e-4)
        assert float(lengths(sphere(2.0), nodes)) == pytest.approx(16 * math.sin(1.5 / 8), rel=1e-12)

"""Paths that do not follow the straight line of codes."""

from __future__ import annotations

import math

import torch
from surfaces import Chart, random
from torch import Tensor

from latent_atlas.geometry.manifold import Autoencoder, PixelSpace
from latent_atlas.geometry.paths import line, smooth, through_neighbours


class TestThroughNeighbours:
    """Shortest paths in a graph of nearest neighbours."""

    def test_follows_a_ring(self) -> None:
        """Points on a circle in pixel space, where the line cuts across; nodes lie at equal steps of the arc."""
        angles = torch.linspace(0, math.pi, 201, dtype=torch.float64)
        ring = torch.stack([angles.cos(), angles.sin()], dim=1)
        start, end = ring[:1], ring[-1:]
        found = through_neighbours(PixelSpace((1, 1, 2)), ring[1:-1], start, end, 6)[0]
        expected = torch.linspace(0, math.pi, 7, dtype=torch.float64)
        torch.testing.assert_close(torch.atan2(found[:, 1].abs(), found[:, 0]), expected, rtol=0, atol=1e-3)
        torch.testing.assert_close(found.norm(dim=1), torch.ones_like(found[:, 0]), rtol=0, atol=1e-3)

    def test_steps_are_equal_among_images(self) -> None:
        """A half circle whose angle is the square of the code: the steps are equal in the angle."""

        def decode(z: Tensor) -> Tensor:
            return torch.cat([(z**2).cos(), (z**2).sin()], dim=1).reshape(-1, 1, 1, 2)

        surface = Autoencoder(Chart(lambda x: x.flatten(1)[:, :1], decode), 1, (1, 1, 2))
        codes = torch.linspace(0, math.sqrt(3), 200, dtype=torch.float64)[:, None]
        found = through_neighbours(surface, codes[1:-1], codes[:1], codes[-1:], 5)[0, :, 0]
        torch.testing.assert_close(found**2, torch.linspace(0, 3, 6, dtype=torch.float64), rtol=0, atol=5e-3)

    def test_without_a_way_it_is_the_line(self) -> None:
        """Two groups that are far from each other, each end in one of them; and no codes at all."""
        groups = torch.cat([random(30, 2), random(30, 2) + 1000])
        ends = random(1, 2, seed=1), random(1, 2, seed=2) + 1000
        for codes in (groups, groups[:0]):
            found = through_neighbours(PixelSpace((1, 1, 2)), codes, *ends, 4)
            torch.testing.assert_close(found, line(*ends, 4))


class TestSmooth:
    """Splines through the nodes of a polygon."""

    def test_smooth(self) -> None:
        """They pass through the nodes, and are exact for a cubic."""
        t = torch.linspace(0, 1, 9, dtype=torch.float64)
        cubic = torch.stack([t**3 - t, 2 * t**2], dim=1)[None]
        torch.testing.assert_close(smooth(cubic[:, ::2], 8), cubic)
        torch.testing.assert_close(smooth(cubic[:, [0, 4, 8]], 8)[:, [0, 4, 8]], cubic[:, [0, 4, 8]])

"""Figures of known factors: their derivatives against differences, and what the factors mean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_atlas.data.figures import FACTORS, PERIODS, directions, draw, factor_names, ranges

SHAPES = {"grey": (1, 12, 17), "colour": (3, 14, 12)}
STEP = 1e-5


def some_factors(kind: str, shape: tuple[int, int, int], count: int = 5) -> Tensor:
    """Factors all over their ranges."""
    low, high = ranges(shape)
    share = torch.rand(count, len(low), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = low + (high - low) * share
    found[:, 2] *= PERIODS[kind] or 360.0
    return found


@pytest.mark.parametrize("colour", SHAPES)
@pytest.mark.parametrize("kind", PERIODS)
def test_derivatives_are_those_of_central_differences(kind: str, colour: str) -> None:
    """By every factor."""
    shape = SHAPES[colour]
    factors = some_factors(kind, shape)
    kinds = [kind] * len(factors)
    exact = directions(kinds, factors, shape)  # N x f x P
    assert exact.shape == (5, len(factor_names(shape[0])), shape[0] * shape[1] * shape[2])
    for number in range(factors.shape[1]):
        unit = torch.zeros_like(factors)
        unit[:, number] = STEP
        ahead, behind = (draw(kinds, factors + sign * unit, shape) for sign in (1, -1))
        differences = ((ahead - behind) / (2 * STEP)).flatten(1)  # N x P
        assert (exact[:, number] - differences).abs().max() < 1e-8, list(FACTORS)[number]
        if (kind, list(FACTORS)[number]) == ("ring", "rotation"):
            assert not exact[:, number].any()
        else:
            assert exact[:, number].abs().max() > 1e-4


def test_kinds_in_one_call_are_those_of_single_calls() -> None:
    factors = some_factors("triangle", SHAPES["colour"], 4)
    together = directions(list(PERIODS), factors, SHAPES["colour"])
    for number, kind in enumerate(PERIODS):
        alone = directions([kind], factors[number : number + 1], SHAPES["colour"])
        assert torch.allclose(together[number], alone[0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", PERIODS)
def test_a_whole_period_and_a_whole_circle_of_hues_change_nothing(kind: str) -> None:
    shape = SHAPES["colour"]
    factors = some_factors(kind, shape)
    turned = factors.clone()
    turned[:, 2] += PERIODS[kind] or 33.0
    turned[:, 5] += 360
    before, after = draw([kind] * 5, factors, shape), draw([kind] * 5, turned, shape)
    assert torch.allclose(before, after, rtol=0, atol=1e-12)
    if kind != "ring":
        turned[:, 2] -= PERIODS[kind] / 2
        assert (before - draw([kind] * 5, turned, shape)).abs().max() > 0.05


@pytest.mark.parametrize("kind", PERIODS)
def test_one_pixel_moves_a_figure_by_one_pixel(kind: str) -> None:
    """To the right for x, down for y."""
    factors = torch.tensor([[0.25, -0.5, 20.0, 4.0, 0.8]], dtype=torch.float64)
    image = draw([kind], factors, (1, 21, 23))
    for axis, number in ((-1, 0), (-2, 1)):
        moved = factors.clone()
        moved[:, number] += 1
        shifted = draw([kind], moved, (1, 21, 23))
        inside = image.shape[axis] - 1
        assert torch.allclose(shifted.narrow(axis, 1, inside), image.narrow(axis, 0, inside), rtol=0, atol=1e-12)
    assert image.max() <= 0.8


def test_rotation_turns_from_right_to_down() -> None:
    factors = torch.tensor([[0.0, 0.0, 90.0, 5.0, 1.0]], dtype=torch.float64)
    upright = draw(["ellipse"], factors, (1, 21, 21))[0, 0]
    factors[0, 2] = 0
    lying = draw(["ellipse"], factors, (1, 21, 21))[0, 0]
    assert torch.allclose(upright, lying.T, rtol=0, atol=1e-12)
    assert lying[10, 14] > 0.5 > lying[14, 10]
    factors[0, 2] = 45
    slanted = draw(["ellipse"], factors, (1, 21, 21))[0, 0]
    assert slanted[13, 13] > 0.5 > slanted[13, 7]


@pytest.mark.parametrize("colour", SHAPES)
def test_figures_lie_inside_their_images(colour: str) -> None:
    for kind in PERIODS:
        images = draw([kind] * 200, some_factors(kind, SHAPES[colour], 200), SHAPES[colour])
        edge = torch.cat([images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]], -1)
        assert edge.max() < 0.25
        assert images.amax((1, 2, 3)).min() > 0.2
        assert images.min() >= 0


def test_large_figures_stay_finite() -> None:
    factors = torch.tensor([[0.0, 0.0, 10.0, 400.0, 1.0]] * 4, dtype=torch.float64)
    assert directions(list(PERIODS), factors, (1, 3, 2400)).isfinite().all()

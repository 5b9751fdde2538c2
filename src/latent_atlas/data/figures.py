"""Figures of known factors: a closed formula for their pixels, smooth in every factor, and its exact derivatives.

A pixel at (u, v) from a figure's position, to the right and down, has the value

    brightness · colour · σ(-d / EDGE),    σ(t) = 1 / (1 + exp(-t)),

where d is about its distance to the figure's edge in pixels, negative inside. With (p, q) for (u, v) in axes that are
turned by the rotation (from right towards down), and s for the size:

- ellipse: d = (ρ² - 1) / 2g with ρ² = (p/a)² + (q/b)² and g² = (p/a²)² + (q/b²)² + (1/2s)², a = s, b = 0.6 s; the
  first-order distance to a level curve: Taubin, "Estimation of Planar Curves, Surfaces, and Nonplanar Space Curves"
  (1991);
- rectangle and triangle: d = EDGE · log Σ exp(dᵢ / EDGE) over the distances dᵢ to the lines of their sides, which is a
  smooth maximum;
- ring: d = ((r - 0.7 s)² - w²) / 2w with r² = u² + v² + (0.1 s)² and w = 0.25 s.

In grey the colour is 1; in colour it is (1 + cos(hue - 120° j)) / 2 for the channels j = 0, 1, 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import jvp

EDGE = 0.7  # pixels
FACTORS = {"x": "pixel", "y": "pixel", "rotation": "degree", "size": "pixel", "brightness": "one", "hue": "degree"}
# By kind: after how many degrees a turned figure is the same; a ring is the same however it is turned.
PERIODS = {"ellipse": 180.0, "rectangle": 180.0, "triangle": 120.0, "ring": 0.0}


def factor_names(channels: int) -> tuple[str, ...]:
    """The factors of figures in grey (1 channel) or in colour (3), in the order of their columns."""
    return tuple(FACTORS)[: 6 if channels == 3 else 5]


def ranges(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each factor (f,) for which figures lie inside images (C, H, W).

    Rotation is in shares of a figure's period.
    """
    channels, height, width = shape
    shorter = min(height, width)
    across, down = ((side - 0.62 * shorter) / 2 - 1 for side in (width, height))
    low = [-across, -down, 0.0, 0.18 * shorter, 0.5, 0.0]
    high = [across, down, 1.0, 0.28 * shorter, 1.0, 360.0]
    count = len(factor_names(channels))
    return torch.tensor(low[:count], dtype=torch.float64), torch.tensor(high[:count], dtype=torch.float64)


def draw(kinds: Sequence[str], factors: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Draw figures by the formula above.

    Parameters
    ----------
    kinds : sequence of N str
        Keys of :data:`PERIODS`.
    factors : tensor (N, f)
        The columns are those of :func:`factor_names`: position from the centre in pixels, to the right and down;
        rotation in degrees; size in pixels; brightness between 0 and 1; hue in degrees.
    shape : (C, H, W)

    Returns
    -------
    tensor (N, C, H, W)
        Between 0 and 1, in the precision of the factors.
    """
    x, y, rotation, s, brightness, *hue = (each[:, None, None] for each in factors.unbind(1))  # N x 1 x 1 each
    channels, height, width = shape
    rows, columns = (torch.arange(side).to(factors) - (side - 1) / 2 for side in (height, width))
    u, v = columns - x, rows[:, None] - y  # N x 1 x W, N x H x 1
    sine, cosine = torch.deg2rad(rotation).sin(), torch.deg2rad(rotation).cos()
    p, q = cosine * u + sine * v, cosine * v - sine * u  # N x H x W
    a, b, w = s, 0.6 * s, 0.25 * s

    def maximum(*distances: Tensor) -> Tensor:
        return EDGE * torch.logsumexp(torch.stack(distances) / EDGE, 0)  # N x H x W

    gradient = ((p / a**2) ** 2 + (q / b**2) ** 2 + (0.5 / s) ** 2).sqrt()
    slanted = 0.75**0.5 * p
    r = (u**2 + v**2 + (0.1 * s) ** 2).sqrt()
    distances = {
        "ellipse": ((p / a) ** 2 + (q / b) ** 2 - 1) / (2 * gradient),
        "rectangle": maximum(p - a, -p - a, q - b, -q - b),
        "triangle": maximum(q - 0.55 * s, slanted - q / 2 - 0.55 * s, -slanted - q / 2 - 0.55 * s),
        "ring": ((r - 0.7 * s) ** 2 - w**2) / (2 * w),
    }
    order = [list(PERIODS).index(kind) for kind in kinds]
    all_kinds = torch.stack([distances[kind] for kind in PERIODS], 1)  # N x kinds x H x W
    image = brightness * torch.sigmoid(-all_kinds[range(len(order)), order] / EDGE)  # N x H x W
    if not hue:
        return image[:, None].expand(-1, channels, -1, -1)
    channel = torch.arange(3).to(factors)[:, None, None]
    return image[:, None] * (1 + torch.deg2rad(hue[0][:, None] - 120 * channel).cos()) / 2  # N x 3 x H x W


def directions(kinds: Sequence[str], factors: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Derivatives of :func:`draw` by each factor, (N, f, CHW), by forward-mode differentiation of the formula.

    That of a ring by its rotation is zero.
    """
    units = torch.eye(factors.shape[1]).to(factors)  # f x f
    drawn = [jvp(lambda at: draw(kinds, at, shape), (factors,), (unit.expand_as(factors),))[1] for unit in units]
    return torch.stack(drawn, 1).flatten(2)  # N x f x CHW

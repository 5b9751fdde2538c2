"""Tangent vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from latent_atlas.report.figures.style import PAGE_WIDTH, SIGNED_COLOURS, array, height_to_width, panel, signed_mosaic

if TYPE_CHECKING:
    from torch import Tensor


def plot_tangents(vectors: Tensor | np.ndarray, title: str = "", ax: Axes | None = None) -> Axes:
    """Tangent vectors as images, row by row, on one colour scale centred at zero.

    Parameters
    ----------
    vectors : tensor or array (k, C, H, W)
        If there are none, one blank image is drawn.
    title : str
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    shown = array(vectors)
    if not len(shown):
        shown = np.zeros((1, *shown.shape[1:]))
    columns = gallery_columns(len(shown))
    rows = math.ceil(len(shown) / columns)
    limit = float(np.abs(shown).max()) or 1.0
    tile = (PAGE_WIDTH - 0.9) / columns
    with panel(ax, PAGE_WIDTH, tile * rows * height_to_width(shown) + 0.5) as axes:
        drawn = axes.imshow(
            signed_mosaic(shown, columns), cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes.set_axis_off()
        axes.set_title(title)
        axes.figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01, label="change of a pixel")
        return axes


def gallery_columns(count: int) -> int:
    """The number of images in a row: at most 8 for up to 32 images, 16 for more."""
    return min(count, 8 if count <= 32 else 16)

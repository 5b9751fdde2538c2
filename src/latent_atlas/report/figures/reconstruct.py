"""Reconstructions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from latent_atlas.errors import DataError
from latent_atlas.report.figures import style

if TYPE_CHECKING:
    from torch import Tensor

BESIDE = 6  # grids of images in a row
RESIDUAL_LIMIT = 0.5  # of the range of a pixel; the ends of the residuals' colour scale


def plot_images(groups: Mapping[str, Tensor | np.ndarray]) -> Figure:
    """Grids of images side by side, at most six in a row, each under its name.

    Parameters
    ----------
    groups : mapping of str to tensor or array (n, C, H, W)
        Images with values in [0, 1]; other values are clipped. DataError if there are no groups.
    """
    if not groups:
        raise DataError("a plot of images needs at least one group, but the mapping is empty: name some images")
    columns = min(BESIDE, len(groups))
    rows = math.ceil(len(groups) / columns)
    side = min(style.PAGE_WIDTH / columns, 5.0)
    height = side * max(map(style.height_to_width, groups.values()))
    with style.figure(side * columns, (height + 0.3) * rows) as fig:
        grid = np.ravel(fig.subplots(rows, columns))
        for axes, (name, images) in zip(grid, groups.items(), strict=False):
            style.show(axes, style.mosaic(images, math.ceil(math.sqrt(len(images)))))
            axes.set_title(style.short(name), fontsize=min(10.0, 120 * side / len(style.short(name))))
        for axes in grid[len(groups) :]:
            axes.set_visible(False)
        return fig


def plot_comparison(
    originals: Tensor | np.ndarray, reconstructions: Mapping[str, Tensor | np.ndarray], columns: int = 10
) -> Figure:
    """The same images by every manifold, a row each; on the right the differences to the originals.

    Parameters
    ----------
    originals : tensor or array (n, C, H, W)
    reconstructions : mapping of str to tensor or array (n, C, H, W)
    columns : int
        How many of the images to show.
    """
    columns = min(columns, len(originals))
    shown = style.arrays({"original": originals} | dict(reconstructions))
    rows = {name: images[:columns] for name, images in shown.items()}
    tile = (style.PAGE_WIDTH - 1.2) / (2 * columns) * style.height_to_width(shown["original"])
    with style.figure(style.PAGE_WIDTH, tile * len(rows) * 1.04 + 0.9, "compressed") as fig:
        left, right = fig.subplots(1, 2)
        style.show(left, style.stacked(rows, columns))
        height = shown["original"].shape[-2] + 1
        residuals = style.stacked(
            {name: images - rows["original"] for name, images in rows.items()}, columns, style.signed_mosaic
        )
        residuals[:height] = np.nan
        drawn = right.imshow(residuals, cmap=style.SIGNED_COLOURS, vmin=-RESIDUAL_LIMIT, vmax=RESIDUAL_LIMIT)
        right.set_axis_off()
        style.label_rows(left, list(rows), height)
        left.set_title("reconstruction")
        right.set_title("reconstruction − original")
        fig.colorbar(drawn, ax=[left, right], location="bottom", fraction=0.03, pad=0.01, shrink=0.4, anchor=(1, 1))
        return fig

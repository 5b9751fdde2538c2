"""Interpolations between two images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latent_atlas.report.figures import style

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 14  # that are always drawn one below the other
HIGHEST = 15.0  # inches, of a figure of more rows
SMALLEST = 0.17  # inches, of the side of an image


def plot_interpolation(rows: Mapping[str, Tensor | np.ndarray], title: str = "", ax: Axes | None = None) -> Axes:
    """The images of paths between the same two images, one row for each manifold.

    Many rows are drawn in up to three columns: 240 rows of square images stay below 2,500 pixels.

    Parameters
    ----------
    rows : mapping of str to tensor or array (n, C, H, W)
        The images of a path in order, both ends included. DataError if there are no rows.
    title : str
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    count = max(map(len, rows.values()), default=0)
    width = style.stacked(rows, count).shape[1]  # pixels; DataError where there are no rows
    first, names = next(iter(rows.values())), [style.short(name) for name in rows]
    label = 1.4 if len(names) <= ROWS else 0.08 * max(map(len, names)) + 0.1  # inches, of the names beside the rows

    def length(columns: int) -> int:
        return math.ceil(len(rows) / columns / 2) * 2 if columns > 1 else len(rows)  # two rows of a model stay together

    def tile(columns: int) -> float:
        wide = (style.PAGE_WIDTH - columns * label) / (columns * count + (4 if columns == 1 else 0))
        if len(rows) <= ROWS:
            return wide
        return max(SMALLEST, min(wide, HIGHEST / (1.04 * style.height_to_width(first) * length(columns))))

    columns = max((1, 2, 3) if len(rows) > ROWS else (1,), key=tile)
    high = tile(columns) * style.height_to_width(first) * length(columns) * 1.04
    step = length(columns)
    inch = (first.shape[-1] + 1) / tile(columns)  # pixels
    parts = [dict(list(style.arrays(rows).items())[start : start + step]) for start in range(0, len(rows), step)]
    pictures = [style.stacked(part, count) for part in parts]
    gap = round(label * inch)
    canvas = np.ones((len(pictures[0]), len(parts) * (width + gap) - gap, 3))
    with style.panel(ax, canvas.shape[1] / inch + label, high + 0.4) as axes:
        starts = [number * (width + gap) for number in range(len(parts))]
        for start, picture in zip(starts, pictures, strict=True):
            canvas[: len(picture), start : start + width] = picture
        style.show(axes, canvas)
        style.label_rows(axes, list(parts[0]), first.shape[-2] + 1)
        for start, part in zip(starts[1:], parts[1:], strict=True):
            for number, name in enumerate(part):
                place = (start - 0.05 * inch, (number + 0.5) * (first.shape[-2] + 1))
                axes.text(*place, style.short(name), ha="right", va="center", color=style.INK)
        axes.set_title(title)
        return axes


def plot_path(table: pd.DataFrame, title: str = "", groups: Mapping[str, Sequence[str]] | None = None) -> Figure:
    """The speed of each path, and its distance to the nearest training image, against t.

    Parameters
    ----------
    table : DataFrame
        One pair of images: ``manifold``, ``model`` (optional), ``t``, ``step_length``,
        ``distance_to_nearest_training_image``. DataError if it is empty.
    title : str
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    models = style.by_model(table)
    looks = style.looks(list(models), groups)
    with style.figure(style.PAGE_WIDTH, 4.2 + style.legend_height(list(models))) as fig:
        speed, distance = fig.subplots(1, 2)
        for name, rows in models.items():
            line = {"linewidth": 1.2, **looks[name].line(rows["t"].nunique())}
            steps = rows[rows["t"] > 0]
            per_unit = steps.assign(speed=steps["step_length"] * steps["t"].nunique())
            style.draw_spread(speed, per_unit, "t", "speed", **line)
            style.draw_spread(distance, rows, "t", "distance_to_nearest_training_image", label=name, **line)
        speed.set(title="speed", xlabel="t", ylabel="length per unit of t (pixel range)", ylim=(0, None))
        distance.set(title="distance to the nearest training image", xlabel="t", ylabel="pixel range", ylim=(0, None))
        style.legend(fig, looks)
        fig.suptitle(title, color=style.FAINT)
        return fig

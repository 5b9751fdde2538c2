"""Interpolations between two images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latent_atlas.report.figures import style

if TYPE_CHECKING:
    from torch import Tensor


def plot_interpolation(rows: Mapping[str, Tensor], title: str = "", ax: Axes | None = None) -> Axes:
    """The images of paths between the same two images, one row for each manifold.

    Parameters
    ----------
    rows : mapping of str to tensor (n, C, H, W)
        The images of a path in order, both ends included. DataError if there are no rows.
    title : str
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    count = max(map(len, rows.values()), default=0)
    picture = style.stacked(rows, count)
    first = next(iter(rows.values()))
    tile = (style.PAGE_WIDTH - 1.4) / (count + 4)
    height = tile * style.height_to_width(first)
    with style.panel(ax, tile * count + 1.4, height * len(rows) * 1.04 + 0.4) as axes:
        style.show(axes, picture)
        style.label_rows(axes, list(rows), first.shape[-2] + 1)
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

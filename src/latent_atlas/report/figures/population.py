"""Angles and scores over a sample: their distribution by model, and their means by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latent_atlas.report.figures import style

MARKERS = "osD^vP*X"


def plot_distributions(
    table: pd.DataFrame, examples: pd.DataFrame | None = None, groups: Mapping[str, Sequence[str]] | None = None
) -> Figure:
    """Distribution of the angles of each model, a panel for each transformation; the black line is the chance level.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``transformation``, ``angle_deg`` (NaN where undefined), ``chance_deg``; a
        row for each image. DataError if it is empty.
    examples : DataFrame, optional
        The same and ``example``: these are marked where they lie.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    kinds, models = style.distinct(table, "transformation"), style.by_model(table)
    marked = {} if examples is None or examples.empty else style.by_model(examples)
    names = [] if examples is None else list(examples["example"].drop_duplicates())
    looks = style.looks(list(models), groups)
    with style.panels(len(kinds), 4, 0.24 * len(models) + 0.7, 0.5, sharex=True, sharey=True) as (fig, grid):
        for axes, kind in zip(grid.flat, kinds, strict=False):
            for place, (name, rows) in enumerate(models.items()):
                rows = rows[rows["transformation"] == kind].dropna(subset=["angle_deg"])
                _ridge(axes, rows["angle_deg"].to_numpy(), place, looks[name].colour)
                if len(rows):
                    axes.plot([rows["chance_deg"].mean()] * 2, [place - 0.4, place + 0.4], color=style.INK, linewidth=1)
                own = marked.get(name, table[:0])
                own = own[own["transformation"] == kind]
                for example, marker in zip(names, MARKERS * len(names), strict=False):
                    at = own.loc[own["example"] == example, "angle_deg"]
                    axes.plot(at, [place] * len(at), marker, color=style.INK, markerfacecolor="white", markersize=4,
                              label=example if place == 0 and axes is grid[0, 0] else None)  # fmt: skip
            axes.set_title(kind)
            axes.set(xlim=(0, 90), xticks=[0, 30, 60, 90], ylim=(len(models) - 0.4, -0.6))
            axes.set_yticks(range(len(models)), [*map(style.short, models)], color=style.INK)
        for axes in grid[-1]:
            axes.set_xlabel("angle (degrees)")
        if names:
            fig.legend(loc="outside lower center", ncols=len(names), fontsize=8)
        return fig


def _ridge(axes: Axes, values: np.ndarray, place: int, colour: str) -> None:
    """A violin by a smoothed histogram, which also holds where all values are equal, and the median in white."""
    if not len(values):
        return
    counts, edges = np.histogram(values, bins=90, range=(0, 90))
    taps = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)  # a Gaussian of 2 degrees
    density = np.convolve(counts, taps / taps.sum(), mode="same")
    half = 0.42 * density / density.max()
    middle = (edges[1:] + edges[:-1]) / 2
    axes.fill_between(middle, place - half, place + half, color=colour, linewidth=0, alpha=0.75)
    axes.plot(np.median(values), place, "|", color="white", markersize=7, markeredgewidth=1.5)


def plot_class_map(table: pd.DataFrame, value: str = "score_mean", ax: Axes | None = None) -> Axes:
    """Mean score by class and model.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``label``, and the column ``value``, in parts of 1. DataError if it is empty.
    value : str
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    models, labels = style.distinct(table, "model"), style.distinct(table, "label")
    cells = table.pivot(index="model", columns="label", values=value).loc[models, labels].to_numpy(dtype=float)
    with style.panel(ax, style.PAGE_WIDTH, 0.3 * len(models) + 1.3) as axes:
        drawn = style.draw_cells(
            axes, cells, models, labels, "{:.2f}".format, lambda score: score <= 0.6, style.SHARE_COLOURS, 1,
            rotation=30, ha="right",
        )  # fmt: skip
        axes.set_title("mean score by class: 0 is chance, 1 an angle of 0°")
        axes.figure.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01)
        return axes

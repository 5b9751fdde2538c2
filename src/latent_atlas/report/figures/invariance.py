"""Displacements of images, and angles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from latent_atlas.report.figures import style

if TYPE_CHECKING:
    from torch import Tensor


def plot_displacements(rows: Mapping[str, Tensor | np.ndarray], angles: Mapping[str, float], title: str = "") -> Figure:
    """One transformation on every manifold, a row each.

    Parameters
    ----------
    rows : mapping of str to tensor or array (5, C, H, W)
        Reconstruction, the same transformed, displacement, its tangential and its normal component.
        DataError if there are no rows.
    angles : mapping of str to float
        Degrees, written at the end of each row; NaN where undefined.
    title : str
    """
    shown = style.arrays(rows)
    before = style.stacked({name: images[:2] for name, images in shown.items()}, 2)
    changes = style.stacked({name: images[2:] for name, images in shown.items()}, 3, style.signed_mosaic)
    limit = max(float(np.abs(images[2:]).max()) for images in shown.values()) or 1.0
    first = next(iter(shown.values()))
    height, width = (size + 1 for size in first.shape[-2:])
    tile = 0.62
    tall = tile * len(rows) * style.height_to_width(first)
    with style.figure(tile * 5 + 3.2, tall * 1.03 + 1.0, "compressed") as fig:
        left, right = fig.subplots(1, 2, width_ratios=[2, 3])
        style.show(left, before)
        drawn = right.imshow(changes, cmap=style.SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
        right.set_axis_off()
        style.label_rows(left, list(rows), height)
        for number, name in enumerate(rows):
            text = "undefined" if np.isnan(angles[name]) else f"{angles[name]:.1f}°"
            right.text(3 * width + 2, (number + 0.5) * height, text, ha="left", va="center")
        for axes, heads in ((left, ("image", "transformed")), (right, ("displace-\nment", "tangential", "normal"))):
            for column, head in enumerate(heads):
                axes.text((column + 0.5) * width, -3, head, ha="center", va="bottom", fontsize=8, color=style.FAINT)
        bar = fig.colorbar(drawn, ax=[left, right], location="bottom", fraction=0.03, pad=0.01, shrink=0.9)
        bar.ax.tick_params(labelsize=7)
        bar.ax.locator_params(nbins=5)
        fig.suptitle(title)
        return fig


def plot_angles(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Angles at one example, model by transformation, the mean over its trainings; the last column is chance.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``transformation``, ``example``, ``angle_deg`` (NaN where undefined),
        ``chance_deg``.
        DataError unless it has exactly one example.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    example = style.only_example(table)
    models, kinds = style.by_model(table), style.distinct(table, "transformation")
    names = list(models)
    cells = np.array(
        [
            [*rows.groupby("transformation")["angle_deg"].mean().loc[kinds], rows["chance_deg"].mean()]
            for rows in models.values()
        ]
    )
    with style.panel(ax, style.PAGE_WIDTH, 0.33 * len(names) + 1.1) as axes:
        drawn = style.draw_cells(
            axes, cells, names, [*kinds, "chance"], "{:.1f}".format, lambda angle: angle > 45, style.ANGLE_COLOURS, 90
        )
        axes.axvline(len(kinds) - 0.5, color="white", linewidth=4)
        axes.set_title(f"angle between displacements of {example} and the tangent space, degrees")
        axes.figure.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01, ticks=[0, 30, 60, 90])
        return axes


def plot_steps(table: pd.DataFrame, groups: Mapping[str, list[str]] | None = None) -> Figure:
    """Angle at one example against the size of the step; at the left edge the derivative, the limit of small steps.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``example``, ``transformation``, ``step`` (0: derivative), ``unit``,
        ``angle_deg``. DataError unless it has exactly one example.
    groups : mapping of str to list of str, optional
        The models of each row of panels; by default all in one row. Groups without a model of the table are left out.
    """
    example = style.only_example(table)
    kinds, present = style.distinct(table, "transformation"), style.by_model(table)
    shown = [(group, names) for group, names in (groups or {"": [*present]}).items() if set(names) & set(present)]
    smallest = table.loc[table["step"] > 0, "step"].min()
    looks = style.looks([name for _, names in shown for name in names], groups)
    everyone = max(shown, key=lambda row: len(row[1]))[1]
    tall = style.legend_height(list(looks)) if len(everyone) > style.NAMED else 0
    named = []
    with style.figure(style.PAGE_WIDTH, 2.1 * len(shown) + 0.5 + tall) as fig:
        grid = fig.subplots(len(shown), len(kinds), squeeze=False, sharey=True, sharex=True)
        for line, (group, names) in zip(grid, shown, strict=True):
            for axes, kind in zip(line, kinds, strict=True):
                here = {name: looks[name] for name in names if name in present}
                for name, look in here.items():
                    rows = present[name]
                    rows = rows[rows["transformation"] == kind]
                    finite = rows[rows["step"] > 0]
                    style.draw_spread(
                        axes, finite, "step", "angle_deg", label=name, **look.line(finite["step"].nunique())
                    )
                    limit = rows[rows["step"] == 0]
                    axes.plot([smallest / 2] * len(limit), limit["angle_deg"], "D", markersize=5, color=look.colour)
                unit = table.loc[table["transformation"] == kind, "unit"].iloc[0]
                axes.set_title(f"{kind} (step in {unit}s)" if axes in grid[0] else "")
                _plain_log(axes)
                axes.set_ylim(0, 90)
                axes.set_yticks([0, 30, 60, 90])
            line[0].set_ylabel(f"{group}\nangle (degrees)")
            named.append((line[-1], here))
        style.name_ends(named)
        for axes in grid[-1]:
            axes.set_xlabel("step; diamonds: derivative")
        fig.suptitle(f"angles at {example} against the size of the step", color=style.FAINT)
        return fig


def _plain_log(axes: Axes) -> None:
    """A logarithmic x axis with plain numbers, which do not overlap over short ranges."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(0.5, 1, 2)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def plot_epochs(table: pd.DataFrame, groups: Mapping[str, list[str]] | None = None) -> Figure:
    """Angle at one example against the test error, one point for each epoch; means over the trainings of a model.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``example``, ``transformation``, ``epoch``, ``test_mse``, ``angle_deg``.
        DataError unless it has exactly one example.
    groups : mapping of str to list of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    example = style.only_example(table)
    kinds, models = style.distinct(table, "transformation"), style.by_model(table)
    looks = style.looks(list(models), groups)
    with style.figure(style.PAGE_WIDTH, 4.6 + style.legend_height(list(models))) as fig:
        grid = np.atleast_1d(fig.subplots(1, len(kinds), sharex=True, sharey=True))
        for axes, kind in zip(grid, kinds, strict=True):
            for name, several in models.items():
                look = looks[name]
                of_kind = several[several["transformation"] == kind]
                rows = of_kind.groupby("epoch")[["test_mse", "angle_deg"]].mean().reset_index()
                line = {**look.line(), "marker": "", "linewidth": 1}
                axes.plot(rows["test_mse"], rows["angle_deg"], label=name, **line)
                sizes = 8 + 30 * rows["epoch"] / rows["epoch"].max()
                inside = look.points["markerfacecolor"]
                axes.scatter(
                    rows["test_mse"], rows["angle_deg"], s=sizes, marker=look.marker, edgecolors=look.colour, c=inside
                )
            axes.set(title=kind, xlabel="test error (mean squared)")
            _plain_log(axes)
        grid[0].invert_xaxis()
        grid[0].set_ylim(0, 1.05 * grid[0].get_ylim()[1])
        grid[0].set_ylabel("angle (degrees)")
        style.legend(fig, looks)
        fig.suptitle(f"angle at {example} in the course of each training, larger points later", color=style.FAINT)
        return fig

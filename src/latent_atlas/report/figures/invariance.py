"""Displacements of images, and angles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator
from torch import Tensor

from latent_atlas.report.figures.style import (
    FAINT,
    INK,
    PAGE_WIDTH,
    SIGNED_COLOURS,
    figure,
    label_rows,
    mosaic,
    palette,
    save,
    show,
    signed_mosaic,
)

ANGLE_COLOURS = "viridis_r"


def displacements(rows: Mapping[str, Tensor], angles: Mapping[str, float], title: str, path: Path) -> None:
    """One transformation on every manifold, a row each.

    Parameters
    ----------
    rows : mapping of str to tensor (5, C, H, W)
        Reconstruction, the same transformed, displacement, its tangential and its normal component.
    angles : mapping of str to float
        Degrees, written at the end of each row; NaN where undefined.
    title : str
    path : Path
    """
    limit = max(float(images[2:].abs().max()) for images in rows.values()) or 1.0
    height = next(iter(rows.values())).shape[-2] + 1
    width = next(iter(rows.values())).shape[-1] + 1
    tile = 0.62
    with figure(tile * 5 + 3.2, tile * len(rows) * 1.03 + 1.0, "compressed") as fig:
        left, right = fig.subplots(1, 2, width_ratios=[2, 3])
        show(left, np.concatenate([mosaic(images[:2], 2) for images in rows.values()]))
        drawn = right.imshow(
            np.concatenate([signed_mosaic(images[2:], 3) for images in rows.values()]),
            cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest",
        )  # fmt: skip
        right.set_axis_off()
        label_rows(left, list(rows), height)
        for number, name in enumerate(rows):
            text = "undefined" if np.isnan(angles[name]) else f"{angles[name]:.1f}°"
            right.text(3 * width + 2, (number + 0.5) * height, text, ha="left", va="center")
        for axes, heads in ((left, ("image", "transformed")), (right, ("displace-\nment", "tangential", "normal"))):
            for column, head in enumerate(heads):
                axes.text((column + 0.5) * width, -3, head, ha="center", va="bottom", fontsize=8, color=FAINT)
        bar = fig.colorbar(drawn, ax=[left, right], location="bottom", fraction=0.03, pad=0.01, shrink=0.9)
        bar.ax.tick_params(labelsize=7)
        bar.ax.locator_params(nbins=5)
        fig.suptitle(title)
        save(fig, path)


def angle_map(table: pd.DataFrame, example: str, path: Path) -> None:
    """Angles at one example, manifold by transformation; the last column is the chance level."""
    names = list(table["manifold"].drop_duplicates())
    kinds = list(table["transformation"].drop_duplicates())
    wide = table.pivot(index="manifold", columns="transformation", values="angle_deg").loc[names, kinds]
    chance = table.drop_duplicates("manifold").set_index("manifold")["chance_deg"].loc[names]
    cells = np.column_stack([wide.to_numpy(dtype=float), chance.to_numpy(dtype=float)])
    with figure(PAGE_WIDTH, 0.33 * len(names) + 1.1) as fig:
        axes = fig.subplots()
        drawn = axes.imshow(cells, cmap=ANGLE_COLOURS, vmin=0, vmax=90, aspect="auto")
        for (line, column), value in np.ndenumerate(cells):
            text = "–" if np.isnan(value) else f"{value:.1f}"
            axes.text(column, line, text, ha="center", va="center", fontsize=8, color="white" if value > 45 else INK)
        axes.axvline(len(kinds) - 0.5, color="white", linewidth=4)
        axes.set_xticks(range(len(kinds) + 1), [*kinds, "chance"], color=INK)
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"angle between displacements of {example} and the tangent space, degrees")
        fig.colorbar(drawn, ax=axes, fraction=0.02, pad=0.01, ticks=[0, 30, 60, 90])
        save(fig, path)


def step_study(table: pd.DataFrame, groups: Mapping[str, list[str]], path: Path) -> None:
    """Angle against the size of the step; at the left edge the derivative, the limit of small steps."""
    kinds = list(table["transformation"].drop_duplicates())
    shown = [(group, names) for group, names in groups.items() if set(names) & set(table["manifold"])]
    smallest = table.loc[table["step"] > 0, "step"].min()
    with figure(PAGE_WIDTH, 2.1 * len(shown) + 0.5) as fig:
        grid = fig.subplots(len(shown), len(kinds), squeeze=False, sharey=True, sharex=True)
        for line, (group, names) in zip(grid, shown, strict=True):
            for axes, kind in zip(line, kinds, strict=True):
                for name, colour in zip(names, palette(len(names)), strict=True):
                    rows = table[(table["manifold"] == name) & (table["transformation"] == kind)]
                    finite = rows[rows["step"] > 0]
                    axes.semilogx(finite["step"], finite["angle_deg"], "o-", markersize=3, color=colour, label=name)
                    limit = rows[rows["step"] == 0]
                    axes.plot([smallest / 2] * len(limit), limit["angle_deg"], "D", markersize=5, color=colour)
                unit = table.loc[table["transformation"] == kind, "unit"].iloc[0]
                axes.set_title(f"{kind} (step in {unit}s)" if axes in grid[0] else "")
                axes.set_ylim(0, 90)
                axes.set_yticks([0, 30, 60, 90])
            line[0].set_ylabel(f"{group}\nangle (degrees)")
            line[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for axes in grid[-1]:
            axes.set_xlabel("step; diamonds: derivative")
        fig.suptitle(f"angles at {table['example'].iloc[0]} against the size of the step", color=FAINT)
        save(fig, path)


def epoch_study(table: pd.DataFrame, path: Path) -> None:
    """Angle against test error, a point an epoch: what a better training does to the angle."""
    kinds = list(table["transformation"].drop_duplicates())
    names = list(table["manifold"].drop_duplicates())
    with figure(PAGE_WIDTH, 4.2) as fig:
        line = np.atleast_1d(fig.subplots(1, len(kinds), sharex=True, sharey=True))
        for axes, kind in zip(line, kinds, strict=True):
            for name, colour in zip(names, palette(len(names)), strict=True):
                rows = table[(table["manifold"] == name) & (table["transformation"] == kind)]
                axes.plot(rows["test_mse"], rows["angle_deg"], "-", color=colour, linewidth=1, label=name)
                sizes = 8 + 30 * rows["epoch"] / rows["epoch"].max()
                axes.scatter(rows["test_mse"], rows["angle_deg"], s=sizes, color=colour)
            axes.set(title=kind, xlabel="test error (mean squared)", xscale="log")
            axes.xaxis.set_major_locator(LogLocator(subs=(0.5, 1, 2)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
        line[0].invert_xaxis()
        line[0].set_ylim(bottom=0)
        line[0].set_ylabel("angle (degrees)")
        line[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        fig.suptitle(f"angle at {table['example'].iloc[0]} after each epoch, larger points later", color=FAINT)
        save(fig, path)

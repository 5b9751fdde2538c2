"""Spectra of the decoders' derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from latent_atlas.report.figures.style import FAINT, INK, PAGE_WIDTH, figure, palette, save

LINES = {"float64": "-", "float32": ":"}
OVERLAY: Any = {"color": INK, "linewidth": 1.0}


def jacobian_spectra(
    spectra: pd.DataFrame, summary: pd.DataFrame, groups: Mapping[str, list[str]], example: str, path: Path
) -> None:
    """Singular values at one example, a panel for each group of manifolds; grey, each precision's rank tolerance."""
    columns = 2
    lines = -(-len(groups) // columns)
    with figure(PAGE_WIDTH, 2.9 * lines + 0.4) as fig:
        grid = fig.subplots(lines, columns, squeeze=False, sharey=True)
        for axes in grid.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, (group, names) in zip(grid.flat, groups.items(), strict=False):
            for name, colour in zip(names, palette(len(names)), strict=True):
                for dtype, style in (("float64", {"color": colour, "label": name}), ("float32", OVERLAY)):
                    rows = spectra[(spectra["manifold"] == name) & (spectra["dtype"] == dtype)]
                    axes.semilogy(rows["order"], rows["singular_value"].clip(lower=1e-17), LINES[dtype], **style)
            for dtype, line in LINES.items():
                chosen = summary[summary["manifold"].isin(names) & (summary["dtype"] == dtype)]
                height = chosen["rank_tolerance"].max()
                axes.axhline(height, color=FAINT, linewidth=0.9, linestyle=line)
                axes.annotate(
                    f"rank tolerance, {dtype}", (1, height), xycoords=("axes fraction", "data"),
                    xytext=(-2, 2), textcoords="offset points", ha="right", fontsize=7, color=FAINT,
                )  # fmt: skip
            axes.set(title=group, xlabel="order")
            axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(0.02, 0.45))
        for line_of_axes in grid:
            line_of_axes[0].set_ylabel("singular value")
        fig.suptitle(f"decoder Jacobian at {example}: float64 solid, float32 dotted", color=FAINT)
        save(fig, path)

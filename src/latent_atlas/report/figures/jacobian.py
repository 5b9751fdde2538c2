"""Spectra of the decoders' derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latent_atlas.report.figures.style import (
    FAINT,
    INK,
    distinct,
    legend_height,
    looks,
    name_ends,
    only_example,
    panels,
)

LINES = {"float64": "-", "float32": ":"}
OVERLAY: Any = {"color": INK, "linewidth": 1.0, "linestyle": ":"}


def plot_spectra(
    spectra: pd.DataFrame, tolerances: pd.DataFrame, groups: Mapping[str, list[str]] | None = None
) -> Figure:
    """Singular values of the decoder Jacobians at one example; grey lines show the rank tolerance of each precision.

    Parameters
    ----------
    spectra : DataFrame
        ``manifold``, ``example``, ``dtype`` (float64 or float32), ``order``, ``singular_value``. DataError
        unless it has exactly one example.
    tolerances : DataFrame
        ``manifold``, ``dtype``, ``rank_tolerance``.
    groups : mapping of str to list of str, optional
        The manifolds of each panel; by default all in one panel.
    """
    shown = groups or {"": distinct(spectra, "manifold")}
    example = only_example(spectra)
    everyone = [name for names in shown.values() for name in names]
    with panels(len(shown), 2, 2.9, 0.4 + legend_height(everyone), sharey=True) as (fig, grid):
        named = []
        for axes, (group, names) in zip(grid.flat, shown.items(), strict=False):
            chosen = looks(names, groups)
            for name, look in chosen.items():
                own = spectra[spectra["manifold"] == name]
                for dtype, overlay in zip(own["dtype"].drop_duplicates(), (None, OVERLAY), strict=False):
                    rows = own[own["dtype"] == dtype]
                    line = overlay or {"label": name, **look.line(len(rows))}
                    axes.semilogy(rows["order"], rows["singular_value"].clip(lower=1e-17), **line)
            for dtype, dashes in LINES.items():
                own = tolerances[tolerances["manifold"].isin(names) & (tolerances["dtype"] == dtype)]
                if own.empty:  # not all directions were measured, and in one precision
                    continue
                height = own["rank_tolerance"].max()
                axes.axhline(height, color=FAINT, linewidth=0.9, linestyle=dashes)
                axes.annotate(
                    f"rank tolerance, {dtype}", (1, height), xycoords=("axes fraction", "data"),
                    xytext=(-2, 2), textcoords="offset points", ha="right", fontsize=7, color=FAINT,
                )  # fmt: skip
            axes.set(title=group, xlabel="order")
            named.append((axes, chosen))
        name_ends(named)  # when all are drawn: the limits are shared
        for line_of_axes in grid:
            line_of_axes[0].set_ylabel("singular value")
        fig.suptitle(f"decoder Jacobian at {example}: float64 in colour, float32 black and dotted", color=FAINT)
        return fig


def plot_spectrum_bands(bands: pd.DataFrame, groups: Mapping[str, list[str]] | None = None) -> Figure:
    """Singular values of the decoders' Jacobians per standard deviation of the code: medians over images, and bands.

    Parameters
    ----------
    bands : DataFrame
        ``model``, ``order``, ``low, median, high``: limits of the band and the median over images and trainings. It may
        be empty.
    groups : mapping of str to list of str, optional
        The models of each panel; by default all in one panel. Groups without a model of the table are left out.
    """
    present = list(bands["model"].drop_duplicates())
    shown = [(group, names) for group, names in (groups or {"": present}).items() if set(names) & set(present)]
    shown = shown or [("no code varies: no spectra", [])]
    everyone = [name for _, names in shown for name in names]
    with panels(len(shown), 2, 2.9, 0.4 + legend_height(everyone), sharey=True) as (fig, grid):
        named = []
        for axes, (group, names) in zip(grid.flat, shown, strict=False):
            chosen = looks([name for name in names if name in present], groups)
            named.append((axes, chosen))
            for name, look in chosen.items():
                rows = bands[bands["model"] == name]
                low, median, high = (rows[column].clip(lower=1e-17) for column in ("low", "median", "high"))
                axes.fill_between(rows["order"], low, high, color=look.colour, alpha=0.25, linewidth=0)
                axes.semilogy(rows["order"], median, label=name, **look.line(len(rows)))
            axes.set(title=group, xlabel="order")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_ends(named)
        for line_of_axes in grid:
            line_of_axes[0].set_ylabel("singular value per\nstandard deviation of the code")
        fig.suptitle("decoder Jacobians over the sample: median, and 5% to 95% of the images", color=FAINT)
        return fig

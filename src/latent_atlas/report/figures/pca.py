"""The spectrum of PCA."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from latent_atlas.report.figures.style import ACCENT, INK, PAGE_WIDTH, figure


def plot_pca(table: pd.DataFrame, marks: Sequence[int] = ()) -> Figure:
    """The variance along each principal component, and the share of the variance outside the first k of them.

    Parameters
    ----------
    table : DataFrame
        ``component`` (from 1), ``variance``, ``cumulative_share``.
    marks : sequence of int
        Values of k to mark; those that leave no variance outside, or have no row, are left out.
    """
    with figure(PAGE_WIDTH, 3.2) as fig:
        left, right = fig.subplots(1, 2)
        left.semilogy(table["component"], table["variance"].clip(lower=1e-12), color=ACCENT)
        left.set(xlabel="component", ylabel="variance (pixel value²)", title="PCA spectrum")
        right.semilogy(table["component"], (1 - table["cumulative_share"]).clip(lower=1e-6), color=ACCENT)
        right.set(xlabel="k", ylabel="share of the variance", title="Variance outside the first k components")
        right.set_ylim(top=4)  # room for the marks
        for number, k in enumerate(marks):
            rest = 1 - table["cumulative_share"].iloc[k - 1] if k <= len(table) else 0
            if rest > 1e-9:
                right.plot(k, rest, "o", color=INK, markersize=4)
                right.annotate(
                    f"k = {k}: {rest:.1%}", (k, rest), textcoords="offset points",
                    xytext=(10, -3 + 8 * (len(marks) - number)),
                )  # fmt: skip
        return fig

"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from latent_atlas.report.figures.style import (
    ACCENT,
    FAINT,
    PAGE_WIDTH,
    by_model,
    distinct,
    draw_spread,
    legend_height,
    looks,
    name_ends,
    panel,
    short,
    whole_ticks,
)


def plot_learning_curve(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The errors of one model on training and on test images after each epoch.

    Parameters
    ----------
    table : DataFrame
        ``manifold`` (the same in all rows), ``epoch``, ``train_mse``, ``test_mse``. DataError if it is empty.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    title = ", ".join(map(short, distinct(table, "manifold")))
    with panel(ax, 5.5, 3.2) as axes:
        axes.plot(table["epoch"], table["train_mse"], "o--", color=FAINT, markersize=4, label="training images")
        axes.plot(table["epoch"], table["test_mse"], "o-", color=ACCENT, markersize=4, label="test images")
        axes.annotate(
            f"{table['test_mse'].iloc[-1]:.4f}", (table["epoch"].iloc[-1], table["test_mse"].iloc[-1]),
            textcoords="offset points", xytext=(0, -14), ha="center", color=ACCENT,
        )  # fmt: skip
        axes.set(title=title, xlabel="epoch", ylabel="mean squared error per pixel")
        axes.set_xticks(whole_ticks(int(table["epoch"].max())))
        axes.set_ylim(bottom=0)
        axes.legend()
        return axes


def plot_learning_curves(
    table: pd.DataFrame, ax: Axes | None = None, groups: Mapping[str, Sequence[str]] | None = None
) -> Axes:
    """The error on test images after each epoch, a line for each model, with a band over its trainings.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``epoch``, ``test_mse``. DataError if it is empty.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    models = by_model(table)
    chosen = looks(list(models), groups)
    with panel(ax, PAGE_WIDTH, 4.0 + legend_height(list(models))) as axes:
        for name, rows in models.items():
            draw_spread(axes, rows, "epoch", "test_mse", label=name, **chosen[name].line(rows["epoch"].nunique()))
        axes.set(xlabel="epoch", ylabel="mean squared error per pixel, test images", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xticks(whole_ticks(int(table["epoch"].max())))
        name_ends([(axes, chosen)])
        return axes

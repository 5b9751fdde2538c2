"""Agreement of tangent spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from latent_atlas.report.figures import style

READABLE = 5.0  # points, below which a number is left out


def plot_agreement(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """How much of their tangent spaces models share, model by model, above the chance level of each pair.

    Parameters
    ----------
    table : DataFrame
        ``a``, ``b`` (models), ``shared_mean`` and ``chance``, a row for each pair. A model stands on the diagonal with
        itself where several trainings of it are compared. DataError if there are no rows.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    """
    style.distinct(table, "a")
    names = list(dict.fromkeys([*table["a"], *table["b"]]))
    place = {name: number for number, name in enumerate(names)}
    shared, chance = np.full((2, len(names), len(names)), np.nan)
    for row in table.itertuples():
        for cell in ((place[row.a], place[row.b]), (place[row.b], place[row.a])):
            shared[cell], chance[cell] = row.shared_mean, row.chance
    size = max(4.0, min(style.PAGE_WIDTH, 0.72 * len(names) + 1.4))
    side = 72 * (size - 1.4) / len(names)  # of a cell, in points
    crowded = 0.62 * side / 3 < READABLE
    font = min(8.0, side / 2.6 if crowded else 0.62 * side / 3)
    with style.panel(ax, size + 0.6, 0.8 * size) as axes:
        levels = [[f"({100 * level:.0f}%)" for level in line] for line in chance]
        drawn = style.draw_cells(
            axes, shared, names, names, lambda share: f"{100 * share:.0f}%" if font >= READABLE else "",
            lambda share: share <= 0.6, style.SHARE_COLOURS, 1, None if crowded else levels, font,
            rotation=45, ha="right", rotation_mode="anchor",
        )  # fmt: skip
        axes.set_title(f"share of the tangent spaces in common{'' if crowded else ' (in brackets: by chance)'}")
        axes.figure.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01, ticks=[0, 0.5, 1], format="{x:.0%}")
        return axes


def plot_agreement_epochs(
    table: pd.DataFrame, ax: Axes | None = None, groups: Mapping[str, Sequence[str]] | None = None
) -> Axes:
    """How much of its tangent spaces a training shares with the finished model, by epoch; bands are intervals.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``epoch``, ``shared_mean``, ``shared_mean_low``, ``shared_mean_high``. DataError if there are no
        rows.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    names = style.distinct(table, "model")
    looks = style.looks(names, groups)
    with style.panel(ax, style.PAGE_WIDTH, 3.4 + style.legend_height(names)) as axes:
        for name, look in looks.items():
            rows = table[table["model"] == name].sort_values("epoch")
            axes.plot(rows["epoch"], rows["shared_mean"], label=name, **look.line(len(rows)))
            low, high = rows["shared_mean_low"], rows["shared_mean_high"]
            axes.fill_between(rows["epoch"], low, high, color=look.colour, alpha=0.2, linewidth=0)
        axes.set(xlabel="epoch", ylim=(0, 1.02), ylabel="share of the tangent spaces")
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("tangent spaces in the course of each training, shared with those of the finished model")
        style.name_ends([(axes, looks)])
        return axes

"""Spectra of the layers."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from latent_atlas.report.figures.style import PAGE_WIDTH, figure, palette


def plot_layers(table: pd.DataFrame) -> Figure:
    """Singular values of each linear or convolutional layer, a panel for each model and part that has any.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``part`` (encoder or decoder), ``layer``, ``order``, ``singular_value``. It may be empty.
    """
    models = list(table["model"].drop_duplicates()) or ["no layers"]
    parts = list(table["part"].drop_duplicates()) or ["no spectra"]
    with figure(PAGE_WIDTH, 2.0 * len(models) + 0.3) as fig:
        grid = fig.subplots(len(models), len(parts), squeeze=False, sharey=True)
        for line, model in zip(grid, models, strict=True):
            for axes, part in zip(line, parts, strict=True):
                rows = table[(table["model"] == model) & (table["part"] == part)]
                names = list(rows["layer"].drop_duplicates())
                for name, colour in zip(names, palette(len(names)), strict=True):
                    layer = rows[rows["layer"] == name]
                    axes.loglog(layer["order"], layer["singular_value"].clip(lower=1e-17), color=colour, label=name)
                axes.set_title(f"{model}, {part}")
                if not names:
                    axes.set_axis_off()
                    continue
                axes.legend(fontsize=7, loc="lower left")
            line[0].set_ylabel("singular value")
        for axes in grid[-1]:
            axes.set_xlabel("order")
        return fig

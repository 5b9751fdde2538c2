"""Spectra of the layers."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure

from latent_atlas.report.figures.style import PAGE_WIDTH, by_model, draw_spread, figure, looks, short

NAMES_BELOW = 12  # one another in a legend beside a panel


def plot_layers(table: pd.DataFrame) -> Figure:
    """Singular values of each linear or convolutional layer, a panel for each model and part that has any.

    A band shows the trainings of a model.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``part`` (encoder or decoder), ``layer``, ``order``, ``singular_value``.
        It may be empty.
    """
    models = by_model(table) if len(table) else {"no layers": table}
    parts = list(table["part"].drop_duplicates()) or ["no spectra"]
    with figure(PAGE_WIDTH, 2.0 * len(models) + 0.3) as fig:
        grid = fig.subplots(len(models), len(parts), squeeze=False, sharey=True)
        for line, (model, own) in zip(grid, models.items(), strict=True):
            for axes, part in zip(line, parts, strict=True):
                rows = own[own["part"] == part]
                names = list(rows["layer"].drop_duplicates())
                for name, look in looks(names, {"layers": names}).items():
                    layer = rows[rows["layer"] == name]
                    values = layer.assign(singular_value=layer["singular_value"].clip(lower=1e-17))
                    draw_spread(
                        axes, values, "order", "singular_value", label=name, **look.line(layer["order"].nunique())
                    )
                axes.set(title=f"{short(model)}, {part}", xscale="log", yscale="log")
                if not names:
                    axes.set_axis_off()
                    continue
                columns = math.ceil(len(names) / NAMES_BELOW)
                axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=3.5, ncols=columns)
            line[0].set_ylabel("singular value")
        for axes in grid[-1]:
            axes.set_xlabel("order")
        return fig

"""What manifolds hold of true tangent spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latent_atlas.report.figures import style

if TYPE_CHECKING:
    from torch import Tensor


def plot_factors(
    summary: pd.DataFrame, ax: Axes | None = None, groups: Mapping[str, Sequence[str]] | None = None
) -> Axes:
    """Mean score of each factor and of all together, a colour for each model, with intervals.

    Parameters
    ----------
    summary : DataFrame
        ``model``, ``factor``, ``score_mean``, ``score_mean_low``, ``score_mean_high``. DataError if it is empty.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    models, factors = style.by_model(summary), style.distinct(summary, "factor")
    looks = style.looks(list(models), groups)
    with style.panel(ax, style.PAGE_WIDTH, 3.9 + style.legend_height(list(models))) as axes:
        for number, (name, rows) in enumerate(models.items()):
            means = rows.set_index("factor").loc[factors]
            low, middle, high = (means[f"score_mean{end}"].to_numpy(float) for end in ("_low", "", "_high"))
            places = np.arange(len(factors)) + (number - (len(models) - 1) / 2) * 0.7 / len(models)
            axes.errorbar(
                places, middle, [middle - low, high - middle], linestyle="none", markersize=5, **looks[name].points
            )
        axes.axhline(0, color=style.FAINT, linestyle="--")
        axes.annotate("chance", (1, 0), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
                      ha="right", fontsize=8, color=style.FAINT)  # fmt: skip
        axes.set_xticks(range(len(factors)), factors, color=style.INK)
        axes.set(ylabel="score of the true direction", ylim=(None, 1.02))
        style.legend(axes, looks, dots=True)
        return axes


def plot_directions(rows: Mapping[str, Tensor | np.ndarray], angles: pd.DataFrame) -> Figure:
    """An image with its derivative by each factor in the first row, and what each manifold makes of them.

    Parameters
    ----------
    rows : mapping of str to tensor or array (1 + f, C, H, W)
        An image and its derivatives, each scaled to unit length; then of each manifold the reconstruction and the
        tangential components of these derivatives.
    angles : DataFrame
        Of this image: ``manifold``, ``factor``, ``angle_deg``, written on each component; NaN where undefined.
    """
    shown = style.arrays(rows)
    first = next(iter(shown.values()))
    known = angles.set_index(["manifold", "factor"])["angle_deg"]
    factors = style.distinct(angles, "factor")[: len(first) - 1]
    before = style.stacked({name: images[:1] for name, images in shown.items()}, 1)
    changes = style.stacked({name: images[1:] for name, images in shown.items()}, len(factors), style.signed_mosaic)
    limit = float(np.abs(first[1:]).max()) or 1.0
    height, width = (size + 1 for size in first.shape[-2:])
    tile = 1.0
    with style.figure(
        tile * len(first) + 1.6, tile * len(rows) * style.height_to_width(first) + 1.0, "compressed"
    ) as fig:
        left, right = fig.subplots(1, 2, width_ratios=[1, len(factors)])
        style.show(left, before)
        right.imshow(changes, cmap=style.SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
        right.set_axis_off()
        style.label_rows(left, list(rows), height)
        for column, factor in enumerate(factors):
            right.text((column + 0.5) * width, -2, factor, ha="center", va="bottom", color=style.INK)
            for line, name in enumerate(rows):
                if (name, factor) in known.index:
                    angle = known[name, factor]
                    text = "undefined" if np.isnan(angle) else f"{angle:.1f}°"
                    right.text((column + 0.03) * width, (line + 0.02) * height, text, ha="left", va="top", fontsize=7)
        return fig

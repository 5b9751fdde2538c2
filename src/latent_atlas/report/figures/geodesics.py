"""Geodesics against the decoded lines of codes."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from latent_atlas.report.figures.style import ACCENT, FAINT, INK, PAGE_WIDTH, by_model, figure, short


def plot_gains(table: pd.DataFrame) -> Figure:
    """Lengths of geodesics over those of lines, and of both over the distances of their ends, a row for each model.

    Boxes hold the middle half of the pairs, whiskers nine tenths.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``length``, ``line_length``, ``chord``: a row for each pair and training. DataError if it is empty.
    """
    models = by_model(table[table["chord"] > 0])
    with figure(PAGE_WIDTH, 0.34 * len(models) + 0.9) as fig:
        gain, chord = fig.subplots(1, 2, sharey=True)
        for axes, over, drawn in (
            (gain, "line_length", [("length", ACCENT, 0)]),
            (chord, "chord", [("line_length", FAINT, 0.16), ("length", ACCENT, -0.16)]),
        ):
            for column, colour, shift in drawn:
                line = {"color": colour, "linewidth": 1.2}
                axes.boxplot(
                    [rows[column] / rows[over] for rows in models.values()],
                    positions=[-number + shift for number in range(len(models))],
                    widths=0.28, orientation="horizontal", whis=(5, 95), showfliers=False,
                    boxprops=line, whiskerprops=line, capprops=line, medianprops=line,
                )  # fmt: skip
            axes.axvline(1, color=INK, linewidth=0.6)
            axes.grid(visible=False, axis="y")
        gain.set_yticks([-number for number in range(len(models))], [*map(short, models)], color=INK)
        gain.set(title="length: geodesic over line of codes")
        chord.set(title="length over chord: geodesic blue, below; line grey, above")
        return fig

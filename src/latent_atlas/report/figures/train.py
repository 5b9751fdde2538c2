"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from latent_atlas.report.figures.style import ACCENT, FAINT, PAGE_WIDTH, figure, palette, save, whole_ticks


def learning_curve(table: pd.DataFrame, model: str, path: Path) -> None:
    """Errors on training and on test images after each epoch of one training."""
    with figure(5.5, 3.2) as fig:
        axes = fig.subplots()
        axes.plot(table["epoch"], table["train_mse"], "o--", color=FAINT, markersize=4, label="training images")
        axes.plot(table["epoch"], table["test_mse"], "o-", color=ACCENT, markersize=4, label="test images")
        axes.annotate(
            f"{table['test_mse'].iloc[-1]:.4f}",
            (table["epoch"].iloc[-1], table["test_mse"].iloc[-1]),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            color=ACCENT,
        )
        axes.set(title=model, xlabel="epoch", ylabel="mean squared error per pixel")
        axes.set_xticks(whole_ticks(len(table)))
        axes.set_ylim(bottom=0)
        axes.legend()
        save(fig, path)


def learning_curves(curves: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Test error over the epochs of all trainings."""
    with figure(PAGE_WIDTH, 4.0) as fig:
        axes = fig.subplots()
        most = max(len(table) for table in curves.values())
        for (name, table), colour in zip(curves.items(), palette(len(curves)), strict=True):
            axes.plot(table["epoch"], table["test_mse"], "o-", markersize=4, color=colour, label=name)
        axes.set(xlabel="epoch", ylabel="mean squared error per pixel, test images", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xticks(whole_ticks(most))
        axes.legend(ncols=2)
        save(fig, path)

"""The report on training: how each model came to its error."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report.page import Picture, Section
from latent_atlas.study.manifolds import trained
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """The learning curves in one picture, with PCA's errors beside them, and each on its own."""
    if not trained(params):
        return Section("Training", ["No model of this study was trained here: all were imported."])
    folder = results / "train"
    curves = {str(name): table for name, table in pd.read_csv(folder / "curves.csv").groupby("model", sort=False)}
    return Section(
        "Training",
        sentences=[_sentence(curves)],
        pictures=[Picture.of(folder / "curves.svg", "Error on the test images after each epoch.")],
        folded=[Picture.of(folder / name / "curve.svg", f"Learning curve of {name}.", wide=False) for name in curves],
    )


def _sentence(curves: dict[str, pd.DataFrame]) -> str:
    """Whether a model overfits, by its errors after the last epoch on training and on test images."""
    gaps = {name: table["test_mse"].iloc[-1] / table["train_mse"].iloc[-1] - 1 for name, table in curves.items()}
    name, gap = max(gaps.items(), key=lambda item: item[1])
    if gap <= 0.05:
        return "No model's test error ends more than 5% above its training error: none has overfitted yet."
    return f"The widest gap between training and test error is {name}'s: the test error ends {gap:.0%} higher."

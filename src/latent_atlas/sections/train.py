"""The report on training: how each model came to its error."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from latent_atlas import pictures
from latent_atlas.config import Params
from latent_atlas.sections.page import Picture, Section


def section(results: Path, params: Params) -> Section:
    """The learning curves in one picture, with PCA's errors beside them, and each on its own."""
    trained = [name for name, model in params.models.items() if not model.state_dict]
    curves = {name: pd.read_csv(results / "train" / name / "curve.csv") for name in trained}
    errors = pd.read_csv(results / "reconstruct" / "errors.csv")
    flat = errors[(errors["split"] == "test") & errors["manifold"].isin([f"pca{k}" for k in params.pca.latent_dims])]
    if not curves:
        return Section("Training", ["No model of this study was trained here: all were imported."])
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "curves.svg"
        pictures.learning_curves(curves, dict(zip(flat["manifold"], flat["mse"], strict=True)), drawn)
        joint = Picture.of(drawn, "Test error after each epoch; dashed, PCA of each dimension.")
    return Section(
        "Training",
        sentences=[_sentence(curves)],
        pictures=[joint],
        folded=[
            Picture.of(results / "train" / name / "curve.svg", f"Learning curve of {name}.", wide=False)
            for name in trained
        ],
    )


def _sentence(curves: dict[str, pd.DataFrame]) -> str:
    gaps = {name: table["test_mse"].iloc[-1] / table["train_mse"].iloc[-1] - 1 for name, table in curves.items()}
    name, gap = max(gaps.items(), key=lambda item: item[1])
    if gap <= 0.05:
        return "No model's test error ends more than 5% above its training error: none has overfitted yet."
    return f"The widest gap between training and test error is {name}'s: the test error ends {gap:.0%} higher."

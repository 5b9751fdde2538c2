"""The report on PCA: how much of the variance few components hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report.page import Picture, Section
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """The spectrum of the linear baseline."""
    spectrum = pd.read_csv(results / "pca" / "summary.csv")
    kept = ", ".join(
        f"{k} components hold {spectrum['cumulative_share'].iloc[k - 1]:.1%}" for k in sorted(params.pca.latent_dims)
    )
    return Section(
        "PCA, the linear baseline",
        sentences=[f"Of the training images' variance, {kept}."],
        pictures=[Picture.of(results / "pca" / "spectrum.svg", "Variance along the principal components.")],
    )

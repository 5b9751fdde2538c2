"""The report on PCA: how much of the variance few components hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.page import Picture, Section
from latent_atlas.study.schema import Params

TITLE = "PCA, the linear baseline"


def section(results: Path, params: Params) -> Section:
    """The spectrum of the linear baseline."""
    spectrum = read_table(results / "pca" / "summary.csv")
    return Section(
        TITLE,
        sentences=[sentence(findings(spectrum, params.pca.latent_dims)), *computed(spectrum)],
        pictures=[
            Picture(
                results / "pca" / "spectrum.svg",
                "Variance along the principal components.",
                alt=f"A falling curve of {len(spectrum)} variances, from {spectrum['variance'].iloc[0]:.3g} to "
                f"{spectrum['variance'].iloc[-1]:.3g}; the first component holds "
                f"{spectrum['variance_share'].iloc[0]:.1%} of the variance.",
            )
        ],
    )


def findings(spectrum: pd.DataFrame, latent_dims: list[int]) -> dict[int, float]:
    """For each number of components, smallest first, the share of the variance that they hold."""
    return {k: float(spectrum["cumulative_share"].iloc[k - 1]) for k in sorted(latent_dims)}


def sentence(shares: dict[int, float]) -> str:
    """The findings in words."""
    kept = [
        Finding(
            "variance that is held", "{components} components hold {value:.1%}", value=share, facts={"components": k}
        )
        for k, share in shares.items()
    ]
    return Sentence("Of the training images' variance, {}.", kept)


def computed(spectrum: pd.DataFrame) -> list[str]:
    """How many components there are, where not all were computed."""
    if spectrum["cumulative_share"].iloc[-1] > 1 - 1e-9:
        return []
    return [f"Only the {len(spectrum)} strongest components were computed. The shares are of the whole variance."]

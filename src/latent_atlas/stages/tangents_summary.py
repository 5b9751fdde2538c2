"""tangents_summary: how much of their tangent spaces the models share over the sample, in tables and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import read_table, write_tables
from latent_atlas.report.figures.agreement import plot_agreement, plot_agreement_epochs
from latent_atlas.report.figures.style import save
from latent_atlas.statistics.pairs import ANGLES, pairs_of_models
from latent_atlas.statistics.summaries import summarized
from latent_atlas.study.manifolds import groups, pca_manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

VARIANT = "uncentred PCA, kept for comparison: its tangent spaces are those of PCA"
BY_CONSTRUCTION = "by construction: PCA subspaces contain each other"


def tangents_summary(params: Params, measured: Path, folder: Path) -> None:
    """Summarize the shared tangent spaces by pairs of models, and draw them."""
    table = read_table(measured / "shared.parquet")
    sample, pca = table[table["example"].isna()], pca_manifolds(params)
    shared = judged(pairs_of_models(sample), pca)
    by_class = [pairs_of_models(rows).assign(label=label) for label, rows in sample.groupby("label")]
    epochs = read_table(measured / "epochs.parquet")
    if len(epochs):
        epochs = summarized(epochs, ["shared", *ANGLES], ["latent_dim", "epoch"])
        save(plot_agreement_epochs(epochs, groups=groups(params)), folder / "epochs.svg")
    classes = judged(pd.concat(by_class, ignore_index=True), pca)
    write_tables(folder, {"shared.csv": shared, "by_class.csv": classes, "epochs.csv": epochs})
    save(plot_agreement(shared[shared["reason"] != VARIANT]), folder / "shared.svg")
    log.info(f"{counted(len(shared), 'pair')} of models: {folder}")


def judged(shared: pd.DataFrame, pca: Mapping[str, tuple[int, bool]]) -> pd.DataFrame:
    """Pairs of models with their ``kind``, and with a ``reason`` also where no finding may rest on numbers.

    The kind is ``trainings`` of one model, two ``models``, a model and ``pca``, or two linear ``subspaces``.
    """
    linear = [[pca[name] for name in pair if name in pca] for pair in zip(shared["a"], shared["b"], strict=True)]
    kinds = [("models", "pca", "subspaces")[len(some)] for some in linear]
    variants = [any(not centred for _, centred in some) for some in linear]
    found = shared.assign(kind=np.where(shared["a"] == shared["b"], "trainings", kinds))
    found.loc[found["kind"] == "subspaces", "reason"] = BY_CONSTRUCTION
    found.loc[variants, "reason"] = VARIANT
    return found

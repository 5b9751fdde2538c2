"""Models that have learned nothing: no better on the test images than a baseline that needs no training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.study.manifolds import member, networks
from latent_atlas.study.schema import Params


@dataclass(frozen=True)
class Unlearned:
    """A training or imported model that has learned nothing.

    Attributes
    ----------
    manifold : str
    test_mse : float
        Its error on the test images.
    baseline : str
        The baseline with the smallest error that is not above it.
    baseline_mse : float
    """

    manifold: str
    test_mse: float
    baseline: str
    baseline_mse: float

    def __str__(self) -> str:
        return (
            f"{self.manifold} has learned nothing: its error on the test images is {self.test_mse:.5f}; the baseline "
            f"'{self.baseline}' has {self.baseline_mse:.5f}. It is left out wherever the best manifold is named."
        )


def unlearned(results: Path, params: Params) -> list[Unlearned]:
    """The networks of a study that have learned nothing; none where the errors or the baselines were not measured."""
    files = (results / "reconstruct" / "summary.csv", results / "pca" / "baselines.csv")
    if not all(file.exists() for file in files):
        return []
    errors, baselines = map(read_table, files)
    return judged(errors[errors["manifold"].isin(networks(params))], baselines)


def left_out(results: Path, params: Params) -> set[str]:
    """The models of which a training has learned nothing: nowhere named as the best."""
    return {member(params, case.manifold).model for case in unlearned(results, params)}


def judged(errors: pd.DataFrame, baselines: pd.DataFrame) -> list[Unlearned]:
    """The rule, for a table of errors (``manifold, split, mse``) and of baselines (``baseline, test_mse``)."""
    best = baselines.loc[baselines["test_mse"].idxmin()]
    test = errors[(errors["split"] == "test") & ~(errors["mse"] < best["test_mse"])]  # an error that is NaN too
    return [
        Unlearned(name, mse, best["baseline"], best["test_mse"])
        for name, mse in zip(test["manifold"], test["mse"], strict=True)
    ]

"""Intervals in words."""

from __future__ import annotations

import numpy as np
import pandas as pd

from latent_atlas.report.intervals import Interval, ranged, scope


def test_number_with_its_limits() -> None:
    row = pd.Series({"x_mean": 0.731, "x_mean_low": 0.72, "x_mean_high": 0.744})
    assert str(ranged(row, "x_mean", "{:.2f}".format)) == "0.73 (0.72 to 0.74)"
    assert ranged(row, "x_mean", "{:.2f}".format) == Interval(0.731, 0.72, 0.744, "0.73 (0.72 to 0.74)")
    row[["x_mean_low", "x_mean_high"]] = np.nan
    assert str(ranged(row, "x_mean", "{:.2f}".format)) == "0.73"
    row["x_mean"] = np.nan
    assert str(ranged(row, "x_mean", "{:.2f}".format)) == "–"


def test_what_is_not_in_them_is_said() -> None:
    """Of trained models alone: no training varies PCA."""
    said = "Intervals are of 95%, over the images of the sample"
    table = pd.DataFrame({"model": ["a", "a", "b", "pca2"], "seeds": [1, 1, 1, 1]})
    assert scope(table, {"pca2"}) == (
        f"{said}. The variation between trainings is not in them: there is one training a model"
    )
    assert scope(table[3:], {"pca2"}) == said
    table["seeds"] = [3, 3, 1, 1]
    assert scope(table, {"pca2"}) == (
        f"{said} and the trainings of a model. The variation between trainings is not in those of b: one training"
    )
    assert scope(table[:2], {"pca2"}) == f"{said} and the trainings of a model"

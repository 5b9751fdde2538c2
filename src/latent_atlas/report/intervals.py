"""Intervals in words: a number with its limits, and what an interval does not contain."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pandas as pd


def ranged(row: pd.Series, column: str, written: Callable[[float], str]) -> str:
    """The number in a column of a summary with its limits, such as ``0.73 (0.72 to 0.74)``; – where it is null."""
    value, low, high = (row[f"{column}{ending}"] for ending in ("", "_low", "_high"))
    if pd.isna(value):
        return "–"
    return written(value) if pd.isna(low) else f"{written(value)} ({written(low)} to {written(high)})"


def scope(summary: pd.DataFrame, fitted: Collection[str]) -> str:
    """What the intervals of a summary (``model, seeds``) are over; ``fitted`` are models that no training varies."""
    trained = summary[~summary["model"].isin(fitted)]
    once = list(trained.loc[trained["seeds"] == 1, "model"].drop_duplicates())
    if len(once) == trained["model"].nunique():
        said = "Intervals are of 95%, over the images of the sample"
        return (
            f"{said}. The variation between trainings is not in them: there is one training a model" if once else said
        )
    said = "Intervals are of 95%, over the images of the sample and the trainings of a model"
    return (
        f"{said}. The variation between trainings is not in those of {', '.join(once)}: one training" if once else said
    )

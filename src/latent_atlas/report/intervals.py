"""Intervals in words: a number with its limits, and what an interval does not contain."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Interval:
    """A number with its limits, and how it is written.

    Attributes
    ----------
    value, low, high : float or None
        None where there is none.
    text : str
    """

    value: float | None
    low: float | None
    high: float | None
    text: str

    def __str__(self) -> str:
        return self.text


def ranged(row: pd.Series, column: str, written: Callable[[float], str]) -> Interval:
    """The number in a column of a summary with its limits, such as ``0.73 (0.72 to 0.74)``; – where it is null."""
    value, low, high = (
        None if pd.isna(row[f"{column}{ending}"]) else float(row[f"{column}{ending}"])
        for ending in ("", "_low", "_high")
    )
    if value is None:
        return Interval(None, None, None, "–")
    if low is None or high is None:
        return Interval(value, None, None, written(value))
    return Interval(value, low, high, f"{written(value)} ({written(low)} to {written(high)})")


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


def tied(differences: pd.DataFrame, model: str, others: Collection[str]) -> list[str]:
    """Those of other models that a table of differences (``a, b, verdict``) cannot tell from one."""
    unclear = differences[differences["verdict"] == "cannot tell"]
    pairs = {frozenset(pair) for pair in zip(unclear["a"], unclear["b"], strict=True)}
    return [other for other in others if frozenset((model, other)) in pairs]

"""Joining the tables that the manifolds have of their own into one for all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def gathered(folder: Path, names: Iterable[str], file: str) -> pd.DataFrame:
    """The rows of ``folder/NAME/file`` for each name, in that order, as one long table; some may have no rows."""
    tables = [pd.read_csv(folder / name / file, keep_default_na=False, na_values=[""]) for name in names]
    return pd.concat([table for table in tables if len(table)] or tables)


def numeric_angles(table: pd.DataFrame) -> pd.DataFrame:
    """A table of angles as numbers, with NaN for those that are written as undefined."""
    return table.assign(angle_deg=pd.to_numeric(table["angle_deg"], errors="coerce"))

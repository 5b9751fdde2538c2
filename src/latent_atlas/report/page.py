"""What a section of the report is made of: data alone, which is stored as JSON and rendered by templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from latent_atlas.report.intervals import Interval


@dataclass(frozen=True)
class Picture:
    """A picture file, and what is said of it.

    Attributes
    ----------
    path : Path
        A PNG or SVG file in the folder of results; of an SVG file, a PNG file of the same name lies beside it.
    caption : str
    wide : bool
        Whether it fills the width of the page.
    plots : tuple of mappings
        Vega-Lite specifications of the same, from which values can be read.
    alt : str
        What it shows, for those who do not see it: of what it is made, and its extreme numbers.
    """

    path: Path
    caption: str
    wide: bool = True
    plots: tuple[Mapping[str, Any], ...] = ()
    alt: str = ""


@dataclass(frozen=True)
class Cell:
    """A value of a table: how it is written, and, of a number, the number and the limits of its interval."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    caption : str
    columns : tuple of str
    numeric : tuple of bool
        Which columns hold numbers.
    rows : tuple of tuples of Cell
    files : tuple of Path
        The tables in the folder of results that it was made of.
    """

    caption: str
    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    files: tuple[Path, ...] = ()

    def of(self, *files: Path) -> Table:
        """The same, made of these tables in the folder of results."""
        return replace(self, files=files)

    @property
    def words(self) -> str:
        """All that is written in it."""
        return "\n".join([self.caption, *self.columns, *(cell.text for row in self.rows for cell in row)])


@dataclass(frozen=True)
class Section:
    """A headline, what the numbers say, and the tables and pictures they rest on; or first the tables."""

    title: str
    sentences: Sequence[str] = ()
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: list[Picture] = field(default_factory=list)
    folded_tables: list[Table] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables_first: bool = False

    @property
    def anchor(self) -> str:
        """What a link to the section ends in."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def extremes(rows: pd.DataFrame, column: str, written: Callable[[float], str], *names: str) -> str:
    """From the smallest to the largest number of a column in words, each with what the columns ``names`` say of it."""
    known = rows[rows[column].notna()]
    if known.empty:
        return "none"
    low, high = known.loc[known[column].idxmin()], known.loc[known[column].idxmax()]
    if written(low[column]) == written(high[column]):
        return written(low[column])
    return " to ".join(f"{written(row[column])} ({', '.join(str(row[name]) for name in names)})" for row in (low, high))


def table(frame: pd.DataFrame, formats: Mapping[str, Callable[[float], str]], caption: str) -> Table:
    """A table of a data frame, whose cells may be an :class:`~latent_atlas.report.intervals.Interval`.

    Parameters
    ----------
    frame : DataFrame
    formats : mapping of column to function
        How to write the numbers of a column; other columns are written as text.
    caption : str
    """
    rows = tuple(
        tuple(_cell(value, formats.get(str(column))) for column, value in row.items())
        for row in frame.to_dict("records")
    )
    named = [str(column) for column in frame.columns]
    numeric = [
        column in formats or any(row[place].value is not None for row in rows) for place, column in enumerate(named)
    ]
    return Table(caption, tuple(named), tuple(numeric), rows)


def _cell(value: Any, written: Callable[[float], str] | None) -> Cell:
    if isinstance(value, Interval):
        return Cell(value.text, value.value, value.low, value.high)
    if pd.isna(value):
        return Cell("–")
    if written is not None:
        number = float(value)
        return Cell(written(value), number if math.isfinite(number) else None)
    return Cell(str(value))

"""What a section of the report is made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import pandas as pd

MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Picture:
    """A picture inside the page."""

    uri: str
    caption: str
    wide: bool = True

    @classmethod
    def of(cls, path: Path, caption: str, wide: bool = True) -> Picture:
        """A picture file as a data URI, so that the page needs no other file."""
        encoded = base64.b64encode(path.read_bytes()).decode("ascii")
        return cls(f"data:{MEDIA[path.suffix]};base64,{encoded}", caption, wide)


@dataclass(frozen=True)
class Section:
    """A headline, what the numbers say, and the tables and pictures they rest on; or first the tables."""

    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: list[Picture] = field(default_factory=list)
    folded_tables: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    tables_first: bool = False

    @property
    def anchor(self) -> str:
        """What a link to the section ends in."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def table(
    frame: pd.DataFrame,
    formats: Mapping[str, Callable[[float], str]],
    caption: str,
) -> str:
    """A table as HTML.

    Parameters
    ----------
    frame : DataFrame
    formats : mapping of column to function
        How to write the numbers of a column; other columns are written as text.
    caption : str
    """
    head = "".join(f"<th{_right(column, formats)}>{escape(str(column))}</th>" for column in frame.columns)
    body = []
    for row in frame.to_dict("records"):
        cells = []
        for column, value in row.items():
            text = escape(formats[column](value) if column in formats and pd.notna(value) else _plain(value))
            cells.append(f"<td{_right(column, formats)}>{text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _plain(value: object) -> str:
    return "–" if pd.isna(value) else str(value)


def _right(column: object, formats: Mapping[str, object]) -> str:
    return ' class="number"' if column in formats else ""

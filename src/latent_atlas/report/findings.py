"""Findings: what the page says as records of numbers, and the sentences that are rendered from them."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Finding:
    """One thing that a table says.

    Attributes
    ----------
    kind : str
        What is found, such as ``error against PCA``.
    template : str
        Its words, with the other attributes and the facts in braces: ``{subject} by {value:.0%}``.
    subject : str or None
        The model that it is about.
    value, low, high : float or None
        The number, and the limits of its 95% interval.
    unit : str
        Of the number; ``1`` for a share or a ratio.
    relation : str or None
        Such as ``smaller`` or ``cannot tell``.
    object : str or None
        What the subject is compared with.
    facts : mapping
        All else that is in the words.
    """

    kind: str
    template: str
    subject: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = "1"
    relation: str | None = None
    object: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def ranged(cls, kind: str, row: pd.Series, column: str, spec: str, words: str = "{}", **others: Any) -> Finding:
        """Of a column of a summary with its limits; ``words`` hold the number at ``{}``, in the format ``spec``.

        Others are attributes. The subject is ``model`` of the row, unless it is among them.
        """
        numbers = {
            end: None if pd.isna(row[column + suffix]) else float(row[column + suffix])
            for end, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
        }
        number = "–" if numbers["value"] is None else f"{{value:{spec}}}"
        if None not in numbers.values():
            number += f" ({{low:{spec}}} to {{high:{spec}}})"
        given: dict[str, Any] = {"subject": str(row["model"])} | numbers | others
        return cls(kind, words.replace("{}", number), **given)


class Sentence(str):
    """A sentence of the page: its words, and the findings that they are made of.

    Parameters
    ----------
    template : str
        The words, with the findings at ``{}``.
    findings : iterable of Finding
    separator : str
        Between two findings.
    """

    findings: tuple[Finding, ...]
    template: str
    separator: str

    def __new__(cls, template: str, findings: Iterable[Finding] = (), separator: str = ", ") -> Sentence:
        kept = tuple(findings)
        made = super().__new__(cls, said({"template": template, "findings": map(asdict, kept), "separator": separator}))
        made.findings, made.template, made.separator = kept, template, separator
        return made


class _Words(string.Formatter):
    """Words with – in place of a number that is not known."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "–" if _unknown(value) else str(super().format_field(value, format_spec))


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def record(sentence: str) -> dict[str, Any]:
    """A sentence as plain values, from which :func:`said` renders it. Numbers that JSON lacks become null."""
    if not isinstance(sentence, Sentence):
        return {"template": sentence, "findings": [], "separator": ""}
    found = []
    for values in map(asdict, sentence.findings):
        facts = {key: None if _unknown(value) else value for key, value in values["facts"].items()}
        found.append({key: None if _unknown(value) else value for key, value in values.items()} | {"facts": facts})
    return {"template": sentence.template, "findings": found, "separator": sentence.separator}


def said(sentence: Mapping[str, Any]) -> str:
    """The words of a sentence that is given as a record."""
    parts = [_Words().vformat(one["template"], (), {**one["facts"], **one}) for one in sentence["findings"]]
    return str(sentence["template"]).replace("{}", sentence["separator"].join(parts)) if parts else sentence["template"]


def capitalized(text: str) -> str:
    """The same with a capital at its begin."""
    return text[:1].upper() + text[1:]

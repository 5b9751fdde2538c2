"""The report on known answers: whether this study obtains what others have published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report import published
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.page import Section, Table, table
from latent_atlas.report.published import DATA, SCALE, TRAINING
from latent_atlas.study.schema import Params

TITLE = "Known answers"


def section(results: Path, params: Params) -> Section | None:
    """Published numbers beside those of this study; None where nothing was published of its data."""
    if not published.same_data(params):
        return None
    file = results / "known_answers" / "summary.csv"
    known = read_table(file)
    return Section(
        TITLE,
        warnings=[
            f"{row.what}: this study obtains {row.obtained:.9g}, the known number is {row.published:.9g}."
            for row in published.disagreeing(known).itertuples()
        ],
        sentences=sentences(known),
        tables=[_table(known[known["kind"] == DATA], "Numbers that follow from the data alone").of(file)],
        folded_tables=[
            _table(known[known["kind"] == kind], f"Numbers of {kind}").of(file)
            for kind in (TRAINING, SCALE)
            if kind in set(known["kind"])
        ],
    )


def sentences(known: pd.DataFrame) -> list[str]:
    """How many agree, and which do not."""
    rows = known[known["kind"] == DATA]
    words = "Of {of} known numbers that follow from the data alone, {agree} within their tolerances."
    said: list[str] = [_agreeing(rows, words)]
    rows = known[known["kind"] == TRAINING]
    if len(rows):
        others = ", ".join(rows["what"][rows["agrees"].eq(False)])
        words = (
            "The reference study trained each model once. Another training gives other numbers of the same range. Of "
            "{of} such numbers {agree} within the stated factor"
            + ("; not: {others}. " if others else ". ")
            + "Singular values are in units of the code, which each training scales in its own way. They are shown and "
            "not judged."
        )
        said.append(_agreeing(rows, words, others=others))
    return said


def _agreeing(rows: pd.DataFrame, words: str, **facts: str) -> Sentence:
    """How many of the rows agree; words with ``{of}`` and ``{agree}``."""
    agree = int(rows["agrees"].eq(True).sum())
    all_agree = {"of": len(rows), "agree": "all agree" if agree == len(rows) else f"{agree} agree"}
    return Sentence("{}", [Finding("known numbers", words, value=agree, unit="numbers", facts=all_agree | facts)])


def _table(known: pd.DataFrame, caption: str) -> Table:
    words = {True: "yes", False: "no"}
    frame = known.drop(columns="kind").assign(agrees=known["agrees"].map(words))
    number = "{:.9g}".format
    formats = {"published": number, "obtained": number, "difference": "{:.1e}".format, "tolerance": "{:g}".format}
    return table(frame.dropna(axis="columns", how="all"), formats, caption)

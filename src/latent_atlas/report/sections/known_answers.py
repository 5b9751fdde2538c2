"""The report on known answers: whether this study obtains what others have published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report import published
from latent_atlas.report.page import Section, Table, table
from latent_atlas.report.published import DATA, SCALE, TRAINING
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section | None:
    """Published numbers beside those of this study; None where nothing was published of its data."""
    if not published.same_data(params):
        return None
    file = results / "known_answers" / "summary.csv"
    known = read_table(file)
    return Section(
        "Known answers",
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
    said = [f"Of {len(rows)} known numbers that follow from the data alone, {_all(rows)} within their tolerances."]
    rows = known[known["kind"] == TRAINING]
    if len(rows):
        others = ", ".join(rows["what"][rows["agrees"].eq(False)])
        said.append(
            f"The reference study trained each model once. Another training gives other numbers of the same range. Of "
            f"{len(rows)} such numbers {_all(rows)} within the stated factor{f'; not: {others}' if others else ''}. "
            f"Singular values are in units of the code, which each training scales in its own way. They are shown "
            f"and not judged."
        )
    return said


def _all(rows: pd.DataFrame) -> str:
    agree = int(rows["agrees"].eq(True).sum())
    return "all agree" if agree == len(rows) else f"{agree} agree"


def _table(known: pd.DataFrame, caption: str) -> Table:
    words = {True: "yes", False: "no"}
    frame = known.drop(columns="kind").assign(agrees=known["agrees"].map(words))
    number = "{:.9g}".format
    formats = {"published": number, "obtained": number, "difference": "{:.1e}".format, "tolerance": "{:g}".format}
    return table(frame.dropna(axis="columns", how="all"), formats, caption)

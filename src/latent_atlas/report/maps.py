"""Charts to read values from of many numbers at once: heat maps of models against something, and distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from latent_atlas.report.figures.style import distinct
from latent_atlas.report.plots import written

ROW, CELL = 24, 34  # pixels: height of a row, and the width at which a cell has room for its number


def heat_map(
    table: pd.DataFrame, column: str, value: str, title: str, most: float, reverse: bool = False
) -> alt.LayerChart:
    """A cell for each model and value of a column; pointing at it shows the number and its 95% interval.

    Parameters
    ----------
    table : DataFrame
        ``model``, the ``column``, and the columns ``value``, ``value_low``, ``value_high``, null where undefined; a row
        for each cell. DataError if it is empty.
    column : str
        What the columns of the map are.
    value : str
        The column of the numbers.
    title : str
        What the numbers are, with their unit.
    most : float
        The number of the last colour; that of the first is 0.
    reverse : bool
        Whether small numbers are bright.
    """
    models, columns = distinct(table, "model"), distinct(table, column)
    ends = {"middle": value, "low": f"{value}_low", "high": f"{value}_high"}
    rows = [
        {"model": row["model"], "column": row[column], **{key: _number(row.get(name)) for key, name in ends.items()}}
        for row in table.to_dict("records")
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("column:N", sort=columns, title=None, axis=alt.Axis(labelAngle=-30, orient="bottom")),
        y=alt.Y("model:N", sort=models, title=None),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("column:N", title=column),
            alt.Tooltip("middle:Q", title=title, format=".4~g"),
            alt.Tooltip("low:Q", title="95% interval from", format=".4~g"),
            alt.Tooltip("high:Q", title="to", format=".4~g"),
        ],
    )
    colours = alt.Scale(scheme="viridis", domain=[0, most], reverse=reverse)
    cells = base.mark_rect().encode(color=alt.Color("middle:Q", scale=colours, legend=None))
    dark = alt.datum.middle > most / 2 if reverse else alt.datum.middle <= 0.6 * most
    size = alt.ExprRef(f"width < {CELL * len(columns)} ? 0 : 11")  # no numbers where they would cover each other
    numbers = base.mark_text(fontSize=size).encode(
        text=alt.Text("middle:Q", format=".1f" if most > 1 else ".2f"),
        color=alt.condition(dark, alt.value("white"), alt.value("#1f2430")),
    )
    return _layered([cells, numbers], title, f"{title} of {', '.join(models)} by {column}.", len(models))


def distributions(table: pd.DataFrame, value: str, title: str, most: float) -> dict[str, alt.LayerChart]:
    """Where the values of a sample of images lie, for each model: 5% to 95%, 25% to 75%, the median, and chance.

    Parameters
    ----------
    table : DataFrame
        ``model``, ``transformation``, ``images``, ``chance``, ``quantile`` (0.05, 0.25, 0.5, 0.75, 0.95) and the column
        ``value``.
    value : str
        The column of the numbers.
    title : str
        What the numbers are, with their unit.
    most : float
        The end of the axis; it begins with 0.

    Returns
    -------
    dict of str to chart
        A chart for each transformation.
    """
    return {kind: _ranges(table[table["transformation"] == kind], value, title, most, kind)
            for kind in distinct(table, "transformation")}  # fmt: skip


def _ranges(table: pd.DataFrame, value: str, title: str, most: float, kind: str) -> alt.LayerChart:
    models = distinct(table, "model")
    wide = table.pivot(index=["model", "images", "chance"], columns="quantile", values=value).reset_index()
    rows = [
        {"model": row["model"], "images": int(row["images"]), "chance": _number(row["chance"])}
        | {f"q{100 * key:.0f}": _number(number) for key, number in row.items() if isinstance(key, float)}
        for row in wide.to_dict("records")
    ]
    names = {f"q{share}": f"{share}% of the images below" for share in (5, 25, 50, 75, 95)}
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("model:N", sort=models, title=None),
        tooltip=[
            alt.Tooltip("model:N"),
            alt.Tooltip("images:Q"),
            *(alt.Tooltip(f"{key}:Q", title=name, format=".4~g") for key, name in names.items()),
            alt.Tooltip("chance:Q", title="chance level", format=".4~g"),
        ],
    )
    axis = alt.X("q5:Q", title=title, scale=alt.Scale(domain=[0, most]))
    whole = base.mark_rule(strokeWidth=2, color="#8a909c").encode(x=axis, x2="q95:Q")
    half = base.mark_bar(height=12, color="#5a8fc4").encode(x=alt.X("q25:Q"), x2="q75:Q")
    middle = base.mark_tick(thickness=3, height=16, color="#d97b29").encode(x=alt.X("q50:Q"))
    chance = base.mark_tick(thickness=2, height=16, color="#7d4fb0").encode(x=alt.X("chance:Q"))
    said = f"{kind}: {title} over the sample. Medians, halves, and nine tenths of the images of {', '.join(models)}."
    return _layered([whole, half, middle, chance], kind, said, len(models))


def _layered(layers: Sequence[alt.Chart], title: str, about: str, models: int) -> alt.LayerChart:
    return alt.LayerChart(
        layer=list(layers), title=alt.Title(title, anchor="start"), description=about, width="container",
        height=ROW * models,
    )  # fmt: skip


def _number(value: Any) -> Any:
    """A number as the specification has it; null where it is undefined."""
    return None if value is None or pd.isna(value) else written(value)

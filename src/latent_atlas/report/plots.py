"""Plots to read values from: Altair charts of the tables behind the figures.

A chart is as wide as the element that it is shown in. Pointing at a mark shows its values. A click on a name in the
legend makes the other models pale. ``chart.to_dict()`` is its Vega-Lite specification, the same for the same table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from latent_atlas.report.figures.style import Look, by_model, distinct, looks, only_example

HEIGHT = 300  # pixels
SMALLEST = 1e-17  # of what is drawn on a logarithmic axis, as in the figures
WIDTH = 2  # of lines, in pixels
DIGITS = 6  # significant ones in the specification
LOG = alt.Scale(type="log", nice=False, padding=10)
WHOLE = alt.Axis(tickMinStep=1, format="d")
TRAININGS = {"middle": "mean over trainings", "low": "smallest", "high": "largest", "trainings": "trainings"}


def learning_curves(table: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None) -> alt.LayerChart:
    """The error on test images after each epoch, a line for each model, with a band over its trainings.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``epoch``, ``test_mse``. DataError if it is empty.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, which fix how each looks; by default placed by their names.
    """
    rows = _over_trainings(table, "epoch", "test_mse")
    return _lines(
        rows,
        looks(distinct(rows, "model"), groups),
        {"title": "epoch", "axis": WHOLE},
        {
            "title": "mean squared error per pixel, test images",
            "scale": LOG,
            "axis": alt.Axis(format="~g", tickCount=6),
        },
        {"x": "epoch", **TRAININGS},
        title="all models",
    )


def spectrum_bands(bands: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, alt.LayerChart]:
    """Singular values of the decoders' Jacobians per standard deviation of the code: medians over images, and bands.

    Parameters
    ----------
    bands : DataFrame
        ``model``, ``order``, ``low, median, high``: limits of the band and the median over images and trainings. It may
        be empty.
    groups : mapping of str to sequence of str, optional
        The models of each chart; by default all in one chart.

    Returns
    -------
    dict of str to chart
        A chart for each group that has a model in the table.
    """
    rows = bands.rename(columns={"order": "x", "median": "middle"})[["model", "x", "low", "middle", "high"]]
    return {
        group: _lines(
            rows,
            looks(names, groups),
            {"title": "order", "axis": WHOLE},
            {
                "title": "singular value per standard deviation of the code",
                "scale": LOG,
                "axis": alt.Axis(format="~g", tickCount=6),
            },
            {"x": "order", "middle": "median", "low": "5% of the images", "high": "95% of the images"},
            title=group or "all models",
            points=False,
        )
        for group, names in _present(rows, groups).items()
    }


def angles_by_step(
    table: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None = None
) -> dict[tuple[str, str], alt.LayerChart]:
    """Angle at one example against the size of the step; diamonds at the left edge are the derivative.

    Parameters
    ----------
    table : DataFrame
        ``manifold``, ``model`` (optional), ``example``, ``transformation``, ``step`` (0: derivative), ``unit``,
        ``angle_deg`` (NaN where undefined). DataError unless it has exactly one example.
    groups : mapping of str to sequence of str, optional
        The models of each chart; by default all in one chart.

    Returns
    -------
    dict of (str, str) to chart
        A chart for each group that has a model in the table, and each transformation.
    """
    example = only_example(table)
    edge = float(table.loc[table["step"] > 0, "step"].min()) / 2
    charts = {}
    for kind in distinct(table, "transformation"):
        of_kind = table[table["transformation"] == kind]
        rows = _over_trainings(of_kind, "step", "angle_deg")
        rows["step"] = [f"{step:g}" if step else "0, the derivative" for step in rows["x"]]
        rows["x"] = rows["x"].replace(0, edge)
        for group, names in _present(rows, groups).items():
            charts[group, kind] = _lines(
                rows,
                looks(names, groups),
                {"title": f"step ({of_kind['unit'].iloc[0]}s)", "scale": LOG},
                {
                    "title": "angle (degrees)",
                    "scale": alt.Scale(domain=[0, 90]),
                    "axis": alt.Axis(values=[0, 30, 60, 90]),
                },
                {"step": "step", **TRAININGS},
                title=f"{kind} of {example}: {group or 'all models'}",
                derivative=edge,
            )
    return charts


def _over_trainings(table: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """``model, x, middle, low, high, trainings``: the mean of ``y`` over a model's trainings, and its limits."""
    frames = []
    for name, rows in by_model(table).items():
        over = rows.dropna(subset=[y]).groupby(x)[y].agg(["mean", "min", "max", "count"]).reset_index()
        over.columns = pd.Index(["x", "middle", "low", "high", "trainings"])
        frames.append(over.assign(model=name))
    return pd.concat(frames, ignore_index=True)


def _present(rows: pd.DataFrame, groups: Mapping[str, Sequence[str]] | None) -> dict[str, Sequence[str]]:
    """The groups that have a model in the table."""
    present = list(rows["model"].drop_duplicates())
    chosen = {"": present} if groups is None else groups
    return {group: names for group, names in chosen.items() if set(names) & set(present)}


def _lines(
    rows: pd.DataFrame,
    chosen: Mapping[str, Look],
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    told: Mapping[str, str],
    title: str,
    points: bool = True,
    derivative: float | None = None,
) -> alt.LayerChart:
    """A line with a band for each model.

    Parameters
    ----------
    rows : DataFrame
        ``model``, ``x``, ``middle``, ``low``, ``high``, and what else is told. Rows of other models are left out.
    chosen : mapping of str to Look
        How each model of the group looks, as in the figures.
    x, y : mapping
        Title, scale and axis.
    told : mapping of column to str
        What is shown of the mark under the pointer, and under which name.
    title : str
    points : bool
        Whether each value has a visible point.
    derivative : float, optional
        The ``x`` at which the value is a derivative: it is not joined by the line, and its point is a diamond.
    """
    rows = rows[rows["model"].isin(chosen)]
    shown = [name for name in chosen if name in set(rows["model"])]
    own = [chosen[name] for name in shown]
    sizes = {sum(other.family == look.family for other in own) for look in own}  # of families
    columns_of_legend = min(sizes) if len(sizes) == 1 and max(sizes) <= 4 and len(shown) > max(sizes) else 3
    columns = ["model", *dict.fromkeys(["x", "low", "middle", "high", *told])]
    values = [{key: written(row[key]) for key in columns} for row in rows.to_dict("records")]
    picked = alt.selection_point(name="picked", fields=["model"], bind="legend")
    legend = alt.Legend(orient="bottom", columns=columns_of_legend, labelLimit=160, symbolOpacity=1, symbolSize=120)
    # a symbol of the legend is too small for dashes: they are of a field of their own, which has no legend
    dashes = alt.Scale(domain=shown, range=[[WIDTH * part for part in look.dash] or [1, 0] for look in own])
    shapes = alt.Scale(domain=shown, range=[look.shape for look in own])
    insides = alt.Scale(domain=shown, range=[look.colour if look.filled else "white" for look in own])
    dashed = alt.StrokeDash("dash:N", scale=dashes, legend=None)
    shaped = alt.Shape("model:N", title=None, scale=shapes, legend=legend)
    filled = alt.Fill("model:N", title=None, scale=insides, legend=legend)
    base = (
        alt.Chart(alt.Data(values=values))
        .transform_calculate(
            dash="datum.model",
            **{f"{key}_drawn": f"max(datum.{key}, {SMALLEST:g})" for key in ("low", "middle", "high")},
        )
        .encode(
            x=alt.X("x:Q", **x),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=shown, range=[look.colour for look in own]),
                legend=legend,
            ),
            tooltip=[
                alt.Tooltip("model:N", title="model"),
                *(
                    alt.Tooltip(f"{key}:N") if key == "step" else alt.Tooltip(f"{key}:Q", title=name, format=".4~g")
                    for key, name in told.items()
                ),
            ],
        )
    )
    joined = base if derivative is None else base.transform_filter(alt.datum.x != derivative)
    middle = alt.Y("middle_drawn:Q", **y)
    line = joined.mark_line(strokeWidth=WIDTH).encode(
        y=middle, strokeDash=dashed, opacity=alt.condition(picked, alt.value(1), alt.value(0.15))
    )
    band = joined.mark_area().encode(
        y=alt.Y("low_drawn:Q", **y), y2="high_drawn:Q", opacity=alt.condition(picked, alt.value(0.2), alt.value(0.04))
    )
    # points that are not drawn still answer to the pointer
    dots = joined.mark_point(size=40 if points else 100).encode(
        y=middle,
        shape=shaped,
        fill=filled,
        opacity=alt.condition(picked, alt.value(1), alt.value(0.15)) if points else alt.value(0),
    )
    layers = [band, line.properties(name="lines").add_params(picked), dots]
    if derivative is not None:
        at_edge = base.transform_filter(alt.datum.x == derivative)
        diamonds = at_edge.mark_point(filled=True, size=70, shape="diamond")
        layers.append(diamonds.encode(y=middle, opacity=alt.condition(picked, alt.value(1), alt.value(0.15))))
    about = f"{title}. {y['title']} against {x['title']} of {', '.join(shown)}."
    return alt.LayerChart(
        layer=layers, title=alt.Title(title, anchor="start"), description=about, width="container", height=HEIGHT
    )


def written(value: Any) -> Any:
    """A number as the specification has it: rounded, whole where it is whole."""
    if isinstance(value, str):
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded

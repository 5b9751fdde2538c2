"""Heat maps and distributions to read values from: the numbers that they draw, and undefined ones."""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

from latent_atlas.errors import DataError
from latent_atlas.report.maps import distributions, heat_map


def specification(chart: alt.LayerChart) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The specification, valid by the schema of Vega-Lite, as it is after JSON, and the rows that it draws."""
    spec = json.loads(json.dumps(chart.to_dict(), allow_nan=False))
    (data,) = [spec["data"]] if "data" in spec else spec["datasets"].values()
    return spec, data["values"]


def test_heat_map_holds_numbers_and_their_intervals() -> None:
    table = pd.DataFrame(
        {"model": ["fc", "fc", "<b>"], "label": ["coat", "bag", "coat"], "score": [0.25, np.nan, 1 / 3],
         "score_low": [0.2, np.nan, 0.1], "score_high": [0.3, np.nan, 0.5]}
    )  # fmt: skip
    spec, rows = specification(heat_map(table, "label", "score", "mean score", 1))
    assert rows == [
        {"model": "fc", "column": "coat", "middle": 0.25, "low": 0.2, "high": 0.3},
        {"model": "fc", "column": "bag", "middle": None, "low": None, "high": None},
        {"model": "<b>", "column": "coat", "middle": 0.333333, "low": 0.1, "high": 0.5},
    ]
    assert spec["layer"][0]["encoding"]["x"]["sort"] == ["coat", "bag"]
    assert spec["description"] == "mean score of fc, <b> by label."


def test_heat_map_of_nothing() -> None:
    with pytest.raises(DataError, match="needs a table with rows"):
        heat_map(pd.DataFrame({"model": [], "label": [], "score": []}), "label", "score", "mean score", 1)


def test_distributions_hold_quantiles() -> None:
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    table = pd.DataFrame(
        {
            "model": "fc",
            "transformation": "blur",
            "images": 7,
            "chance": 80.0,
            "quantile": shares,
            "angle_deg": [1, 2, 3, 4, 5.5],
        }
    )
    other = table.assign(model="pca", transformation="shift_x")
    charts = distributions(pd.concat([table, other]), "angle_deg", "angle (degrees)", 90)
    assert list(charts) == ["blur", "shift_x"]
    spec, rows = specification(charts["blur"])
    assert rows == [{"model": "fc", "images": 7, "chance": 80, "q5": 1, "q25": 2, "q50": 3, "q75": 4, "q95": 5.5}]
    assert spec["layer"][0]["encoding"]["x"]["scale"]["domain"] == [0, 90]

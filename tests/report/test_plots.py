"""Charts: the numbers that they draw, their words and colours, and that a table always gives the same specification."""

from __future__ import annotations

import json
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest

from latent_atlas.errors import DataError
from latent_atlas.report import plots
from latent_atlas.report.figures.style import looks

HOSTILE = "<img src=x onerror=alert(1)>.[0]'\"\\"


def curves() -> pd.DataFrame:
    """Two trainings of a model, and one of another."""
    rows = [("a", "a", 1, 0.25), ("a", "a", 2, 0.125), ("a_seed1", "a", 1, 0.75), ("a_seed1", "a", 2, 0.375),
            (HOSTILE, HOSTILE, 1, 0.1234567891)]  # fmt: skip
    return pd.DataFrame(rows, columns=["manifold", "model", "epoch", "test_mse"])


def bands() -> pd.DataFrame:
    """The spectra of two models, one singular."""
    rows = [("a", 1, 1.0, 2.0, 3.0), ("a", 2, 0.0, 0.5, 1.0), ("b", 1, 4.0, 5.0, 6.0)]
    return pd.DataFrame(rows, columns=["model", "order", "low", "median", "high"])


def steps() -> pd.DataFrame:
    """The derivative and two steps of two transformations; one angle is undefined."""
    rows = [(kind, step, 10.0 * number) for kind in ("rotation", "blur") for number, step in enumerate((0, 0.5, 1), 1)]
    table = pd.DataFrame(rows, columns=["transformation", "step", "angle_deg"])
    table.loc[5, "angle_deg"] = np.nan
    return table.assign(
        manifold="a", example="coat", unit=table["transformation"].map({"rotation": "degree", "blur": "pixel"})
    )


def written(chart: alt.LayerChart) -> dict[str, Any]:
    """The specification, valid by the schema of Vega-Lite, as it is after JSON."""
    return json.loads(json.dumps(chart.to_dict(), allow_nan=False))


def values(chart: alt.LayerChart) -> pd.DataFrame:
    """The numbers that all layers draw."""
    spec = written(chart)
    (data,) = [spec["data"]] if "data" in spec else spec["datasets"].values()
    return pd.DataFrame(data["values"])


class TestLearningCurves:
    """One chart of all models."""

    def test_draws_the_mean_over_trainings_and_their_limits(self) -> None:
        drawn = values(plots.learning_curves(curves())).set_index(["model", "x"])
        assert drawn.loc[("a", 1), ["low", "middle", "high", "trainings"]].tolist() == [0.25, 0.5, 0.75, 2]
        assert drawn.loc[("a", 2), ["low", "middle", "high", "trainings"]].tolist() == [0.125, 0.25, 0.375, 2]
        assert drawn.loc[(HOSTILE, 1), "middle"] == 0.123457  # six digits
        assert len(drawn) == 3

    def test_names_and_colours_are_those_of_the_figure(self) -> None:
        spec = written(plots.learning_curves(curves()))
        scales = [layer["encoding"]["color"]["scale"] for layer in spec["layer"]]
        assert all(scale == scales[0] for scale in scales)
        assert scales[0] == {
            "domain": ["a", HOSTILE],
            "range": [look.colour for look in looks(["a", HOSTILE]).values()],
        }

    def test_tells_what_it_shows(self) -> None:
        spec = written(plots.learning_curves(curves()))
        assert spec["description"].startswith(
            "all models. mean squared error per pixel, test images against epoch of a, "
        )
        told = [entry["title"] for entry in spec["layer"][1]["encoding"]["tooltip"]]
        assert told == ["model", "epoch", "mean over trainings", "smallest", "largest", "trainings"]

    def test_empty_table(self) -> None:
        with pytest.raises(DataError, match="this one is empty"):
            plots.learning_curves(curves()[:0])


class TestSpectrumBands:
    """A chart for each group."""

    def test_a_chart_for_each_group_that_is_there(self) -> None:
        charts = plots.spectrum_bands(bands(), {"x": ["missing", "a"], "y": ["b"], "z": ["c"]})
        assert list(charts) == ["x", "y"]
        assert values(charts["x"])["model"].unique().tolist() == ["a"]
        assert values(charts["y"])[["low", "middle", "high"]].to_numpy().tolist() == [[4, 5, 6]]
        # the colour of a model does not depend on which others have spectra
        scale = written(charts["x"])["layer"][0]["encoding"]["color"]["scale"]
        assert scale == {
            "domain": ["a"],
            "range": [looks(["a"], {"x": ["missing", "a"], "y": ["b"], "z": ["c"]})["a"].colour],
        }

    def test_zero_is_told_as_zero_and_drawn_at_the_edge(self) -> None:
        (chart,) = plots.spectrum_bands(bands()).values()
        assert values(chart)["low"].tolist() == [1, 0, 4]
        transform = written(chart)["layer"][0]["transform"]
        assert {"calculate": "max(datum.low, 1e-17)", "as": "low_drawn"} in transform

    def test_no_spectra(self) -> None:
        assert plots.spectrum_bands(bands()[:0]) == {}


class TestAnglesByStep:
    """A chart for each group and transformation."""

    def test_derivative_stands_at_half_the_smallest_step(self) -> None:
        charts = plots.angles_by_step(steps())
        assert list(charts) == [("", "rotation"), ("", "blur")]
        drawn = values(charts["", "rotation"])
        assert drawn["x"].tolist() == [0.25, 0.5, 1]
        assert drawn["step"].tolist() == ["0, the derivative", "0.5", "1"]
        assert drawn["middle"].tolist() == [10, 20, 30]
        *others, diamonds = written(charts["", "rotation"])["layer"]
        assert all({"filter": "(datum.x !== 0.25)"} in layer["transform"] for layer in others)
        assert {"filter": "(datum.x === 0.25)"} in diamonds["transform"]
        assert diamonds["mark"]["shape"] == "diamond"

    def test_undefined_angles_are_left_out(self) -> None:
        assert values(plots.angles_by_step(steps())["", "blur"])["middle"].tolist() == [10, 20]

    def test_axes_have_units(self) -> None:
        charts = plots.angles_by_step(steps())
        titles = [written(chart)["layer"][0]["encoding"]["x"]["title"] for chart in charts.values()]
        assert titles == ["step (degrees)", "step (pixels)"]


def test_the_same_table_gives_the_same_specification() -> None:
    def all_of_them() -> str:
        charts = [
            plots.learning_curves(curves()),
            *plots.spectrum_bands(bands()).values(),
            *plots.angles_by_step(steps()).values(),
        ]
        return json.dumps([chart.to_dict() for chart in charts])

    assert all_of_them() == all_of_them()

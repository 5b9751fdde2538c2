"""Figures: the data of their lines and images, their words, and that a figure is always the same file."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from torch import Tensor

import latent_atlas as la
from latent_atlas.errors import DataError
from latent_atlas.report.figures import style as base

NAMES = ["fc2", "pca2"]


def random(*shape: int, seed: int = 0) -> Tensor:
    """Uniform numbers in [0, 1], float64."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curves(*names: str) -> pd.DataFrame:
    """Three epochs of each model."""
    rows = [(name, epoch, 0.3 / epoch / n, 0.4 / epoch / n) for n, name in enumerate(names, 1) for epoch in (1, 2, 3)]
    return pd.DataFrame(rows, columns=["manifold", "epoch", "train_mse", "test_mse"])


def angles() -> pd.DataFrame:
    """Two manifolds and two transformations at one example; one angle is undefined."""
    values = [("fc2", "rotation", 10.25, 80.0), ("fc2", "blur", 20.0, 80.0), ("pca2", "rotation", np.nan, 85.0),
              ("pca2", "blur", 60.5, 85.0)]  # fmt: skip
    table = pd.DataFrame(values, columns=["manifold", "transformation", "angle_deg", "chance_deg"])
    return table.assign(example="coat", unit="pixel")


def population() -> pd.DataFrame:
    """Angles of four images for each row of the table of angles; those of one are undefined."""
    tables = [angles().assign(image=image, angle_deg=20.0 * image) for image in (1, 2, 4)]
    return pd.concat([*tables, angles().assign(image=5, angle_deg=np.nan)]).assign(example=None)


def class_scores() -> pd.DataFrame:
    """Mean scores of two models and two classes; one is undefined."""
    rows = [("fc2", "coat", 0.25), ("fc2", "bag", 0.5), ("pca2", "coat", np.nan), ("pca2", "bag", 1.0)]
    return pd.DataFrame(rows, columns=["model", "label", "score_mean"])


def steps() -> pd.DataFrame:
    """The derivative and two steps for each row of the table of angles."""
    return pd.concat([angles().assign(step=step, angle_deg=10.0 * n) for n, step in enumerate((0, 0.5, 1))])


def epochs() -> pd.DataFrame:
    """Two epochs for each row of the table of angles."""
    return pd.concat([angles().assign(epoch=epoch, test_mse=0.1 / epoch) for epoch in (1, 2)])


def spectra() -> pd.DataFrame:
    """Three singular values in both precisions; the last one of float64 is zero."""
    rows = [(name, "coat", dtype, order, (3.0 - order) * (1 if dtype == "float64" else 1.5))
            for name in NAMES for dtype in ("float64", "float32") for order in (1, 2, 3)]  # fmt: skip
    return pd.DataFrame(rows, columns=["manifold", "example", "dtype", "order", "singular_value"])


def tolerances() -> pd.DataFrame:
    """A rank tolerance for each manifold and precision."""
    rows = [(name, dtype, value) for name in NAMES for dtype, value in (("float64", 1e-15), ("float32", 1e-7))]
    return pd.DataFrame(rows, columns=["manifold", "dtype", "rank_tolerance"])


def bands() -> pd.DataFrame:
    """Three orders of each model; the lowest value of the last is zero."""
    rows = [(name, order, 3.0 - order, 4.0 - order, 5.0 - order) for name in NAMES for order in (1, 2, 3)]
    return pd.DataFrame(rows, columns=["model", "order", "low", "median", "high"])


def layers() -> pd.DataFrame:
    """One layer of an encoder and one of a decoder, of different models."""
    rows = [("fc2", "encoder", "a", 1, 2.0), ("fc2", "encoder", "a", 2, 1.0), ("fc4", "decoder", "b", 1, 0.0)]
    return pd.DataFrame(rows, columns=["manifold", "part", "layer", "order", "singular_value"])


def paths() -> pd.DataFrame:
    """Paths of three points."""
    table = pd.DataFrame({"t": [0, 0.5, 1], "step_length": [0, 1.0, 3.0]})
    table["distance_to_nearest_training_image"] = [0.1, np.nan, 0.3]
    return pd.concat([table.assign(manifold=name) for name in ("pixels", "pca2", "pca2_uncentred")])


def principal() -> pd.DataFrame:
    """A spectrum of PCA."""
    return pd.DataFrame({"component": [1, 2, 3], "variance": [6.0, 3.0, 1.0], "cumulative_share": [0.6, 0.9, 1.0]})


def pairs() -> pd.DataFrame:
    """Two trainings of a model, and the model and PCA."""
    rows = [("fc2", "fc2", 0.75, 0.25), ("fc2", "pca2", 0.5, 0.125)]
    return pd.DataFrame(rows, columns=["a", "b", "shared_mean", "chance"])


def courses() -> pd.DataFrame:
    """Two epochs of each of two models."""
    rows = [(name, epoch, epoch / 2 - n / 10) for n, name in enumerate(("fc2", "fc4")) for epoch in (1, 2)]
    table = pd.DataFrame(rows, columns=["model", "epoch", "shared_mean"])
    return table.assign(shared_mean_low=table["shared_mean"] - 0.1, shared_mean_high=table["shared_mean"])


def images(count: int) -> dict[str, Tensor]:
    """Images of 4 by 5 pixels for each manifold."""
    return {name: random(count, 1, 4, 5, seed=number) for number, name in enumerate(NAMES)}


PLOTS: dict[str, Callable[..., Any]] = {
    "plot_agreement": lambda **ax: la.plot_agreement(pairs(), **ax),
    "plot_agreement_epochs": lambda **ax: la.plot_agreement_epochs(courses(), **ax),
    "plot_angles": lambda **ax: la.plot_angles(angles(), **ax),
    "plot_class_map": lambda **ax: la.plot_class_map(class_scores(), **ax),
    "plot_interpolation": lambda **ax: la.plot_interpolation(images(3), "title", **ax),
    "plot_learning_curve": lambda **ax: la.plot_learning_curve(curves("fc2"), **ax),
    "plot_learning_curves": lambda **ax: la.plot_learning_curves(curves(*NAMES), **ax),
    "plot_tangents": lambda **ax: la.plot_tangents(random(3, 1, 4, 5) - 0.5, "title", **ax),
    "plot_comparison": lambda: la.plot_comparison(random(3, 1, 4, 5, seed=9), images(3)),
    "plot_displacements": lambda: la.plot_displacements(images(5), {"fc2": 12.34, "pca2": np.nan}, "title"),
    "plot_distributions": lambda: la.plot_distributions(population(), angles()),
    "plot_epochs": lambda: la.plot_epochs(epochs()),
    "plot_images": lambda: la.plot_images(images(4)),
    "plot_layers": lambda: la.plot_layers(layers()),
    "plot_path": lambda: la.plot_path(paths(), "title"),
    "plot_pca": lambda: la.plot_pca(principal(), [1, 2, 3]),
    "plot_spectra": lambda: la.plot_spectra(spectra(), tolerances()),
    "plot_spectrum_bands": lambda: la.plot_spectrum_bands(bands()),
    "plot_steps": lambda: la.plot_steps(steps()),
}
ONE_PANEL = list(PLOTS)[:8]


def lines(axes: Axes) -> dict[str, list[list[float]]]:
    """The x and y data of the lines of axes, by label."""
    return {str(line.get_label()): np.array(line.get_data(), dtype=float).tolist() for line in axes.get_lines()}


def words(axes: Axes) -> list[str]:
    """The texts inside axes."""
    return [text.get_text() for text in axes.texts]


def legend(drawn: Axes | Figure) -> list[str]:
    """The entries of the legend of axes or of a figure."""
    found = drawn.get_legend() if isinstance(drawn, Axes) else drawn.legends[0]
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def named(axes: Axes) -> list[str]:
    """The names at the ends of the lines of axes."""
    names = [line.get_label() for line in axes.get_lines()]
    return [text for text in words(axes) if text in names]


def ticks(axes: Axes) -> list[str]:
    """The labels of the rows."""
    return [label.get_text() for label in axes.get_yticklabels()]


def shown(axes: Axes) -> np.ndarray:
    """The array of the only image in axes, NaN where it is blank."""
    (image,) = axes.get_images()
    return np.ma.filled(np.ma.asarray(image.get_array()), np.nan)


def root(drawn: Axes | Figure) -> Figure:
    """The figure of axes, or the figure itself."""
    found = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    assert found is not None
    return found


@pytest.fixture(params=PLOTS)
def plot(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Each plotting function with small data; afterwards the global state of matplotlib has not changed."""
    before = dict(matplotlib.rcParams)
    yield PLOTS[request.param]
    assert dict(matplotlib.rcParams) == before


class TestEachPlot:
    """What holds for all plotting functions."""

    def test_every_name_is_here(self) -> None:
        assert sorted(PLOTS) == sorted(name for name in la.__all__ if name.startswith("plot_"))

    def test_drawn_twice_gives_the_same_bytes(self, plot: Callable[..., Any], tmp_path: Path) -> None:
        for name in ("a", "b"):
            base.save(plot(), tmp_path / name / "x.svg")
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["x.png", "x.svg"]
        for file in ("x.svg", "x.png"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def test_a_notebook_shows_what_is_saved(self, plot: Callable[..., Any], tmp_path: Path) -> None:
        """Also where the notebook has changed the rcParams."""
        base.save(plot(), tmp_path / "x.png")
        with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "xtick.color": "red"}):
            assert plot()._repr_png_() == (tmp_path / "x.png").read_bytes()

    def test_the_grid_is_below_what_is_drawn(self, plot: Callable[..., Any]) -> None:
        for axes in root(plot()).axes:
            drawn = [artist.get_zorder() for artist in (*axes.lines, *axes.collections)]
            assert all(axis.get_zorder() < order for axis in (axes.xaxis, axes.yaxis) for order in drawn)

    @pytest.mark.parametrize("name", ONE_PANEL)
    def test_given_axes_are_drawn_in(self, name: str) -> None:
        other, given = Figure(layout="constrained").subplots(1, 2)
        assert PLOTS[name](ax=given) is given
        alone = PLOTS[name]()
        assert not other.has_data()
        assert given.has_data()
        assert given.get_title() == alone.get_title()
        assert lines(given) == lines(alone)
        assert [np.asarray(i.get_array()).shape for i in given.get_images()] == [
            np.asarray(i.get_array()).shape for i in alone.get_images()
        ]
        root(given).savefig(io.BytesIO(), format="png")

    def test_ticks_have_the_style_also_when_others_draw_the_figure(self) -> None:
        figure = la.plot_path(paths())
        with matplotlib.rc_context({"xtick.color": "red"}):
            figure.savefig(io.BytesIO(), format="png")
        assert {label.get_color() for axes in figure.axes for label in axes.get_xticklabels()} == {base.FAINT}

    @pytest.mark.parametrize(
        "call",
        [
            lambda: la.plot_agreement(pairs().iloc[:0]),
            lambda: la.plot_agreement_epochs(courses().iloc[:0]),
            lambda: la.plot_angles(angles().iloc[:0]),
            lambda: la.plot_steps(steps().iloc[:0]),
            lambda: la.plot_epochs(epochs().iloc[:0]),
            lambda: la.plot_spectra(spectra().iloc[:0], tolerances()),
            lambda: la.plot_learning_curve(curves()),
            lambda: la.plot_learning_curves(curves()),
            lambda: la.plot_path(paths().iloc[:0]),
            lambda: la.plot_interpolation({}),
            lambda: la.plot_displacements({}, {}),
            lambda: la.plot_images({}),
        ],
    )
    def test_nothing_to_draw_is_an_error(self, call: Callable[[], Any]) -> None:
        with pytest.raises(DataError, match=r"(empty|has 0: \[\]).*(select|name) "):
            call()

    @pytest.mark.parametrize("plot", [la.plot_angles, la.plot_epochs])
    def test_several_examples_are_an_error(self, plot: Callable[..., Any]) -> None:
        table = pd.concat([epochs(), epochs().assign(example="bag")])
        with pytest.raises(DataError, match=r"has 2: \['coat', 'bag'\]"):
            plot(table)


class TestLines:
    """Plots of tables."""

    def test_distributions(self) -> None:
        drawn = la.plot_distributions(population(), angles())
        rotation, blur = drawn.axes
        assert ticks(rotation) == NAMES
        data = [np.array(line.get_data(), dtype=float) for line in rotation.get_lines()]
        assert [x[0].tolist() for x in data if len(x[0]) == 2] == [[80, 80], [85, 85]]  # chance
        singles = {tuple(x[:, 0]) for x in data if len(x[0]) == 1}
        assert {(40.0, 0.0), (40.0, 1.0)} <= singles  # medians
        assert (10.25, 0.0) in singles  # the example
        assert legend(drawn) == ["coat"]
        x, y = np.asarray(blur.collections[0].get_paths()[0].vertices).T
        assert 15 < x[np.argmax(np.abs(y))] < 85

    def test_distributions_of_a_model_with_trainings_are_together(self) -> None:
        both = pd.concat([population().assign(model="fc2"), population().assign(model="fc2", manifold="fc2_seed1")])
        assert ticks(la.plot_distributions(both).axes[0]) == ["fc2"]

    def test_class_map(self) -> None:
        axes = la.plot_class_map(class_scores())
        assert ticks(axes) == NAMES
        assert words(axes) == ["0.25", "0.50", "–", "1.00"]

    def test_a_band_over_trainings(self) -> None:
        several = pd.concat([curves("fc2"), curves("fc2").assign(manifold="fc2_seed1", test_mse=1.0)])
        axes = la.plot_learning_curves(several.assign(model="fc2"))
        assert lines(axes) == {"fc2": [[1, 2, 3], [0.7, 0.6, pytest.approx(1.4 / 2.4 / 1.0, rel=0.2)]]}
        (band,) = axes.collections
        heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx((0.4 / 3, 1.0))

    def test_learning_curve(self) -> None:
        table = curves("fc2")
        axes = la.plot_learning_curve(table)
        assert lines(axes) == {
            "training images": [[1, 2, 3], table["train_mse"].tolist()],
            "test images": [[1, 2, 3], table["test_mse"].tolist()],
        }
        assert legend(axes) == ["training images", "test images"]
        assert words(axes) == ["0.1333"]
        assert axes.get_title() == "fc2"

    def test_learning_curves(self) -> None:
        table = curves(*NAMES)
        axes = la.plot_learning_curves(table)
        by_name = {name: table[table["manifold"] == name] for name in NAMES}
        assert lines(axes) == {name: [[1, 2, 3], rows["test_mse"].tolist()] for name, rows in by_name.items()}
        assert sorted(named(axes)) == sorted(NAMES)
        assert axes.get_yscale() == "log"

    def test_agreement_by_epoch(self) -> None:
        axes = la.plot_agreement_epochs(courses())
        assert lines(axes) == {"fc2": [[1, 2], [0.5, 1.0]], "fc4": [[1, 2], [0.4, 0.9]]}
        assert named(axes) == ["fc2", "fc4"]
        assert len(axes.collections) == 2  # the intervals

    def test_agreement_of_all_pairs(self) -> None:
        """Symmetric, each cell with its chance level; nothing where there is no pair."""
        axes = la.plot_agreement(pairs())
        np.testing.assert_array_equal(shown(axes), [[0.75, 0.5], [0.5, np.nan]])
        assert words(axes) == ["75%", "(25%)", "50%", "(12%)", "50%", "(12%)", "–"]
        assert ticks(axes) == NAMES

    def test_nan_leaves_a_gap(self) -> None:
        table = curves("fc2", "fc4").assign(test_mse=[0.3, np.nan, 0.1, 0.3, 0.2, 0.1])
        assert np.isnan(lines(la.plot_learning_curves(table))["fc2"][1]).tolist() == [False, True, False]

    def test_steps_with_the_derivative_at_the_left_edge(self) -> None:
        figure = la.plot_steps(steps(), {"networks": ["fc2"], "absent": ["conv2"], "linear": ["pca2"]})
        grid = figure.axes
        assert len(grid) == 4  # two groups, two transformations
        assert [axes.get_title() for axes in grid] == ["rotation (step in pixels)", "blur (step in pixels)", "", ""]
        for axes, name in zip(grid, ["fc2", "fc2", "pca2", "pca2"], strict=True):
            finite, derivative = axes.get_lines()
            assert finite.get_label() == name
            assert np.array(finite.get_data()).tolist() == [[0.5, 1], [10, 20]]
            assert np.array(derivative.get_data()).tolist() == [[0.25], [0]]
        assert [axes.get_ylabel() for axes in grid[::2]] == ["networks\nangle (degrees)", "linear\nangle (degrees)"]
        assert [named(axes) for axes in grid[1::2]] == [["fc2"], ["pca2"]]
        assert "coat" in figure.get_suptitle()

    def test_epochs(self) -> None:
        figure = la.plot_epochs(epochs())
        rotation, blur = figure.axes
        assert [rotation.get_title(), blur.get_title()] == ["rotation", "blur"]
        assert lines(blur) == {"fc2": [[0.1, 0.05], [20, 20]], "pca2": [[0.1, 0.05], [60.5, 60.5]]}
        assert np.isnan(lines(rotation)["pca2"][1]).all()
        points = blur.collections[0]
        assert isinstance(points, PathCollection)
        assert np.asarray(points.get_offsets()).tolist() == [[0.1, 20], [0.05, 20]]
        assert points.get_sizes().tolist() == [23, 38]
        assert rotation.get_xlim()[0] > rotation.get_xlim()[1]
        assert legend(figure) == NAMES  # the lines go to the left where the errors fall

    def test_spectra(self) -> None:
        figure = la.plot_spectra(spectra(), tolerances(), {"networks": ["fc2"], "linear": ["pca2"], "all": NAMES})
        networks, linear, both, hidden = figure.axes
        assert [axes.get_title() for axes in figure.axes[:3]] == ["networks", "linear", "all"]
        assert not hidden.get_visible()
        double, single, *limits = [np.array(line.get_data(), dtype=float).tolist() for line in networks.get_lines()]
        assert double == [[1, 2, 3], [2, 1, 1e-17]]
        assert single == [[1, 2, 3], [3, 1.5, 1e-17]]
        assert [limit[1] for limit in limits] == [[1e-15, 1e-15], [1e-7, 1e-7]]
        assert words(linear)[:2] == ["rank tolerance, float64", "rank tolerance, float32"]
        assert [named(axes) for axes in (networks, linear, both)] == [["fc2"], ["pca2"], NAMES]
        assert "coat" in figure.get_suptitle()

    def test_spectrum_bands(self) -> None:
        figure = la.plot_spectrum_bands(bands(), {"networks": ["fc2"], "absent": ["conv2"], "linear": ["pca2"]})
        assert [axes.get_title() for axes in figure.axes] == ["networks", "linear"]
        for axes, name in zip(figure.axes, NAMES, strict=True):
            assert lines(axes) == {name: [[1, 2, 3], [3, 2, 1]]}
            corners = axes.collections[0].get_paths()[0].vertices
            assert {tuple(corner) for corner in np.asarray(corners)} == {
                (1, 2), (2, 1), (3, 1e-17), (1, 4), (2, 3), (3, 2),
            }  # fmt: skip
            assert axes.get_yscale() == "log"
            assert named(axes) == [name]

    def test_spectrum_bands_of_codes_that_do_not_vary(self) -> None:
        (axes,) = la.plot_spectrum_bands(bands().iloc[:0]).axes
        assert axes.get_title() == "no code varies: no spectra"

    def test_layers(self) -> None:
        grid = la.plot_layers(layers()).axes
        assert [axes.get_title() for axes in grid] == ["fc2, encoder", "fc2, decoder", "fc4, encoder", "fc4, decoder"]
        assert [lines(axes) for axes in grid] == [{"a": [[1, 2], [2, 1]]}, {}, {}, {"b": [[1], [1e-17]]}]
        assert [axes.axison for axes in grid] == [True, False, False, True]

    def test_layers_of_no_model(self) -> None:
        (axes,) = la.plot_layers(layers().iloc[:0]).axes
        assert axes.get_title() == "no layers, no spectra"

    def test_path(self) -> None:
        figure = la.plot_path(paths(), "from here to there")
        speed, distance = figure.axes
        for line in speed.get_lines():
            assert np.array(line.get_data()).tolist() == [[0.5, 1], [2, 6]]
        for line in distance.get_lines():
            x, y = np.array(line.get_data())
            assert x.tolist() == [0, 0.5, 1]
            np.testing.assert_array_equal(y, [0.1, np.nan, 0.3])
        assert len({line.get_color() for line in speed.get_lines()}) == 3
        assert distance.get_title() == "distance to the nearest training image"
        assert legend(figure) == ["pixels", "pca2", "pca2_uncentred"]
        assert figure.get_suptitle() == "from here to there"

    def test_pca(self) -> None:
        variance, rest = la.plot_pca(principal(), [1, 2, 3]).axes
        (line,) = variance.get_lines()
        assert np.array(line.get_data()).tolist() == [[1, 2, 3], [6, 3, 1]]
        line, *marks = rest.get_lines()
        assert np.array(line.get_ydata()).tolist() == pytest.approx([0.4, 0.1, 1e-6])
        assert [float(np.asarray(mark.get_xdata())[0]) for mark in marks] == [1, 2]
        assert words(rest) == ["k = 1: 40.0%", "k = 2: 10.0%"]

    def test_pca_of_the_strongest_components_alone(self) -> None:
        _, rest = la.plot_pca(principal()[:2], [1, 2, 3]).axes
        assert words(rest) == ["k = 1: 40.0%", "k = 2: 10.0%"]


class TestImages:
    """Plots of images."""

    def test_angles(self) -> None:
        axes = la.plot_angles(angles())
        np.testing.assert_array_equal(shown(axes), [[10.25, 20, 80], [np.nan, 60.5, 85]])
        assert words(axes) == ["10.2", "20.0", "80.0", "–", "60.5", "85.0"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["rotation", "blur", "chance"]
        assert ticks(axes) == NAMES
        assert len(root(axes).axes) == 2  # the colour bar
        assert "displacements of coat" in axes.get_title()

    def test_interpolation(self) -> None:
        rows = images(3)
        axes = la.plot_interpolation(rows, "title")
        np.testing.assert_array_equal(shown(axes), np.concatenate([base.mosaic(rows[name], 3) for name in NAMES]))
        assert ticks(axes) == NAMES
        assert axes.get_yticks().tolist() == [2.5, 7.5]
        assert axes.get_title() == "title"

    @pytest.mark.parametrize("models", [20, 30])
    def test_interpolations_of_many_models_are_drawn_in_columns(self, models: int, tmp_path: Path) -> None:
        """Every row and name once, a model's two rows together, at most 2,500 pixels high."""
        pixels = random(2 * models, 7, 1, 8, 8).sigmoid()
        names = [f"conv{number}, {path}" for number in range(models) for path in ("line", "geodesic")]
        axes = la.plot_interpolation(dict(zip(names, pixels, strict=True)), "title")
        assert [*ticks(axes), *words(axes)] == names
        assert len(ticks(axes)) % 2 == 0
        places = [text.get_position() for text in axes.texts]
        canvas, width = shown(axes), 7 * 9
        for number, name in enumerate(names[: len(ticks(axes))]):
            expected = base.mosaic(pixels[names.index(name)], 7)
            np.testing.assert_array_equal(canvas[9 * number : 9 * number + 9, :width], expected)
        for text, (x, y) in zip(words(axes), places, strict=True):
            start, top = math.ceil(x), round(y - 4.5)
            expected = base.mosaic(pixels[names.index(text)], 7)
            found = next(s for s in range(start, start + 3) if (canvas[top : top + 9, s : s + width] == expected).all())
            assert found > width
        base.save(axes, tmp_path / "drawn.png")
        with PIL.Image.open(tmp_path / "drawn.png") as drawn:
            assert max(drawn.size) <= 2500

    def test_tangents(self) -> None:
        vectors = random(3, 1, 4, 5) - 0.8
        axes = la.plot_tangents(vectors, "title")
        np.testing.assert_array_equal(shown(axes), base.signed_mosaic(vectors, 3))
        limit = float(vectors.abs().max())
        assert axes.get_images()[0].get_clim() == (-limit, limit)
        assert root(axes).axes[1].get_ylabel() == "change of a pixel"

    def test_no_tangents_are_one_blank_image(self) -> None:
        axes = la.plot_tangents(torch.zeros(0, 1, 4, 5))
        assert (shown(axes)[:4, :5] == 0).all()
        assert shown(axes).shape == (5, 6)

    def test_comparison(self) -> None:
        originals, rows = random(3, 1, 4, 5, seed=9), images(3)
        left, right, bar = la.plot_comparison(originals, rows, columns=2).axes
        expected = [base.mosaic(part[:2], 2) for part in (originals, *rows.values())]
        np.testing.assert_array_equal(shown(left), np.concatenate(expected))
        assert np.isnan(shown(right)[:5]).all()
        for number, name in enumerate(NAMES, 1):
            residual = base.signed_mosaic((rows[name] - originals)[:2], 2)
            np.testing.assert_array_equal(shown(right)[5 * number : 5 * number + 5], residual)
        assert ticks(left) == ["original", *NAMES]
        assert right.get_images()[0].get_clim() == (-0.5, 0.5)
        assert bar.get_xlim() == (-0.5, 0.5)

    def test_displacements(self) -> None:
        rows = images(5)
        figure = la.plot_displacements(rows, {"fc2": 12.34, "pca2": np.nan}, "rotation of coat")
        left, right, _ = figure.axes
        np.testing.assert_array_equal(shown(left), np.concatenate([base.mosaic(rows[n][:2], 2) for n in NAMES]))
        changes = np.concatenate([base.signed_mosaic(rows[n][2:], 3) for n in NAMES])
        np.testing.assert_array_equal(shown(right), changes)
        limit = max(float(rows[n][2:].max()) for n in NAMES)
        assert right.get_images()[0].get_clim() == (-limit, limit)
        assert words(left) == ["image", "transformed"]
        assert words(right) == ["12.3°", "undefined", "displace-\nment", "tangential", "normal"]
        assert ticks(left) == NAMES
        assert figure.get_suptitle() == "rotation of coat"

    def test_images(self) -> None:
        groups = images(4)
        grids = la.plot_images(groups).axes
        for axes, (name, pixels) in zip(grids, groups.items(), strict=True):
            np.testing.assert_array_equal(shown(axes), base.mosaic(pixels, 2))
            assert axes.get_title() == name

    def test_many_grids_are_drawn_in_rows(self) -> None:
        groups = {f"fc{number}": images(4)[NAMES[0]] for number in range(1, 9)}
        figure = la.plot_images(groups)
        drawn = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title() for axes in drawn] == list(groups)
        figure.canvas.draw()
        boxes = [axes.title.get_window_extent() for axes in drawn]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))

    def test_long_names_are_shortened(self) -> None:
        long = "a_model_whose_name_is_longer_than_any_label"
        assert ticks(la.plot_comparison(images(4)[NAMES[0]], {long: images(4)[NAMES[0]]}).axes[0]) == [
            "original", "a_model_whose_name…n_any_label",
        ]  # fmt: skip

    def test_maps_of_many_models_leave_out_what_is_too_small_to_read(self) -> None:
        def fonts(count: int) -> list[tuple[str, float | str]]:
            rows = [(f"a{i}", f"a{j}", 0.75, 0.25) for i in range(count) for j in range(i)]
            drawn = la.plot_agreement(pd.DataFrame(rows, columns=["a", "b", "shared_mean", "chance"]))
            return list({(text.get_text(), text.get_fontsize()) for text in drawn.texts if text.get_text() not in "–"})

        assert {text for text, _ in fonts(9)} == {"75%", "(25%)"}
        ((text, size),) = fonts(33)
        assert text == "75%"
        assert float(size) >= 5
        assert fonts(60) == []


class TestLayout:
    """Mosaics, ticks and colours."""

    def test_mosaic_shows_every_image_once_in_reading_order(self) -> None:
        count, columns = 128, 16
        images = torch.arange(count, dtype=torch.float64).view(count, 1, 1, 1).expand(count, 1, 3, 2) / count
        canvas = base.mosaic(images, columns)
        assert canvas.shape == (8 * 4, 16 * 3, 3)
        tiles = canvas.reshape(8, 4, 16, 3, 3)
        found = tiles[:, :3, :, :2].mean(axis=(1, 3))  # rows x columns x RGB
        assert found[..., 0].flatten().tolist() == pytest.approx([number / count for number in range(count)])
        assert bool((found == found[..., :1]).all())  # grey is the same in all three colours
        assert bool((tiles[:, 3] == 1).all())  # white between the rows
        assert bool((tiles[:, :, :, 2] == 1).all())  # and between the columns

    def test_mosaic_keeps_colours_and_leaves_the_rest_white(self) -> None:
        images = torch.zeros(3, 3, 2, 2)
        images[0, 0] = images[1, 1] = images[2, 2] = 1
        tiles = base.mosaic(images, 2, gap=0).reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4)
        assert [tiles[row, column, 0, 0].tolist() for row in range(2) for column in range(2)] == [
            [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1],
        ]  # fmt: skip

    def test_mosaic_clips_to_what_can_be_shown(self) -> None:
        canvas = base.mosaic(torch.tensor([-0.5, 0.5, 1.5]).view(3, 1, 1, 1), 3, gap=0)
        assert canvas[0, :, 0].tolist() == [0, 0.5, 1]

    @pytest.mark.parametrize("channels", [2, 4])
    def test_mosaic_shows_other_channels_than_colours_as_their_mean(self, channels: int) -> None:
        images = random(1, channels, 3, 2).sigmoid()
        canvas = base.mosaic(images, 1, gap=0)
        np.testing.assert_allclose(canvas, np.repeat(images[0].mean(0)[..., None].numpy(), 3, axis=2), rtol=1e-6)

    def test_signed_mosaic_keeps_signs_and_marks_what_is_empty(self) -> None:
        images = torch.tensor([[-2.0, 0.0], [1.0, 3.0], [-4.0, 2.0]]).view(3, 2, 1, 1)  # two channels each
        canvas = base.signed_mosaic(images, 2, gap=0)
        assert canvas[0].tolist() == [-2, 3]
        assert canvas[1, 0] == -4
        assert np.isnan(canvas[1, 1])

    @pytest.mark.parametrize("last", [1, 5, 12, 13, 100])
    def test_ticks_are_whole_and_few(self, last: int) -> None:
        ticks = base.whole_ticks(last)
        assert ticks[0] == 1
        assert len(ticks) <= 12
        assert set(ticks) <= set(range(1, last + 1))

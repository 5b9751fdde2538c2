"""The style of all figures: colours, fonts, layouts of images, and how a figure becomes a file."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.files import atomic_write

INK, FAINT, ACCENT = "#1f2430", "#8a909c", "#2f6fb0"
SIGNED_COLOURS = "RdBu_r"  # for numbers about zero
ANGLE_COLOURS = "viridis_r"  # for 0 to 90 degrees
SHARE_COLOURS = "viridis"  # for 0 to 100%, as bright where all is shared as angles of 0
COLOURS = ("#2f6fb0", "#d97b29", "#3b9c6c", "#b8405e", "#7656a8", "#8c6d46", "#d0a11e", "#3f9fb5", "#5c6470",
           "#9fbf4d", "#e08bb0", "#1f3f77")  # fmt: skip
PAGE_WIDTH = 9.0  # inches; shown at about 900 pixels
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,  # the grid also below points
    "grid.color": "#e4e6ea",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "latent-atlas",
    "figure.dpi": 110,
}


def _png(drawn: Figure | Axes) -> bytes:
    buffer = io.BytesIO()
    _write(drawn, buffer, "png")
    return buffer.getvalue()


class Picture(Figure):
    """A figure in this style without a window system; a notebook shows it as a PNG."""

    def draw(self, renderer: RendererBase) -> None:
        with matplotlib.rc_context(STYLE):  # ticks are created when they are drawn
            super().draw(renderer)

    _repr_png_ = _png


class Panel(Axes):
    """The axes of a figure with one panel; a notebook shows the figure."""

    _repr_png_ = _png


@contextmanager
def figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Iterator[Picture]:
    """A new figure of this size in inches; the style holds inside the context, and rcParams are the same after it.

    The layout "compressed" draws panels of a fixed shape together.
    """
    with matplotlib.rc_context(STYLE):
        yield Picture(figsize=(width, height), layout=layout)


@contextmanager
def panels(count: int, most: int, height: float, rest: float, **shared: Any) -> Iterator[tuple[Picture, np.ndarray]]:
    """A new figure and its grid of axes, at most so many in a row; those left over are invisible.

    Heights are in inches: of a row, and of what is beside the rows.
    """
    columns = min(most, count)
    lines = -(-count // columns)
    with figure(PAGE_WIDTH, height * lines + rest) as fig:
        grid = fig.subplots(lines, columns, squeeze=False, **shared)
        for axes in grid.flat[count:]:
            axes.set_visible(False)
        yield fig, grid


@contextmanager
def panel(ax: Axes | None, width: float, height: float) -> Iterator[Axes]:
    """The axes ``ax``, or, if None, the axes of a new figure of this size in inches."""
    with figure(width, height) as fig:
        yield fig.add_subplot(axes_class=Panel) if ax is None else ax


def save(drawn: Figure | Axes, path: Path) -> None:
    """Write a figure, or the figure of axes; an SVG gets a PNG of the same name.

    The same figure gives the same bytes.
    """
    for target in [path, path.with_suffix(".png")] if path.suffix == ".svg" else [path]:
        with atomic_write(target) as aside:
            _write(drawn, aside, target.suffix[1:])


def _write(drawn: Figure | Axes, target: Path | IO[bytes], kind: str) -> None:
    fig = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    assert fig is not None  # only removed axes have no figure
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(STYLE):
        fig.savefig(target, format=kind, metadata=metadata, dpi=160, bbox_inches="tight", pad_inches=0.08)


def distinct(table: pd.DataFrame, column: str) -> list[str]:
    """The different values of a column in the order of their first rows; DataError if the table has no rows."""
    if table.empty:
        raise DataError(f"a plot by {column} needs a table with rows, but this one is empty: select other rows")
    return list(table[column].drop_duplicates())


def by_model(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each model, in the order of their first ones; by ``manifold`` where there is no column ``model``.

    DataError if the table has no rows.
    """
    column = "model" if "model" in table else "manifold"
    return {name: table[table[column] == name] for name in distinct(table, column)}


def draw_spread(axes: Axes, rows: pd.DataFrame, x: str, y: str, **line: Any) -> None:
    """The mean of ``y`` over a model's trainings against ``x``, and a band from the smallest to the largest."""
    over = rows.groupby(x)[y].agg(["mean", "min", "max"])
    (drawn,) = axes.plot(over.index, over["mean"], **line)
    if (over["min"] < over["max"]).any():
        axes.fill_between(over.index, over["min"], over["max"], color=drawn.get_color(), alpha=0.2, linewidth=0)


def draw_cells(
    axes: Axes,
    cells: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    written: Callable[[float], str],
    dark: Callable[[float], bool],
    colours: str,
    most: float,
    below: Sequence[Sequence[str]] | None = None,
    size: float = 8,
    **labels: Any,
) -> AxesImage:
    """A map of numbers (rows, columns) from 0 to ``most`` with each number written in its cell; – where it is NaN.

    Parameters
    ----------
    written, dark : callables
        How to write a number, and whether white is readable on its colour.
    below : rows of str, optional
        Smaller texts below the numbers.
    size : float
        Of the font in points.
    **labels
        How the names of the columns are written, such as ``rotation``.
    """
    drawn = axes.imshow(cells, cmap=colours, vmin=0, vmax=most, aspect="auto")
    for (line, column), value in np.ndenumerate(cells):
        ink = "white" if dark(value) else INK
        both = below is not None and not np.isnan(value)
        text, aligned = "–" if np.isnan(value) else written(value), "bottom" if both else "center"
        axes.text(column, line, text, ha="center", va=aligned, fontsize=size, color=ink)
        if below is not None and both:
            axes.text(column, line, below[line][column], ha="center", va="top", fontsize=0.8 * size, color=ink)
    axes.set_xticks(range(len(columns)), columns, color=INK, **labels)
    axes.set_yticks(range(len(rows)), rows, color=INK)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return drawn


def only_example(table: pd.DataFrame) -> str:
    """The example of all rows; DataError if there are several or none."""
    names = [str(name) for name in table["example"].dropna().unique()]
    if len(names) != 1:
        raise DataError(f"this plot shows one example, but the table has {len(names)}: {names}; select one's rows")
    return names[0]


def mosaic(images: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] laid out in rows as one RGB picture, white between and where none is left.

    Images of other than one or three channels are shown grey, as the mean of the channels.
    """
    pixels = images.detach().clamp(0, 1).cpu().numpy().transpose(0, 2, 3, 1)  # n x H x W x C
    if pixels.shape[3] != 3:
        pixels = pixels.mean(axis=3, keepdims=True)
    return _laid_out(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), columns, gap, filler=1.0)


def signed_mosaic(images: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Signed images (n, C, H, W) laid out in rows as one map of numbers: of each pixel the channel farthest from 0."""
    channels = images.detach().cpu().numpy()
    pixels = np.take_along_axis(channels, np.abs(channels).argmax(axis=1, keepdims=True), axis=1)  # n x 1 x H x W
    pixels = pixels.transpose(0, 2, 3, 1)  # n x H x W x 1
    return _laid_out(pixels, columns, gap, filler=np.nan)[..., 0]


def stacked(
    rows: Mapping[str, Tensor], columns: int, layout: Callable[[Tensor, int], np.ndarray] = mosaic
) -> np.ndarray:
    """The mosaics of several rows of images one below the other; DataError if there are none."""
    if not rows:
        raise DataError("a plot of rows of images needs at least one row, but the mapping is empty: name a manifold")
    return np.concatenate([layout(images, columns) for images in rows.values()])


def _laid_out(pixels: np.ndarray, columns: int, gap: int, filler: float) -> np.ndarray:
    count, height, width, channels = pixels.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + gap), columns * (width + gap), channels), filler)
    for number, image in enumerate(pixels):
        top, start = (number // columns) * (height + gap), (number % columns) * (width + gap)
        canvas[top : top + height, start : start + width] = image
    return canvas


def height_to_width(images: Tensor) -> float:
    """Of each of the images (n, C, H, W)."""
    return images.shape[-2] / images.shape[-1]


def show(axes: Axes, picture: np.ndarray) -> None:
    """Draw an RGB picture without a frame, its pixels sharp."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()


def label_rows(axes: Axes, names: list[str], height: int) -> None:
    """Write the names of rows at their left; each row is ``height`` pixels high."""
    axes.set_axis_on()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([(number + 0.5) * height for number in range(len(names))], names, color=INK)


def palette(count: int) -> list[tuple[float, float, float, float]]:
    """``count`` distinct colours, readable on white; up to 12, the first ones are always the same."""
    if count <= len(COLOURS):
        return [to_rgba(colour) for colour in COLOURS[:count]]
    return [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.06, 0.94, count)]


def whole_ticks(last: int) -> list[int]:
    """At most a dozen whole numbers from 1 to ``last``."""
    return list(range(1, last + 1, max(1, math.ceil(last / 12))))

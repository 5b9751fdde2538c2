"""The style of all figures: colours, fonts, layouts of images, and how a figure becomes a file."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from latent_atlas.errors import DataError
from latent_atlas.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

INK, FAINT, ACCENT = "#1f2430", "#8a909c", "#2f6fb0"
SIGNED_COLOURS = "RdBu_r"  # for numbers about zero
ANGLE_COLOURS = "viridis_r"  # for 0 to 90 degrees
SHARE_COLOURS = "viridis"  # for 0 to 100%, as bright where all is shared as angles of 0
# a family's lightest and darkest colour (CIELAB lightness 60 and 33), and its marker in matplotlib and in Vega
FAMILIES = (
    ("#2696ec", "#115082", "o", "circle"),
    ("#dc751e", "#7b3d06", "^", "triangle-up"),
    ("#ef55b2", "#931067", "P", "cross"),
    ("#9b9414", "#544f06", "v", "triangle-down"),
    ("#9d7bf6", "#5139aa", "<", "triangle-left"),
    ("#249fb0", "#0f5660", ">", "triangle-right"),
)
OWN_FAMILIES = {  # look the same in every study
    "pca": ("#1da47a", "#0c5941", "s", "square"),
    "pca_uncentred": ("#919191", "#4e4e4e", "d", "M0,-1L.6,0L0,1L-.6,0Z"),
    "pixels": (INK, INK, "", "circle"),
}
DASHES = ((), (4, 1.5), (1, 1.2), (6, 1.5, 1, 1.5), (10, 2), (5, 1.5, 1, 1.5, 1, 1.5))  # in widths of the line
NAMED = 9  # lines that get their names at their ends
ROWS = 10  # of a legend
LONGEST = 30  # letters of a name that are drawn
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


def short(name: str) -> str:
    """A name as a figure has room for it: the begin and the end of a long one."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 12]}…{name[-11:]}"


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
    axes.set_xticks(range(len(columns)), [short(name) for name in columns], color=INK, **labels)
    axes.set_yticks(range(len(rows)), [short(name) for name in rows], color=INK)
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


def array(images: Tensor | np.ndarray) -> np.ndarray:
    """Images as an array; those of a tensor may lie on any device."""
    return images if isinstance(images, np.ndarray) else images.detach().cpu().numpy()


def arrays(rows: Mapping[str, Tensor | np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of images as arrays."""
    return {name: array(images) for name, images in rows.items()}


def mosaic(images: Tensor | np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] laid out in rows as one RGB picture, white between and where none is left.

    Images of other than one or three channels are shown grey, as the mean of the channels.
    """
    pixels = array(images).clip(0, 1).transpose(0, 2, 3, 1)  # n x H x W x C
    if pixels.shape[3] != 3:
        pixels = pixels.mean(axis=3, keepdims=True)
    return _laid_out(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), columns, gap, filler=1.0)


def signed_mosaic(images: Tensor | np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Signed images (n, C, H, W) laid out in rows as one map of numbers: of each pixel the channel farthest from 0."""
    channels = array(images)
    pixels = np.take_along_axis(channels, np.abs(channels).argmax(axis=1, keepdims=True), axis=1)  # n x 1 x H x W
    pixels = pixels.transpose(0, 2, 3, 1)  # n x H x W x 1
    return _laid_out(pixels, columns, gap, filler=np.nan)[..., 0]


def stacked(
    rows: Mapping[str, Tensor | np.ndarray],
    columns: int,
    layout: Callable[[Tensor | np.ndarray, int], np.ndarray] = mosaic,
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


def height_to_width(images: Tensor | np.ndarray) -> float:
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
    axes.set_yticks([(number + 0.5) * height for number in range(len(names))], [*map(short, names)], color=INK)


@dataclass(frozen=True)
class Look:
    """How a model looks in every figure.

    Attributes
    ----------
    family : str
    colour : str
        #rrggbb; hue by family, darker with the place in the family.
    dash : tuple of float
        Lengths of strokes and gaps in widths of the line, by the place in the family; empty: solid.
    marker, shape : str
        By family: the name in matplotlib, "" for none, and in Vega.
    filled : bool
        Whether the marker is.
    """

    family: str
    colour: str
    dash: tuple[float, ...]
    marker: str
    shape: str
    filled: bool

    @property
    def points(self) -> dict[str, Any]:
        """Of its points, as arguments of ``plot``."""
        inside = self.colour if self.filled else "white"
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": inside}

    def line(self, count: int = 1) -> dict[str, Any]:
        """Of its line through ``count`` points, of which at most a dozen are marked, as arguments of ``plot``."""
        dash = (0, self.dash) if self.dash else "-"
        return self.points | {"linestyle": dash, "markersize": 4, "markevery": max(1, math.ceil(count / 12))}


def looks(names: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None) -> dict[str, Look]:
    """How each model looks: hue and marker by family, lightness and dashes by the place in it.

    Two models of a study of up to 30 differ by marker, dashes, or at least 10 in lightness.

    Parameters
    ----------
    names : sequence of str
        The models to draw.
    groups : mapping of str to sequence of str, optional
        All models of the study by family, the smallest latent dimension first: a model then looks the same in a figure
        that shows a part of them. A model that is not in it is placed by its name: ``fc16`` is in the family ``fc``.
    """
    families = {family: list(members) for family, members in (groups or {}).items()}
    known = {name for members in families.values() for name in members}
    numbers = {name: [int(number) for number in re.findall(r"[0-9]{1,9}", name)] for name in names}
    for name in sorted(dict.fromkeys(names), key=numbers.__getitem__):
        if name not in known:
            families.setdefault(re.sub(r"[0-9]+", "", name), []).append(name)
    if not groups:  # in the order of the table
        first = [re.sub(r"[0-9]+", "", name) for name in names]
        families = {family: families[family] for family in dict.fromkeys(first)}
    found = {}
    others = [family for family in families if family not in OWN_FAMILIES]
    for family, members in families.items():
        turn, own = divmod(others.index(family), len(FAMILIES)) if family in others else (0, 0)
        light, dark, marker, shape = OWN_FAMILIES.get(family, FAMILIES[own])
        for place, name in enumerate(members):
            depth = place / (len(members) - 1) if len(members) > 1 else 0.5
            red, green, blue = (1 - depth) * np.array(to_rgb(light)) + depth * np.array(to_rgb(dark))
            colour = to_hex((red, green, blue))
            dash, hollow = DASHES[(place + turn) % len(DASHES)], place // len(DASHES) % 2
            found[name] = Look(family, colour, dash, marker, shape, not hollow)
    return {name: found[name] for name in names}


def name_ends(panels: Sequence[tuple[Axes, Mapping[str, Look]]]) -> None:
    """Write the name of each line at its end; one legend instead if lines are too many or end in one place.

    Parameters
    ----------
    panels : sequence of (Axes, mapping of str to Look)
        Axes whose lines have the names of models as labels, with limits and scales as they will be.
    """
    found = []
    (fig,) = {axes.get_figure(root=True) for axes, _ in panels}
    assert fig is not None  # only removed axes have no figure
    for axes, chosen in panels:
        axes.get_xlim(), axes.get_ylim()  # sets limits that are due
        to_share = axes.transScale + axes.transLimits  # of data to parts of the axes
        ends = {}
        for line in axes.get_lines():
            points = to_share.transform(np.asarray(line.get_xydata(), dtype=float))
            points = points[np.isfinite(points).all(axis=1)]
            if line.get_label() in chosen and len(points):
                ends[str(line.get_label())] = points[points[:, 0].argmax()]
        width, height = axes.get_position().size * fig.get_size_inches()
        gap = 11 / 72 / height  # of lines of text of 8 points
        for column in dict.fromkeys(round(x * width / 0.8) for x, _ in ends.values()):
            here = [name for name, (x, _) in ends.items() if round(x * width / 0.8) == column]
            wanted = np.array([ends[name][1] for name in here])
            places = _apart(wanted, gap)
            if len(chosen) > NAMED or np.abs(places - wanted).max() > 3.5 * gap:
                together = {name: look for _, each in panels for name, look in each.items()}
                legend(axes if len(panels) == 1 and not isinstance(axes, Panel) else fig, together)
                return
            moved = np.abs(places - wanted) > 0.3 * gap
            found += [
                (axes, chosen[name], name, ends[name], *rest) for name, *rest in zip(here, places, moved, strict=True)
            ]
    for axes, look, name, end, place, moved in found:
        axes.annotate(
            short(name), end, xycoords="axes fraction", xytext=(12, place),
            textcoords=("offset points", "axes fraction"), ha="left", va="center", fontsize=8, annotation_clip=False,
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": look.colour, "linewidth": 0.7} if moved else None,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places at least ``gap`` apart within [0, 1] where they fit, in the order of those wanted and near to them."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    free = wanted[order] - steps
    up, down = np.maximum.accumulate(free), np.minimum.accumulate(free[::-1])[::-1]
    found = np.empty(len(wanted))
    found[order] = np.clip((up + down) / 2, 0, max(0.0, 1 - steps[-1])) + steps
    return found


def legend(drawn: Axes | Figure, chosen: Mapping[str, Look], dots: bool = False) -> None:
    """A legend below axes or a figure, a column for each family, or for several where there are many.

    Parameters
    ----------
    chosen : mapping of str to Look
    dots : bool
        Whether points stand for models, not lines.
    """
    by_family: dict[str, list[str]] = {}
    for name, look in chosen.items():
        by_family.setdefault(look.family, []).append(name)
    room = max(
        1, min(6, int(72 * PAGE_WIDTH) // (5 * max(len(short(name)) for name in chosen) + 48))
    )  # columns beside each other
    families, rows = list(by_family.values()), ROWS
    if sum(math.ceil(len(members) / rows) for members in families) > room or len(families) == 1:
        families, rows = [[name for members in families for name in members]], math.ceil(len(chosen) / room)
    columns = [members[start : start + rows] for members in families for start in range(0, len(members), rows)]
    rows = max(map(len, columns))
    blank = Line2D([], [], linestyle="none")
    handles = []
    for column in columns:
        for name in column:
            handle = Line2D([], [], **chosen[name].line())
            mark = handle if not dots else Line2D([], [], **chosen[name].points, linestyle="none")
            handles.append((mark, short(name)))
        handles += [(blank, "")] * (rows - len(column))
    shape: Any = {"fontsize": 8, "ncols": len(columns), "handlelength": 3.5, "labelcolor": INK}
    marks, names = zip(*handles, strict=True)
    if isinstance(drawn, Figure):
        drawn.legend(marks, names, loc="outside lower center", **shape)
    else:
        drawn.legend(marks, names, loc="upper center", bbox_to_anchor=(0.5, -0.2), **shape)


def legend_height(names: Sequence[str]) -> float:
    """Inches that a legend of so many models may add to a figure."""
    return 0.0 if len(names) <= NAMED else 0.17 * min(ROWS, math.ceil(len(names) / 3)) + 0.2


def whole_ticks(last: int) -> list[int]:
    """At most a dozen whole numbers from 1 to ``last``."""
    return list(range(1, last + 1, max(1, math.ceil(last / 12))))

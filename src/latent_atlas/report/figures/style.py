"""Pictures, all drawn in one hand: the same manifold has the same colour and the same name everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from torch import Tensor

from latent_atlas.files import atomic_write

INK, FAINT, ACCENT = "#1f2430", "#8a909c", "#2f6fb0"
SIGNED_COLOURS = "RdBu_r"  # for numbers about zero
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
    "grid.color": "#e4e6ea",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "latent-atlas",
    "figure.dpi": 110,
}


@contextmanager
def figure(
    width: float, height: float, layout: Literal["constrained", "compressed"] = "constrained"
) -> Iterator[Figure]:
    """A figure of so many inches in the house style, without a window system.

    The layout "compressed" draws panels of a fixed shape together.
    """
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout=layout)


def save(fig: Figure, path: Path) -> None:
    """Write a figure; beside an SVG also a PNG of the same name. The same figure gives the same bytes."""
    for target in [path, path.with_suffix(".png")] if path.suffix == ".svg" else [path]:
        metadata = {"Date": None} if target.suffix == ".svg" else {"Software": None}
        with atomic_write(target) as aside:
            fig.savefig(aside, metadata=metadata, dpi=160, bbox_inches="tight", pad_inches=0.08)


def mosaic(images: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] laid out in rows as one RGB picture, white between and where none is left."""
    pixels = images.detach().clamp(0, 1).cpu().numpy().transpose(0, 2, 3, 1)  # n x H x W x C
    return _laid_out(np.broadcast_to(pixels, (*pixels.shape[:3], 3)), columns, gap, filler=1.0)


def signed_mosaic(images: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Signed images (n, C, H, W), channels averaged, laid out in rows as one map of numbers."""
    pixels = images.detach().cpu().numpy().mean(axis=1)[..., None]  # n x H x W x 1
    return _laid_out(pixels, columns, gap, filler=np.nan)[..., 0]


def _laid_out(pixels: np.ndarray, columns: int, gap: int, filler: float) -> np.ndarray:
    count, height, width, channels = pixels.shape
    rows = math.ceil(count / columns)
    canvas = np.full((rows * (height + gap), columns * (width + gap), channels), filler)
    for number, image in enumerate(pixels):
        top, start = (number // columns) * (height + gap), (number % columns) * (width + gap)
        canvas[top : top + height, start : start + width] = image
    return canvas


def show(axes: Axes, picture: np.ndarray) -> None:
    """Draw an RGB picture without a frame, its pixels sharp."""
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()


def label_rows(axes: Axes, names: list[str], height: int) -> None:
    """Names at the left of a pile of rows, each so many pixels high."""
    axes.set_axis_on()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([(number + 0.5) * height for number in range(len(names))], names, color=INK)


def palette(count: int) -> list[tuple[float, float, float, float]]:
    """So many colours, well apart, none too pale for white paper; the first ones always the same."""
    if count <= len(COLOURS):
        return [to_rgba(colour) for colour in COLOURS[:count]]
    return [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.06, 0.94, count)]


def whole_ticks(last: int) -> list[int]:
    """At most a dozen whole numbers from 1 to ``last``."""
    return list(range(1, last + 1, max(1, math.ceil(last / 12))))

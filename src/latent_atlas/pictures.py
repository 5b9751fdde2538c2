"""Pictures, all drawn in one hand: the same manifold has the same colour and the same name everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from latent_atlas.core.files import written_aside

INK, FAINT, ACCENT = "#1f2430", "#8a909c", "#2f6fb0"
RESIDUAL_LIMIT = 0.5  # of the range of a pixel; the ends of the residuals' colour scale
RESIDUAL_COLOURS = "RdBu_r"
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
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches in the house style, without a window system."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def save(fig: Figure, path: Path) -> None:
    """Write a figure; beside an SVG also a PNG of the same name. The same figure gives the same bytes."""
    for target in [path, path.with_suffix(".png")] if path.suffix == ".svg" else [path]:
        metadata = {"Date": None} if target.suffix == ".svg" else {"Software": None}
        with written_aside(target) as aside:
            fig.savefig(aside, metadata=metadata, dpi=160)


def learning_curve(table: pd.DataFrame, model: str, path: Path) -> None:
    """Training and test error over the epochs of one training."""
    with figure(5.5, 3.2) as fig:
        axes = fig.subplots()
        axes.plot(table["epoch"], table["train_mse"], "o--", color=FAINT, markersize=4, label="training images")
        axes.plot(table["epoch"], table["test_mse"], "o-", color=ACCENT, markersize=4, label="test images")
        axes.annotate(
            f"{table['test_mse'].iloc[-1]:.4f}",
            (table["epoch"].iloc[-1], table["test_mse"].iloc[-1]),
            textcoords="offset points",
            xytext=(0, -14),
            ha="center",
            color=ACCENT,
        )
        axes.set(title=model, xlabel="epoch", ylabel="mean squared error per pixel")
        axes.set_xticks(whole_ticks(len(table)))
        axes.set_ylim(bottom=0)
        axes.legend()
        save(fig, path)


def learning_curves(curves: Mapping[str, pd.DataFrame], flat: Mapping[str, float], path: Path) -> None:
    """Test error over the epochs of all trainings, with PCA's errors as horizontal lines."""
    with figure(PAGE_WIDTH, 4.0) as fig:
        axes = fig.subplots()
        most = max(len(table) for table in curves.values())
        for (name, table), colour in zip(curves.items(), palette(len(curves)), strict=True):
            axes.plot(table["epoch"], table["test_mse"], "o-", markersize=4, color=colour, label=name)
        for name, error in flat.items():
            axes.axhline(error, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.text(most + 0.15, error, name, va="center", color=FAINT)
        axes.set(xlabel="epoch", ylabel="mean squared error per pixel, test images", yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xticks(whole_ticks(most))
        axes.legend(ncols=2)
        save(fig, path)


def pca_spectrum(table: pd.DataFrame, marks: Sequence[int], path: Path) -> None:
    """Variance along each principal component, and what the first k of them leave over."""
    with figure(PAGE_WIDTH, 3.2) as fig:
        left, right = fig.subplots(1, 2)
        left.semilogy(table["component"], table["variance"].clip(lower=1e-12), color=ACCENT)
        left.set(xlabel="component", ylabel="variance (pixel value²)", title="PCA spectrum")
        right.semilogy(table["component"], (1 - table["cumulative_share"]).clip(lower=1e-6), color=ACCENT)
        right.set(xlabel="components kept", ylabel="share of variance left over", title="What k components miss")
        for k in marks:
            if k < len(table):
                rest = 1 - table["cumulative_share"].iloc[k - 1]
                right.plot(k, rest, "o", color=INK, markersize=4)
                right.annotate(f"k = {k}: {rest:.1%}", (k, rest), textcoords="offset points", xytext=(8, 3))
        save(fig, path)


def grids(groups: Mapping[str, Tensor], path: Path) -> None:
    """Square grids of images side by side, each under its name.

    Parameters
    ----------
    groups : mapping of str to tensor (n, C, H, W)
        Images with values in [0, 1]; values beyond are clipped.
    path : Path
    """
    side = min(PAGE_WIDTH / len(groups), 5.0)
    with figure(side * len(groups), side + 0.3) as fig:
        for axes, (name, images) in zip(np.ravel(fig.subplots(1, len(groups))), groups.items(), strict=True):
            show(axes, mosaic(images, math.ceil(math.sqrt(len(images)))))
            axes.set_title(name)
        save(fig, path)


def comparison(originals: Tensor, shown: Mapping[str, Tensor], path: Path, columns: int = 10) -> None:
    """The same images by every manifold, a row each; on the right what each one gets wrong.

    Parameters
    ----------
    originals : tensor (n, C, H, W)
    shown : mapping of str to tensor (n, C, H, W)
        Reconstructions of the originals.
    path : Path
    columns : int
        How many of the images to show.
    """
    columns = min(columns, len(originals))
    rows = {"original": originals} | dict(shown)
    tile = (PAGE_WIDTH - 1.2) / (2 * columns)
    with figure(PAGE_WIDTH, tile * len(rows) * 1.04 + 0.9) as fig:
        left, right = fig.subplots(1, 2)
        pile = np.concatenate([mosaic(images[:columns], columns) for images in rows.values()])
        show(left, pile)
        residuals = [signed_mosaic((images - originals)[:columns], columns) for images in rows.values()]
        residuals[0][:] = np.nan
        height = residuals[0].shape[0]
        drawn = right.imshow(
            np.concatenate(residuals), cmap=RESIDUAL_COLOURS, vmin=-RESIDUAL_LIMIT, vmax=RESIDUAL_LIMIT
        )
        right.set_axis_off()
        for number, name in enumerate(rows):
            left.text(-4, (number + 0.5) * height, name, ha="right", va="center")
        left.set_title("reconstruction")
        right.set_title("reconstruction − original")
        fig.colorbar(drawn, ax=[left, right], location="bottom", fraction=0.03, pad=0.01, shrink=0.4, anchor=(1, 1))
        save(fig, path)


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


def palette(count: int) -> list[tuple[float, float, float, float]]:
    """So many colours, well apart, none too pale for white paper."""
    return [matplotlib.colormaps["turbo"](x) for x in np.linspace(0.06, 0.94, count)]


def whole_ticks(last: int) -> list[int]:
    """At most a dozen whole numbers from 1 to ``last``."""
    return list(range(1, last + 1, max(1, math.ceil(last / 12))))

"""Tangent vectors."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from latent_atlas.report.figures.style import PAGE_WIDTH, SIGNED_COLOURS, figure, save, signed_mosaic


def tangent_gallery(vectors: Tensor, title: str, path: Path) -> None:
    """Tangent vectors (k, C, H, W) as pictures, row by row, on one scale centred at zero; a blank one for none."""
    if not len(vectors):
        vectors = vectors.new_zeros(1, *vectors.shape[1:])
    columns = gallery_columns(len(vectors))
    rows = math.ceil(len(vectors) / columns)
    limit = float(vectors.abs().max()) or 1.0
    tile = (PAGE_WIDTH - 0.9) / columns
    with figure(PAGE_WIDTH, tile * rows + 0.5) as fig:
        axes = fig.subplots()
        drawn = axes.imshow(
            signed_mosaic(vectors, columns), cmap=SIGNED_COLOURS, vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes.set_axis_off()
        axes.set_title(title)
        fig.colorbar(drawn, ax=axes, fraction=0.03, pad=0.01, label="change of a pixel")
        save(fig, path)


def gallery_columns(count: int) -> int:
    """How many pictures stand in a row: 8 up to 32 pictures, 16 beyond."""
    return min(count, 8 if count <= 32 else 16)

"""Walks between images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from latent_atlas.report.figures.style import FAINT, INK, PAGE_WIDTH, figure, label_rows, mosaic, palette, save, show


def walks(rows: Mapping[str, Tensor], title: str, path: Path) -> None:
    """One walk by every manifold, a row each.

    Parameters
    ----------
    rows : mapping of str to tensor (n, C, H, W)
        The images on the way, in order, both ends included.
    title : str
    path : Path
    """
    count = max(len(images) for images in rows.values())
    tile = (PAGE_WIDTH - 1.4) / (count + 4)
    with figure(tile * count + 1.4, tile * len(rows) * 1.04 + 0.4) as fig:
        axes = fig.subplots()
        show(axes, np.concatenate([mosaic(images, count) for images in rows.values()]))
        label_rows(axes, list(rows), next(iter(rows.values())).shape[-2] + 1)
        axes.set_title(title)
        save(fig, path)


def walk_curves(table: pd.DataFrame, title: str, path: Path) -> None:
    """How fast each walk goes, and how far from the training images it strays."""
    with figure(PAGE_WIDTH, 3.6) as fig:
        speed, stray = fig.subplots(1, 2)
        names = list(table["manifold"].drop_duplicates())
        for name, colour in zip(names, [INK, *palette(len(names) - 1)], strict=True):
            rows = table[table["manifold"] == name]
            style = {"color": colour, "linewidth": 1.2, "linestyle": "--" if name.endswith("_uncentred") else "-"}
            per_unit = rows["step_length"].iloc[1:] * (len(rows) - 1)
            speed.plot(rows["t"].iloc[1:], per_unit, **style)
            stray.plot(rows["t"], rows["distance_to_nearest_training_image"], label=name, **style)
        speed.set(title="speed", xlabel="t", ylabel="length per unit of t (pixel range)", ylim=(0, None))
        stray.set(title="distance to the nearest training image", xlabel="t", ylabel="pixel range", ylim=(0, None))
        fig.legend(loc="outside right center", fontsize=8, labelcolor=INK)
        fig.suptitle(title, color=FAINT)
        save(fig, path)

"""Reconstructions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from latent_atlas.report.figures.style import (
    PAGE_WIDTH,
    SIGNED_COLOURS,
    figure,
    label_rows,
    mosaic,
    save,
    show,
    signed_mosaic,
)

RESIDUAL_LIMIT = 0.5  # of the range of a pixel; the ends of the residuals' colour scale


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
    with figure(PAGE_WIDTH, tile * len(rows) * 1.04 + 0.9, "compressed") as fig:
        left, right = fig.subplots(1, 2)
        pile = np.concatenate([mosaic(images[:columns], columns) for images in rows.values()])
        show(left, pile)
        residuals = [signed_mosaic((images - originals)[:columns], columns) for images in rows.values()]
        residuals[0][:] = np.nan
        drawn = right.imshow(np.concatenate(residuals), cmap=SIGNED_COLOURS, vmin=-RESIDUAL_LIMIT, vmax=RESIDUAL_LIMIT)
        right.set_axis_off()
        label_rows(left, list(rows), residuals[0].shape[0])
        left.set_title("reconstruction")
        right.set_title("reconstruction − original")
        fig.colorbar(drawn, ax=[left, right], location="bottom", fraction=0.03, pad=0.01, shrink=0.4, anchor=(1, 1))
        save(fig, path)

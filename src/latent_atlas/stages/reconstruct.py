"""reconstruct: all images through one manifold and back, how far off they come out, and what the encoder misses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.data.stored import SPLITS
from latent_atlas.errors import counted
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry import reconstruction as quality
from latent_atlas.geometry.manifold import batches, load_manifold
from latent_atlas.stages import tables
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def reconstruct(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Reconstruct all images by one manifold: errors of the splits and of each image of the sample and the examples.

    Of the latter the closest point of the surface is searched as well.
    """
    surface = load_manifold(manifold, architectures(params), name)
    data = Images.load(images)
    head = tables.head(params, name, surface.latent_dim)
    rows, shown = [], {}
    for split in SPLITS:
        pixels = data.pixels(split)
        means = quality.summary(surface, pixels)
        rows.append(head | {"split": split} | means)
        first = batches(pixels[: params.reconstruct.shown], surface.dtype)
        shown[split] = torch.cat([surface.reconstruct(x).float() for x in first])  # n x C x H x W
        log.info(
            f"{split}: {counted(len(pixels), 'image')}, mean squared error {means['mse']:.5f}, SSIM {means['ssim']:.3f}"
        )
    write_safetensors(folder / "shown.safetensors", shown, {"manifold": name, "family": surface.family})
    chosen, keys = tables.measured_images(params, data)
    missed = quality.gaps(surface, chosen)
    each = pd.concat([keys.assign(**head), quality.errors(surface.to(torch.float64), chosen), missed], axis=1)
    gap, steps, certain = missed["encoder_gap"].mean(), missed["steps"].median(), missed["converged"].sum()
    share = "none" if pd.isna(gap) else f"{gap:.1%}"  # undefined where the error is zero
    log.info(
        f"{counted(len(chosen), 'image')}: the encoder misses {share} of the error; {steps:.0f} steps to the closest "
        f"point, which was found for {certain}"
    )
    errors = each[[*head, *each.columns.difference([*head], sort=False)]]
    write_tables(folder, {"errors.parquet": errors, "summary.csv": pd.DataFrame(rows)})

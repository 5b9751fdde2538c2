"""reconstruct: all images through one manifold and back, and how far off they come out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log, manifold_options, stage
from latent_atlas.data.images import SPLITS, Images, as_float
from latent_atlas.files import write_safetensors, write_table
from latent_atlas.geometry import reconstruction as quality
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage("name")
@manifold_options
def reconstruct(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Reconstruct all training and test images by one manifold."""
    surface = load_manifold(manifold, architectures(params))
    data = Images.load(images)
    rows, shown = [], {}
    for split in SPLITS:
        pixels = data.pixels(split)
        means = quality.summary(surface, pixels)
        rows.append({"manifold": name, "latent_dim": surface.latent_dim, "split": split} | means)
        first = as_float(pixels[: params.reconstruct.shown], surface.dtype)
        shown[split] = surface.reconstruct(first).float()  # n x C x H x W
        log.info(f"{split}: {len(pixels)} images, mean squared error {means['mse']:.5f}, SSIM {means['ssim']:.3f}")
    write_safetensors(folder / "shown.safetensors", shown, {"manifold": name, "family": surface.family})
    write_table(folder / "errors.csv", pd.DataFrame(rows))

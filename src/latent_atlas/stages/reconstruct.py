"""reconstruct: what each manifold makes of the images, in numbers and side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd
from safetensors.torch import load_file

from latent_atlas import pictures
from latent_atlas.command import IN, OUT, log, stage
from latent_atlas.core import quality
from latent_atlas.core.files import write_safetensors, write_table
from latent_atlas.core.images import Images, as_float
from latent_atlas.core.manifold import load_manifold

if TYPE_CHECKING:
    from latent_atlas.config import Params

SPLITS = ("train", "test")


@stage("name")
@click.option("--name", required=True, help="What to call the manifold in the tables.")
@click.option("--manifold", type=IN, required=True, help="The manifold (safetensors).")
@click.option("--images", type=IN, required=True, help="The dataset, as written by fetch.")
@click.option("--errors", type=OUT, required=True, help="Mean errors of both splits to write (CSV).")
@click.option("--examples", type=OUT, required=True, help="Reconstructed examples to write (safetensors).")
def reconstruct(params: Params, name: str, manifold: Path, images: Path, errors: Path, examples: Path) -> None:
    """Reconstruct all training and test images by one manifold."""
    surface = load_manifold(manifold)
    data = Images.load(images)
    rows, shown = [], {}
    for split in SPLITS:
        pixels = data.pixels(split)
        means = quality.summary(surface, pixels)
        rows.append({"manifold": name, "latent_dim": surface.latent_dim, "split": split} | means)
        first = as_float(pixels[: params.reconstruct.examples], surface.dtype)
        shown[split] = surface.reconstruct(first).float()  # n x C x H x W
        log.info(f"{split}: {len(pixels)} images, mean squared error {means['mse']:.5f}, SSIM {means['ssim']:.3f}")
    write_safetensors(examples, shown, {"manifold": name, "family": surface.family})
    write_table(errors, pd.DataFrame(rows))


@stage()
@click.option("--images", type=IN, required=True, help="The dataset, as written by fetch.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder with a subfolder of results for each manifold.")  # fmt: skip
@click.option("--errors", type=OUT, required=True, help="The joint table to write (CSV).")
@click.option("--pictures", "picture_folder", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder for the grids and comparisons.")  # fmt: skip
def reconstruct_gather(params: Params, images: Path, folder: Path, errors: Path, picture_folder: Path) -> None:
    """Join the manifolds' errors into one table and draw their reconstructions side by side."""
    data = Images.load(images)
    tables = [pd.read_csv(folder / name / "errors.csv") for name in params.manifolds]
    examples = {name: load_file(folder / name / "examples.safetensors") for name in params.manifolds}
    write_table(errors, pd.concat(tables))
    for split in SPLITS:
        originals = as_float(data.pixels(split)[: params.reconstruct.examples])  # n x C x H x W
        pictures.grids({f"{split} images": originals}, picture_folder / f"{split}_images.png")
        for group, names in params.groups.items():
            pictures.grids({n: examples[n][split] for n in names}, picture_folder / f"{split}_{group}.png")
        shown = {name: examples[name][split] for name in params.manifolds}
        pictures.comparison(originals, shown, picture_folder / f"{split}_comparison.png")
    log.info(f"{len(tables)} manifolds compared: {errors}")

"""tangents_shared: how much of their tangent spaces the manifolds share at each image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

from latent_atlas.command import IN, folder_option, log, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_parquet
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.stages.tables import head, measured_images
from latent_atlas.statistics.agreement import agreements
from latent_atlas.study.manifolds import manifolds
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@folder_option("--checkpoints", "The manifolds.")
@click.option("--images", type=IN, required=True, help="The dataset, as written by fetch.")
@folder_option("--folder", "Where to write the table.")
def tangents_shared(params: Params, checkpoints: Path, images: Path, folder: Path) -> None:
    """Principal angles between the tangent spaces of all pairs of manifolds, at the sample and the examples."""
    trust = architectures(params)
    surfaces = {name: load_manifold(checkpoints / f"{name}.safetensors", trust) for name in manifolds(params)}
    pixels, keys = measured_images(params, Images.load(images))
    found = agreements(surfaces, pixels, report=lambda done: log.info(f"{done} of {len(pixels)} images"))
    heads = pd.DataFrame([head(params, name, surface.latent_dim) for name, surface in surfaces.items()])
    heads = heads.astype({"seed": "Int64"}).set_index("manifold")
    of_each = [heads.loc[found.pop(side)].add_suffix(f"_{side}").reset_index(names=side) for side in "ab"]
    rows = keys.loc[found.pop("image")].reset_index(drop=True)
    write_parquet(folder / "shared.parquet", pd.concat([*of_each, rows, found], axis=1))

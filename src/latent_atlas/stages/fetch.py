"""fetch: the dataset, verified, as one file of uint8 images and labels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latent_atlas.command import OUT, log, stage
from latent_atlas.data import sources as datasets

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@click.option("--images", type=OUT, required=True, help="The images file to write.")
def fetch(params: Params, images: Path) -> None:
    """Get the dataset that params.yaml names, verify it, and store it as one file.

    A folder named as dataset.folder is read; otherwise the public sources are tried in turn.
    """
    config = params.dataset
    folder = Path(config.folder).expanduser() if config.folder else None
    with tempfile.TemporaryDirectory(prefix="latent-atlas-") as scratch:
        found = datasets.get(config.name, config.colour, folder, Path(scratch), log.info)
    found = found.take(config.limit)
    found.save(images)
    channels, height, width = found.shape
    log.info(f"{len(found.train)} training and {len(found.test)} test images of {channels}x{height}x{width}: {images}")

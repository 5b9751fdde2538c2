"""fetch: the dataset, verified, as one file of uint8 images and labels."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log
from latent_atlas.data import sources as datasets
from latent_atlas.errors import DataError, OutputError
from latent_atlas.files import left_behind, unwritable
from latent_atlas.study.fits import check_fit

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def fetch(params: Params, images: Path) -> None:
    """Get the dataset that params.yaml names, verify it, and store it as one file.

    Files of the user's are read; otherwise the public sources are tried in turn.
    """
    wanted = params.dataset.model_dump()
    try:
        images.parent.mkdir(parents=True, exist_ok=True)
        # Beside the images, since a folder for temporary files may be small or lie in memory.
        for left in left_behind(images.parent, ".fetch-", r"-\w+"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = tempfile.TemporaryDirectory(
            prefix=f".fetch-{os.getpid()}-", dir=images.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise OutputError(unwritable(images, error)) from error
    with temporary as scratch:
        found = datasets.obtain(wanted, Path(scratch), log.info)
        try:
            check_fit(params, found.name, len(found.train), len(found.test), found.shape)
        except ValueError as error:
            raise DataError(f"params.yaml does not fit the images: {error}") from error
        found.save(images)
    channels, height, width = found.shape
    log.info(f"{len(found.train)} training and {len(found.test)} test images of {channels}x{height}x{width}: {images}")

"""invariance_epochs: how the angles of one model fall while it learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.models.checkpoints import Checkpoint, load_state
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import angles
from latent_atlas.study.models import architectures
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def invariance_epochs(
    params: Params, name: str, checkpoint: Path, snapshots: Path, curve: Path, images: Path, folder: Path
) -> None:
    """Angles at one example after each epoch of a training, beside the test error."""
    final = Checkpoint.load(checkpoint, architectures(params), name)
    errors = tables.read_of(name, curve).set_index("epoch")["test_mse"]
    states = tables.tensors_of(name, snapshots)
    study = params.invariance.epoch_study
    chosen = {kind: entry for kind, entry in transformations(params).items() if kind in study.transformations}
    data = Images.load(images)
    ((split, index),) = data.places({study.example: params.examples[study.example]})
    x = data.pixels(split)[index : index + 1]  # 1 x C x H x W
    rows = []
    epochs = sorted({int(key.partition("/")[0]) for key in states})
    for epoch in epochs:
        prefix = f"{epoch}/"
        weights = {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}
        load_state(final.model, weights, f"{snapshots}, epoch {epoch}")
        surface = Autoencoder(final.model, final.latent_dim, final.input_shape, build=final.build).to(torch.float64)
        head = tables.head(params, name, final.latent_dim)
        found = angles(surface, x, chosen).drop(columns=["image", "unit"])
        head |= {"epoch": epoch, "test_mse": errors[epoch], "example": study.example}
        rows.append(found.assign(**head)[[*head, *found.columns]])
    write_tables(folder, {"epochs.csv": pd.concat(rows)})
    log.info(f"{counted(len(epochs), 'epoch')}: {folder}")

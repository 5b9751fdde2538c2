"""invariance_epochs: how the angles of one model fall while it learns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd
import torch
from safetensors.torch import load_file

from latent_atlas.command import IN, folder_option, log, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_table
from latent_atlas.geometry.angles import decompose
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.stages.invariance import moved_by, tangent_space, transformations, written

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage("model")
@click.option("--model", required=True, help="What to call the model in the tables.")
@click.option("--checkpoint", type=IN, required=True, help="The model's checkpoint (safetensors).")
@click.option("--snapshots", type=IN, required=True, help="The model's weights after each epoch, as written by train.")
@click.option("--curve", type=IN, required=True, help="The model's learning curve (CSV).")
@click.option("--images", type=IN, required=True, help="The dataset, as written by fetch.")
@folder_option("--folder", "Where to write this model's results.")
def invariance_epochs(
    params: Params, model: str, checkpoint: Path, snapshots: Path, curve: Path, images: Path, folder: Path
) -> None:
    """Angles at one probe after each epoch of a training, beside the test error."""
    final = Checkpoint.load(checkpoint)
    errors = pd.read_csv(curve).set_index("epoch")["test_mse"]
    states = load_file(snapshots)
    study = params.invariance.epoch_study
    chosen = {name: entry for name, entry in transformations(params).items() if name in study.transformations}
    x = Images.load(images).picked({study.probe: params.probes[study.probe]}, torch.float64)
    rows = []
    for epoch, error in errors.items():
        prefix = f"{epoch}/"
        final.model.load_state_dict(
            {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}
        )
        surface = Autoencoder(final.model, final.latent_dim, final.input_shape).to(torch.float64)
        image, basis = tangent_space(surface, x)
        for motion, (entry, step) in chosen.items():
            split = decompose((moved_by(entry, image, step) - image).flatten(), basis)
            head = {"manifold": model, "latent_dim": final.latent_dim, "epoch": epoch, "test_mse": error}
            rows.append(
                head | {"probe": study.probe, "transformation": motion, "step": step,
                        "angle_deg": written(split.angle_deg)}
            )  # fmt: skip
    write_table(folder / "epoch_angles.csv", pd.DataFrame(rows))
    log.info(f"{len(errors)} epochs: {folder}")

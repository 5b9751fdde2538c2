"""tangents_shared: how much of their tangent spaces manifolds share, and a training with what it ends with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latent_atlas.command import report_progress
from latent_atlas.data.images import Images
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.geometry.agreement import Agreement
from latent_atlas.geometry.manifold import Autoencoder, Manifold, load_manifold
from latent_atlas.models.checkpoints import load_state
from latent_atlas.stages.tables import head, measured_images, tensors_of
from latent_atlas.statistics.agreement import agreements
from latent_atlas.study.manifolds import manifolds, trained
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

EPOCH_IMAGES = 50  # of the sample, at which the course of a training is measured
COURSE = ["manifold", "model", "seed", "latent_dim", "epoch", "split", "image", "label", "rank", "rank_finished",
          *Agreement._fields, "reason"]  # fmt: skip


def tangents_shared(params: Params, checkpoints: Path, trainings: Path, images: Path, folder: Path) -> None:
    """Principal angles between the tangent spaces of manifolds at the same images, and in the course of trainings."""
    trust = architectures(params)
    surfaces = {name: load_manifold(checkpoints / f"{name}.safetensors", trust, name) for name in manifolds(params)}
    heads = pd.DataFrame([head(params, name, surface.latent_dim) for name, surface in surfaces.items()])
    heads = heads.astype({"seed": "Int64"}).set_index("manifold")
    pixels, keys = measured_images(params, Images.load(images))
    found = agreements(
        surfaces, pixels, report=lambda done: report_progress(f"{done} of {counted(len(pixels), 'image')}")
    )
    of_each = [heads.loc[found.pop(side)].add_suffix(f"_{side}").reset_index(names=side) for side in "ab"]
    rows = keys.loc[found.pop("image")].reset_index(drop=True)
    shared = pd.concat([*of_each, rows, found], axis=1)

    sample = np.flatnonzero(keys["example"].isna())
    some = sample[np.linspace(0, len(sample) - 1, min(EPOCH_IMAGES, len(sample))).round().astype(int)]
    courses = [pd.DataFrame(columns=COURSE)]
    for name in trained(params):
        finished = surfaces[name]
        assert isinstance(finished, Autoencoder)
        epochs = over_epochs(finished, name, trainings / name / "snapshots.safetensors")
        pairs = [(epoch, "finished") for epoch in epochs]
        found = agreements(epochs | {"finished": finished}, pixels[some], pairs)
        found = found.rename(columns={"a": "epoch", "rank_a": "rank", "rank_b": "rank_finished"})
        rows = keys.iloc[some[found.pop("image")]].reset_index(drop=True).assign(manifold=name)
        courses.append(pd.concat([rows.join(heads, on="manifold"), found.astype({"epoch": int})], axis=1)[COURSE])
    write_tables(folder, {"shared.parquet": shared, "epochs.parquet": pd.concat(courses[1:] or courses)})


def over_epochs(surface: Autoencoder, name: str, snapshots: Path) -> dict[str, Manifold]:
    """The surface with the weights after each epoch of which they are kept, by epoch."""
    found: dict[str, Manifold] = {}
    states = tensors_of(name, snapshots)
    for epoch in sorted({int(key.partition("/")[0]) for key in states}):
        then, prefix = surface.to(surface.dtype), f"{epoch}/"
        weights = {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}
        load_state(then.model, weights, f"{snapshots}, epoch {epoch}")
        found[str(epoch)] = then
    return found

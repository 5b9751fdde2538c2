"""invariance_summary: the manifolds' angles compared, with pictures of the motions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from safetensors.torch import load_file

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures import invariance as pictures
from latent_atlas.stages.tables import gathered, numeric_angles

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@summary_options
def invariance_summary(params: Params, folder: Path) -> None:
    """Join the manifolds' angles and draw motions, heat maps and studies."""
    angles = gathered(folder, params.manifolds, "probe_angles.csv")
    steps = gathered(folder, params.manifolds, "step_angles.csv")
    epochs = gathered(folder, params.trained, "epoch_angles.csv") if params.trained else pd.DataFrame(columns=[])
    write_table(folder / "probe_angles.csv", angles)
    write_table(folder / "step_angles.csv", steps)
    write_table(folder / "epoch_angles.csv", epochs)
    for probe in params.probes:
        pictures.angle_map(numeric_angles(angles[angles["probe"] == probe]), probe, folder / f"angles_{probe}.svg")
    if len(steps):
        pictures.step_study(numeric_angles(steps), params.groups, folder / "step_angles.svg")
    if len(epochs):
        pictures.epoch_study(numeric_angles(epochs), folder / "epoch_angles.svg")
    panels = {name: load_file(folder / name / "pictures.safetensors") for name in params.manifolds}
    for probe in params.invariance.pictures:
        for motion in params.invariance.transformations:
            chosen = angles[(angles["probe"] == probe) & (angles["transformation"] == motion)]
            labels = dict(zip(chosen["manifold"], chosen["angle_deg"], strict=True))
            rows = {name: panels[name][f"{probe}/{motion}"] for name in params.manifolds}
            pictures.motions(rows, labels, f"{motion} of {probe}", folder / f"motion_{probe}_{motion}.png")
    log.info(f"{len(params.manifolds)} manifolds: {folder}")

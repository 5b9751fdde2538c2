"""train_summary: all learning curves, in one table and in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures import train as pictures
from latent_atlas.study.manifolds import trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@summary_options
def train_summary(params: Params, folder: Path) -> None:
    """Join the models' learning curves and draw them, each and all together."""
    curves = {name: pd.read_csv(folder / name / "curve.csv") for name in trained(params)}
    for name, curve in curves.items():
        curve.insert(0, "model", name)
        pictures.learning_curve(curve, name, folder / name / "curve.svg")
    if curves:
        write_table(folder / "summary.csv", pd.concat(curves.values()))
        pictures.learning_curves(curves, folder / "curves.svg")
    log.info(f"{len(curves)} trainings: {folder}")

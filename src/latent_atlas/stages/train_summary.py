"""train_summary: all learning curves, in one table and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.style import save
from latent_atlas.report.figures.train import plot_learning_curve, plot_learning_curves
from latent_atlas.stages.tables import combined
from latent_atlas.study.manifolds import groups, trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def train_summary(params: Params, folder: Path) -> None:
    """Join the models' learning curves and draw them, each and all together; the last epoch of each is its summary."""
    table = combined(folder, trained(params), "curve.csv")
    curves = table.groupby("manifold", sort=False)
    for name, curve in curves:
        save(plot_learning_curve(curve), folder / name / "curve.svg")
    write_tables(folder, {"curves.csv": table, "summary.csv": curves.tail(1)})
    save(plot_learning_curves(table, groups=groups(params)), folder / "curves.svg")
    log.info(f"{counted(len(curves), 'training')}: {folder}")

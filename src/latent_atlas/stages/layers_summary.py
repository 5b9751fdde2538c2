"""layers_summary: the models' layers and verdicts in one table, and their spectra in one figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.layers import plot_layers
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import LAYERS, combined
from latent_atlas.study.manifolds import networks

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def layers_summary(params: Params, folder: Path) -> None:
    """Join the models' tables and draw the spectra of their layers."""
    tables = {file: combined(folder, networks(params), file) for file in LAYERS}
    write_tables(folder, tables)
    save(plot_layers(tables["spectra.csv"]), folder / "spectra.svg")
    log.info(f"{counted(len(networks(params)), 'network')}: {folder}")

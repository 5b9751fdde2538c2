"""tangents_summary: how much of their tangent spaces the models share over the sample, in tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import pandas as pd

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures.agreement import plot_agreement, plot_agreement_epochs
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import combined
from latent_atlas.statistics.agreement import pairs_of_models
from latent_atlas.study.manifolds import pca_manifolds, trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@folder_option("--epochs", "A folder for each training with its agreement by epoch.")
@summary_options
def tangents_summary(params: Params, epochs: Path, folder: Path) -> None:
    """Summarize the shared tangent spaces, and draw them."""

"""invariance_summary: the manifolds' angles in tables over the sample and at the examples, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from safetensors.torch import load_file

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures.invariance import plot_angles, plot_displacements, plot_epochs, plot_steps
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import combined
from latent_atlas.study.manifolds import firsts, groups, manifolds, trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

KEYS = ["manifold", "model", "seed", "latent_dim", "transformation", "step", "unit"]


@stage()
@summary_options
def invariance_summary(params: Params, folder: Path) -> None:
    """Summarize the manifolds' angles and draw displacements, heat maps and studies."""
    table = combined(folder, manifolds(params), "angles.parquet")
    examples = table[table["example"].notna()]
    steps = combined(folder, manifolds(params), "steps.csv")
    epochs = combined(folder, trained(params), "epochs.csv")
    write_table(folder / "summary.csv", summarized(table[table["example"].isna()]))
    write_table(folder / "examples.csv", examples)
    write_table(folder / "steps.csv", steps)
    write_table(folder / "epochs.csv", epochs)
    for example in params.examples:
        save(plot_angles(examples[examples["example"] == example]), folder / f"angles_{example}.svg")
    save(plot_steps(steps, groups(params)), folder / "steps.svg")
    if len(epochs):
        save(plot_epochs(epochs), folder / "epochs.svg")
    panels = {name: load_file(folder / name / "pictures.safetensors") for name in firsts(params)}
    for example in params.invariance.pictures:
        for kind in params.invariance.transformations:
            chosen = examples[(examples["example"] == example) & (examples["transformation"] == kind)]
            angles = dict(zip(chosen["manifold"], chosen["angle_deg"], strict=True))
            rows = {name: panel[f"{example}/{kind}"] for name, panel in panels.items()}
            path = folder / "displacements" / example / f"{kind}.png"
            save(plot_displacements(rows, angles, f"{kind} of {example}"), path)
    log.info(f"{len(manifolds(params))} manifolds: {folder}")


def summarized(table: pd.DataFrame) -> pd.DataFrame:
    """Means and medians over the images of the sample, a row for each manifold and transformation."""
    return (
        table.groupby(KEYS, sort=False, dropna=False)
        .agg(
            images=("image", "size"),
            undefined=("reason", "count"),
            angle_deg_mean=("angle_deg", "mean"),
            angle_deg_median=("angle_deg", "median"),
            share_mean=("share", "mean"),
            chance_deg=("chance_deg", "mean"),
            chance_share=("chance_share", "mean"),
            score_mean=("score", "mean"),
        )
        .reset_index()
    )

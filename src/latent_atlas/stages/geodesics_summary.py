"""geodesics_summary: the geodesics of all manifolds in one table, their means, their variation, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.geodesics import plot_gains
from latent_atlas.report.figures.interpolate import plot_interpolation
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.statistics.summaries import differences, summarized
from latent_atlas.statistics.variation import variation
from latent_atlas.study.manifolds import manifolds

if TYPE_CHECKING:
    import numpy as np

    from latent_atlas.study.schema import Params

DISTANCES = ("code_distance", "line_length", "length")
SUMMARIZED = ["ratio_to_line", "ratio_to_chord"]
SHORTER, SAME = 1e-3, 1e-3  # by what share a geodesic must be shorter to count; within which two energies are the same


def geodesics_summary(params: Params, folder: Path) -> None:
    """Join the geodesics of all manifolds, summarize those of random pairs, and draw those of the examples."""
    table = combined(folder, manifolds(params), "pairs.csv")
    drawn = table[table["random"]] if table["random"].any() else table
    keyed = drawn.assign(split="pairs", image=drawn["pair"])
    medians = summarized(keyed, SUMMARIZED, []).drop(columns=["seeds", "images"])
    written = {
        "pairs.csv": table,
        "summary.csv": shares(drawn).merge(medians, on="model"),
        "differences.csv": differences(keyed, SUMMARIZED).rename(columns={"images": "pairs"}),
        "variation.csv": variation(drawn, DISTANCES),
    }
    write_tables(folder, written)
    save(plot_gains(drawn), folder / "gains.svg")
    for pair, (start, end) in params.interpolate.pairs.items():
        rows: dict[str, np.ndarray] = {}
        for model in params.models:
            needed = {f"{pair}_{path}": "float32 * * * *" for path in ("line", "geodesic")}
            shown = arrays_of(model, folder / model / "images.safetensors", needed)
            rows |= {f"{model}, {path}": shown[f"{pair}_{path}"] for path in ("line", "geodesic")}
        save(plot_interpolation(rows, f"{start} to {end}"), folder / f"{pair}.png")
    several = counted(table["pair"].nunique(), "pair"), counted(table["manifold"].nunique(), "manifold")
    log.info(f"geodesics between {' on '.join(several)}: {folder}")


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each model: how many trainings and pairs, and of which share of them something holds.

    ``converged``; ``shorter``: the curve is shorter than the line by more than :data:`SHORTER`; ``same``: both starting
    paths lead to energies that agree within :data:`SAME`. ``stretch_of_codes`` is the median length of the geodesic in
    the codes over the distance of the codes.
    """
    held = table.assign(
        shorter=table["ratio_to_line"] < 1 - SHORTER,
        same=(table["other_energy_ratio"] - 1).abs() <= SAME,
        stretch_of_codes=table["code_length"] / table["code_distance"],
    ).groupby("model", sort=False)
    counts = held[["manifold", "pair"]].nunique().set_axis(["seeds", "pairs"], axis=1)
    means = held[["converged", "shorter", "same"]].mean()
    return pd.concat(
        [held["latent_dim"].first(), counts, means, held["stretch_of_codes"].median()], axis=1
    ).reset_index()

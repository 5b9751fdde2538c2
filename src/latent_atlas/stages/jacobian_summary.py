"""jacobian_summary: the decoders' spectra in tables over the sample and at the examples, and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures.jacobian import plot_spectra
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import combined
from latent_atlas.study.manifolds import groups, manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@summary_options
def jacobian_summary(params: Params, folder: Path) -> None:
    """Summarize the decoders' spectra and draw them at the examples."""
    table = combined(folder, manifolds(params), "spectra.parquet")
    values = combined(folder, manifolds(params), "values.csv")
    examples = combined(folder, manifolds(params), "examples.csv")
    write_table(folder / "summary.csv", summarized(table[table["example"].isna()]))
    write_table(folder / "examples.csv", examples)
    write_table(folder / "values.csv", values)
    for example in params.examples:
        spectra, tolerances = (table[table["example"] == example] for table in (values, examples))
        save(plot_spectra(spectra, tolerances, groups(params)), folder / f"spectra_{example}.svg")
    log.info(f"{len(manifolds(params))} manifolds: {folder}")


def summarized(table: pd.DataFrame) -> pd.DataFrame:
    """What the spectra say over the images of the sample, a row for each manifold; all in float64."""
    table = table.assign(
        full_rank=table["rank"] == table["latent_dim"], sigma_ratio=table["sigma_min"] / table["sigma_max"]
    )
    return (
        table.groupby(["manifold", "model", "seed", "latent_dim"], sort=False, dropna=False)
        .agg(
            images=("image", "size"),
            full_rank_share=("full_rank", "mean"),
            rank_min=("rank", "min"),
            sigma_max_median=("sigma_max", "median"),
            sigma_min_median=("sigma_min", "median"),
            sigma_ratio_min=("sigma_ratio", "min"),
            condition_number_median=("condition_number", "median"),
            log_volume_mean=("log_volume", "mean"),
        )
        .reset_index()
    )

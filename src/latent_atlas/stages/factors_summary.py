"""factors_summary: how much of the true tangent spaces the models hold, in tables over the sample and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.factors import plot_directions, plot_factors
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.statistics.factors import means
from latent_atlas.statistics.summaries import by_class, differences
from latent_atlas.study.manifolds import compared, groups, manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

KEYS = ["latent_dim", "factor"]
VALUES = ["angle_deg", "share", "score"]


def factors_summary(params: Params, folder: Path) -> None:
    """Summarize what the models hold of the true tangent spaces, and draw it."""
    table = combined(folder, manifolds(params), "factors.parquet")
    sample = table[table["example"].isna()]
    summary = means(sample, VALUES, KEYS)
    written = {
        "summary.csv": summary,
        "examples.csv": table[table["example"].notna()],
        "by_class.csv": by_class(means, sample, VALUES, KEYS),
        "differences.csv": differences(sample, ["score"], ["factor"]),
    }
    write_tables(folder, written)
    save(plot_factors(summary[summary["model"].isin(compared(params))], groups=groups(params)), folder / "factors.svg")
    example = params.tangents.example
    needed = dict.fromkeys(("true", "held"), "float32 * * * *")
    pictures = {name: arrays_of(name, folder / name / "pictures.safetensors", needed) for name in compared(params)}
    true = next(iter(pictures.values()))["true"]
    rows = {example: true} | {name: each["held"] for name, each in pictures.items()}
    save(plot_directions(rows, table[table["example"] == example]), folder / "directions.png")
    log.info(f"{counted(len(manifolds(params)), 'manifold')}: {folder}")

"""invariance_summary: the manifolds' angles in tables over the sample and at the examples, and in figures."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.invariance import plot_angles, plot_displacements, plot_epochs, plot_steps
from latent_atlas.report.figures.population import plot_class_map, plot_distributions
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.statistics.headline import mean_scores, percentiles
from latent_atlas.statistics.summaries import by_class, differences, quantiles, summarized, with_chance
from latent_atlas.study.manifolds import compared, firsts, groups, manifolds, trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

KEYS = ["latent_dim", "transformation", "step", "unit"]
VALUES = ["angle_deg", "share", "score"]


def invariance_summary(params: Params, jacobians: Path, epochs: Path, folder: Path) -> None:
    """Summarize the manifolds' angles and draw displacements, heat maps and studies."""
    table = combined(jacobians, manifolds(params), "angles.parquet")
    examples = table[table["example"].notna()]
    steps = combined(folder, manifolds(params), "steps.csv")
    courses = combined(epochs, trained(params), "epochs.csv")
    sample = table[table["example"].isna()]
    scores = mean_scores(table)
    of_sample = scores[scores["example"].isna()]
    known = exact(table)
    compared_at, compared_by = (rows[rows["example"].isna()] for rows in (known, mean_scores(known)))
    classes = by_class(summarized, of_sample, ["score"], ["latent_dim"])
    written = {
        "summary.csv": with_chance(summarized(sample, VALUES, KEYS), sample, KEYS),
        "quantiles.csv": quantiles(sample, "angle_deg", KEYS),
        "by_class.csv": by_class(summarized, sample, VALUES, KEYS),
        "differences.csv": differences(compared_at, ["score"], ["transformation"]),
        "differences_by_class.csv": by_class(differences, compared_at, ["score"], ["transformation"]),
        "scores.csv": summarized(of_sample, ["score"]),
        "scores_by_class.csv": classes,
        "score_differences.csv": differences(compared_by, ["score"]),
        "percentiles.csv": percentiles(scores),
        "examples.csv": examples,
        "steps.csv": steps,
        "epochs.csv": courses,
    }
    write_tables(folder, written)
    drawn, at_examples, mapped = (rows[rows["model"].isin(compared(params))] for rows in (sample, examples, classes))
    marked = at_examples["manifold"].isin(firsts(params)) & at_examples["example"].isin(params.invariance.pictures)
    save(plot_distributions(drawn, at_examples[marked], groups(params)), folder / "distributions.svg")
    save(plot_class_map(mapped), folder / "classes.svg")
    for example in params.examples:
        save(plot_angles(examples[examples["example"] == example]), folder / f"angles_{example}.svg")
    save(plot_steps(steps, groups(params)), folder / "steps.svg")
    if len(courses):
        save(plot_epochs(courses, groups(params)), folder / "epochs.svg")
    shown = product(params.invariance.pictures, params.invariance.transformations)
    needed = {f"{example}/{kind}": "float32 5 * * *" for example, kind in shown}
    panels = {name: arrays_of(name, folder / name / "pictures.safetensors", needed) for name in firsts(params)}
    for example in params.invariance.pictures:
        for kind in params.invariance.transformations:
            chosen = examples[(examples["example"] == example) & (examples["transformation"] == kind)]
            angles = dict(zip(chosen["manifold"], chosen["angle_deg"], strict=True))
            rows = {name: panel[f"{example}/{kind}"] for name, panel in panels.items()}
            path = folder / "displacements" / example / f"{kind}.png"
            save(plot_displacements(rows, angles, f"{kind} of {example}"), path)
    log.info(f"{counted(len(manifolds(params)), 'manifold')}: {folder}")


def exact(table: pd.DataFrame) -> pd.DataFrame:
    """The table of angles with null for each score that is a lower limit only, of which no difference can be told."""
    return table.assign(score=table["score"].where(table["products"].isna())) if "products" in table else table

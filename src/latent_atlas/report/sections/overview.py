"""The first thing on the page: each model's numbers with their intervals, and what they say of one another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged, scope, tied
from latent_atlas.report.learned import left_out, unlearned
from latent_atlas.report.maps import distributions, heat_map
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.report.sections.agreement import of_findings, pairs, same_surface
from latent_atlas.report.sections.jacobian import spectra_in_words
from latent_atlas.report.sections.reconstruct import gap_sentences
from latent_atlas.statistics.headline import BY_CONSTRUCTION
from latent_atlas.study.manifolds import compared, pca_manifolds
from latent_atlas.study.schema import Params

TITLE = "Overview"
TYPICAL = (5, 95)  # percentiles between which an image is typical of the sample


def section(results: Path, params: Params) -> Section:
    """Error, encoder gap, score and agreement of each model; the distribution of angles, spectra, scores by class."""
    files = {
        "errors": "reconstruct/sample.csv",
        "scores": "invariance/scores.csv",
        "smaller": "reconstruct/differences.csv",
        "lower": "invariance/score_differences.csv",
        "places": "invariance/percentiles.csv",
    }
    read = {name: read_table(results / file) for name, file in files.items()}
    silent, shared = left_out(results, params), pairs(results)
    told = [name for name in compared(params) if name not in silent]
    numbers = collected(read["errors"], read["scores"], shared, compared(params))
    able = numbers[numbers["model"].isin(told)]
    errors = read["errors"]
    kinds = [kind for kind in params.invariance.transformations if kind not in BY_CONSTRUCTION]
    without = [kind for kind in params.invariance.transformations if kind in BY_CONSTRUCTION]
    scores, angles = read["scores"], read_table(results / "invariance" / "summary.csv")
    by_class = read_table(results / "invariance" / "scores_by_class.csv")
    drawn = compared(params)
    quantiles = read_table(results / "invariance" / "quantiles.csv").merge(
        angles[["model", "transformation", "chance_deg"]].rename(columns={"chance_deg": "chance"})
    )
    ranges = distributions(quantiles[quantiles["model"].isin(drawn)], "angle_deg", "angle (degrees)", 90)
    in_words = by_class.assign(label="class " + by_class["label"].astype(str))
    mapped = by_class[by_class["model"].isin(drawn)]
    pictures = [
        Picture(
            results / "invariance" / "distributions.svg",
            "Angles of the displacements at every image of the sample, by model. Black line: chance. White: median. "
            "Symbols: the example images. In the plots: the range of nine tenths of the images, of a half, the median "
            "(orange) and chance (violet).",
            plots=tuple(chart.to_dict() for chart in ranges.values()),
            alt=f"Violins of the angles of {scores['model'].nunique()} models, a panel for each of "
            f"{angles['transformation'].nunique()} transformations. Mean angles: "
            f"{extremes(angles, 'angle_deg_mean', '{:.1f}°'.format, 'model', 'transformation')}; chance "
            f"{extremes(angles, 'chance_deg', '{:.1f}°'.format, 'model')}.",
        ),
        Picture(
            results / "jacobian" / "bands.svg",
            "Singular values per standard deviation of the code.",
            alt=spectra_in_words(read_table(results / "jacobian" / "bands.csv")),
        ),
        Picture(
            results / "invariance" / "classes.svg",
            "Mean score by class and model.",
            plots=(heat_map(mapped, "label", "score_mean", "mean score", 1).to_dict(),),
            alt=f"Scores of {by_class['model'].nunique()} models in {by_class['label'].nunique()} classes: "
            f"{extremes(in_words, 'score_mean', '{:.2f}'.format, 'model', 'label')}.",
        ),
    ]
    return Section(
        TITLE,
        warnings=[str(case) for case in unlearned(results, params)],
        sentences=[
            *leader_sentences("error", leaders(able, read["smaller"].query("quantity == 'mse'"), "mse", smallest=True)),
            *leader_sentences("score", leaders(able, read["lower"], "score", smallest=False)),
            *gap_sentences(errors[~errors["model"].isin({*pca_manifolds(params), *silent})], params.sample.split),
            same_surface(of_findings(shared, silent)),
            *typical_sentences(typical(read["places"][read["places"]["model"].isin(told)]), params.invariance.pictures),
            f"The score is the mean over {', '.join(kinds)}: 0 is chance, 1 is an angle of 0°."
            + (f" {', '.join(without)} is left out: linear subspaces hold it by construction." if without else "")
            + f" {scope(numbers, pca_manifolds(params))}.",
        ],
        tables=[
            _table(numbers, f"{numbers['images'].max()} images of the {params.sample.split} split").of(
                results / files["errors"], results / files["scores"], results / "tangents" / "shared.csv"
            )
        ],
        pictures=pictures,
        tables_first=True,
    )


def collected(
    errors: pd.DataFrame, scores: pd.DataFrame, shared: pd.DataFrame, models: Collection[str]
) -> pd.DataFrame:
    """One row for each of the models: its numbers over the sample, each with ``*_low`` and ``*_high``.

    Returns
    -------
    DataFrame
        ``model, latent_dim, seeds, images``; ``mse``, ``encoder_gap`` (the part of the error that the encoder misses),
        ``score``, each a mean; ``shared``, between the trainings of the model, or with centred PCA of its dimension
        where it has one training; and ``shared_with``, which of the two.
    """
    rows = []
    for model in models:
        error, score = (one[one["model"] == model].iloc[0] for one in (errors, scores))
        row = {key: error[key] for key in ("model", "latent_dim", "seeds", "images")}
        for value, of in (("mse", error), ("encoder_gap", error), ("score", score)):
            row |= {f"{value}{end}": of[f"{value}_mean{end}"] for end in ("", "_low", "_high")}
        own = shared[(shared["a"] == model) & (shared["b"] == model)]
        linear = shared[
            (shared["kind"] == "pca")
            & (shared["a"] == model)
            & (shared["b"] == f"pca{error['latent_dim']}")
            & shared["reason"].isna()
        ]
        for words, found in (("trainings", own), ("PCA", linear)):
            if len(found):
                row |= {f"shared{end}": found.iloc[0][f"shared_mean{end}"] for end in ("", "_low", "_high")}
                row["shared_with"] = words
                break
        else:
            row |= {"shared": None, "shared_low": None, "shared_high": None, "shared_with": None}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Leader:
    """The best model among those of one latent dimension.

    Attributes
    ----------
    latent_dim : int
    row : Series
        Of the best model.
    value : str
        By which it is the best.
    tied : list of str
        Models of which the differences cannot tell that they are worse.
    others : int
        How many models it was compared with.
    """

    latent_dim: int
    row: pd.Series
    value: str
    tied: list[str]
    others: int


def leaders(numbers: pd.DataFrame, differences: pd.DataFrame, value: str, smallest: bool) -> list[Leader]:
    """The best model by a value at each latent dimension, and which ones cannot be told from it.

    Parameters
    ----------
    numbers : DataFrame
        As :func:`collected` gives it.
    differences : DataFrame
        ``a, b, verdict`` of pairs of models.
    value : str
    smallest : bool
        Whether the smallest value is the best.
    """
    found = []
    for k, rows in numbers.dropna(subset=[value]).groupby("latent_dim"):
        best = rows.loc[rows[value].idxmin() if smallest else rows[value].idxmax()]
        others = [name for name in rows["model"] if name != best["model"]]
        found.append(Leader(int(str(k)), best, value, tied(differences, best["model"], others), len(others)))
    return found


def leader_sentences(what: str, found: list[Leader]) -> list[str]:
    """The findings in words; nothing where no model has a rival of its dimension."""
    compared = [one for one in found if one.others]
    if not compared:
        return []
    best = {"error": "smallest error", "score": "highest score"}[what]
    spec = {"error": ".5f", "score": ".2f"}[what]
    said = [
        Finding.ranged(
            best,
            one.row,
            one.value,
            spec,
            "at k = {k} {subject}, {}" + (", which cannot be told from {object}" if one.tied else ""),
            relation="cannot tell" if one.tied else "best",
            object=", ".join(one.tied) or None,
            facts={"k": one.latent_dim},
        )
        for one in compared
    ]
    return [Sentence(f"The {best}: {{}}.", said, "; ")]


def typical(places: pd.DataFrame) -> pd.DataFrame:
    """For each example: median, smallest and largest percentile over the models, and whether it is typical."""
    found = places.groupby("example", sort=False)["percentile"].agg(["median", "min", "max"]).reset_index()
    return found.assign(typical=found["median"].between(*TYPICAL))


def typical_sentences(found: pd.DataFrame, examples: Collection[str]) -> list[str]:
    """Whether the examples are typical of the sample, in words."""
    said = [
        Finding(
            "percentile of an example",
            "{subject} lies at percentile {value:.0f} of the scores ({min:.0f} to {max:.0f} over the models): "
            "{relation} of the sample",
            subject=row["example"],
            value=row["median"],
            unit="percentile",
            relation="typical" if row["typical"] else "not typical",
            facts={"min": row["min"], "max": row["max"]},
        )
        for _, row in found[found["example"].isin(examples)].iterrows()
    ]
    return [Sentence("The example {}.", said, "; ")] if said else []


def _table(numbers: pd.DataFrame, where: str) -> Table:
    columns = {
        "mse": ("error", "{:.5f}".format),
        "encoder_gap": ("encoder gap", "{:.1%}".format),
        "score": ("score", "{:.2f}".format),
        "shared": ("tangents shared", "{:.0%}".format),
    }
    frame = numbers[["model", "latent_dim"]].rename(columns={"latent_dim": "k"})
    for value, (head, written) in columns.items():
        frame[head] = [ranged(row, value, written) for _, row in numbers.iterrows()]
    frame["shared with"] = numbers["shared_with"]
    caption = (
        f"Means over {where}, with 95% intervals: mean squared error a pixel; the part of it that the encoder misses; "
        f"displacements held against chance; tangent spaces shared between trainings, or with PCA of the same k"
    )
    return table(frame, {"k": "{:.0f}".format}, caption)

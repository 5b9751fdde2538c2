"""The first lines of the page: what the question is, and what this study answers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import tied
from latent_atlas.report.learned import left_out
from latent_atlas.report.sections import invariance as invariance_angles
from latent_atlas.report.sections import jacobian, reconstruct
from latent_atlas.statistics.headline import BY_CONSTRUCTION
from latent_atlas.study.manifolds import pca_manifolds
from latent_atlas.study.schema import Params

NOTHING = "No model of this study has learned anything that could be judged."


@dataclass(frozen=True)
class Answer:
    """One answer: of what, the title of the section that it rests on, and what makes its sentence."""

    about: str
    section: str
    sentence: Callable[[], str]


def question(dataset: str, models: int) -> str:
    """What the study asks."""
    those = (
        "is the surface that an autoencoder has" if models == 1 else f"are the surfaces that {models} autoencoders have"
    )
    return f"What {those} learned of {dataset} like, beside PCA and chance?"


def answers(results: Path, params: Params) -> list[Answer]:
    """The three answers, over the images of the sample; models that have learned nothing are left out.

    Their sentences raise FileError where a table is missing or damaged.
    """
    linear = pca_manifolds(params)

    def told(file: str) -> pd.DataFrame:
        table = read_table(results / file)
        return table[~table["model"].isin(left_out(results, params))]

    def of_reconstruction() -> str:
        differences = read_table(results / "reconstruct/differences.csv")
        return reconstruction(told("reconstruct/sample.csv"), differences, linear)

    def of_immersion() -> str:
        ranks = told("jacobian/summary.csv")
        return immersion(ranks[~ranks["model"].isin(linear)])

    def of_invariance() -> str:
        angles = told("invariance/summary.csv")
        return invariance(
            told("invariance/scores.csv"),
            read_table(results / "invariance/score_differences.csv"),
            angles[~angles["transformation"].isin(BY_CONSTRUCTION)],
            linear,
        )

    return [
        Answer("Reconstruction", reconstruct.TITLE, of_reconstruction),
        Answer("Immersion", jacobian.TITLE, of_immersion),
        Answer("Invariance", invariance_angles.TITLE, of_invariance),
    ]


def reconstruction(sample: pd.DataFrame, differences: pd.DataFrame, linear: Collection[str]) -> str:
    """How many models have smaller errors than centred PCA of their dimension, and the best one against it."""
    if set(sample["model"]) <= set(linear):
        return NOTHING
    found = reconstruct.findings(sample, differences, linear)
    if found.empty:
        return "No model has a PCA of its dimension in this study to be compared with."
    counts = found["verdict"].value_counts()
    words = {
        "smaller": "{value} of {of} models reconstruct with a smaller error than centred PCA of their dimension.",
        "larger": "{value} with a larger one.",
        "cannot tell": "Of {value} this cannot be told.",
    }
    said = [
        _count(f"error against PCA: {verdict}", text, int(counts.get(verdict, 0)), len(found))
        for verdict, text in words.items()
        if counts.get(verdict) or verdict == "smaller"
    ]
    best, errors = found.loc[found["ratio"].idxmin()], sample.set_index("model", drop=False)
    row = errors.loc[best["model"]]
    error = Finding.ranged(
        "mean squared error",
        row,
        "mse_mean",
        ".5f",
        "The smallest ratio of the two errors is that of {subject}: {}",
        relation=best["verdict"],
        facts={"k": int(row["latent_dim"])},
    )
    return Sentence("{}.", [*said, _beside(error, errors.loc[f"pca{row['latent_dim']}"], "mse_mean", ".5f")], " ")


def immersion(ranks: pd.DataFrame) -> str:
    """How many decoders have full rank at all images, and where rank is lost most."""
    if ranks.empty:
        return NOTHING
    ranks = ranks.dropna(subset=["full_rank_share"])  # what is not known is said in the section
    if ranks.empty:
        return "Whether the decoders are immersions is not determined."
    full = ranks[ranks["full_rank_share"] == 1]
    images = int(ranks["images"].max())
    said = [
        Finding(
            "immersions",
            "{value} of {of} decoders have full rank at all {images:,} images of the sample: there they are immersions"
            + (", with 95% confidence at {low:.1%} or more of such images." if len(full) else "."),
            value=len(full),
            low=jacobian.rounded_down(full["full_rank_share_low"].min()) if len(full) else None,
            unit="decoders",
            facts={"of": len(ranks), "images": images},
        )
    ]
    if len(full) < len(ranks):
        worst = ranks.loc[ranks["full_rank_share"].idxmin()]
        said.append(
            Finding.ranged(
                "full rank",
                worst,
                "full_rank_share",
                ".1%",
                "The lowest share of images with full rank is that of {subject}: {}; its lowest rank is {rank} of {k}.",
                facts={"rank": int(worst["rank_min"]), "k": int(worst["latent_dim"])},
            )
        )
    return Sentence("{}", said, " ")


def invariance(scores: pd.DataFrame, differences: pd.DataFrame, angles: pd.DataFrame, linear: Collection[str]) -> str:
    """How many models hold displacements better than chance and than PCA; the best one, and one of its angles."""
    if set(scores["model"]) <= set(linear):
        return NOTHING
    known = scores.dropna(subset=["score_mean"]).set_index("model", drop=False)
    networks = known[~known["model"].isin(linear)]
    if networks.empty:
        return "No displacement has a score in this study."
    words = "{value} of {of} models hold small displacements of images better than chance"
    said = [_count("score above chance", words, int((networks["score_mean_low"] > 0).sum()), len(networks))]
    larger = {  # the pairs of which the first has the larger score
        pair
        for a, b, verdict in differences[["a", "b", "verdict"]].itertuples(index=False)
        for pair, smaller in (((a, b), "b is smaller"), ((b, a), "a is smaller"))
        if verdict == smaller
    }
    pairs = [(name, f"pca{k}") for name, k in networks["latent_dim"].items() if f"pca{k}" in known.index]
    if pairs:
        words = ", {value} of {of} better than centred PCA of their dimension"
        said.append(_count("score above PCA", words, sum(pair in larger for pair in pairs), len(pairs)))
    best = networks.loc[networks["score_mean"].idxmax()]
    pca = f"pca{best['latent_dim']}"
    alike = tied(differences, best["model"], networks["model"])
    score = Finding.ranged(
        "highest score",
        best,
        "score_mean",
        ".2f",
        ". The highest score: {subject}" + (", not told from {tied}" if alike else "") + ", {}",
        relation="cannot tell" if alike else "best",
        facts={"tied": ", ".join(alike)},
    )
    said.append(_beside(score, known.loc[pca], "score_mean", ".2f") if pca in known.index else score)
    own = angles[angles["model"] == best["model"]].dropna(subset=["angle_deg_mean"])
    if len(own):
        row = own.iloc[0]
        angle = Finding.ranged(
            "invariance angle",
            row,
            "angle_deg_mean",
            ".1f",
            ". Its invariance angle to {transformation}, in degrees: {}",
            unit="degrees",
            facts={"transformation": row["transformation"], "chance": float(row["chance_deg"])},
        )
        alike = angles[(angles["model"] == pca) & (angles["transformation"] == row["transformation"])]
        angle = _beside(angle, alike.iloc[0], "angle_deg_mean", ".1f") if len(alike) else angle
        said.append(replace(angle, template=angle.template + "; by chance {chance:.1f}"))
    return Sentence("{}.", said, "")


def _count(kind: str, words: str, number: int, of: int) -> Finding:
    return Finding(kind, words, value=number, unit="models", facts={"of": of})


def _beside(finding: Finding, row: pd.Series, column: str, spec: str) -> Finding:
    """A finding with that of PCA after it, whose number and limits become facts."""
    pca = Finding.ranged(finding.kind, row, column, spec)
    words = pca.template.replace("{value", "{pca").replace("{low", "{pca_low").replace("{high", "{pca_high")
    return replace(
        finding,
        template=f"{finding.template}; PCA {words}",
        object=pca.subject,
        facts={**finding.facts, "pca": pca.value, "pca_low": pca.low, "pca_high": pca.high},
    )

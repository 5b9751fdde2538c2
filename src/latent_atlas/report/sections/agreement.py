"""The report on shared tangent spaces: whether trainings, and models, learn the same surface."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence, capitalized
from latent_atlas.report.learned import left_out
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.study.manifolds import trained
from latent_atlas.study.schema import Params

TITLE = "Shared tangent spaces"
SAME = 0.99  # share from which two surfaces count as the same
KINDS = {"trainings": "two trainings of a model", "models": "two models", "pca": "a model and PCA"}


def section(results: Path, params: Params) -> Section:
    """Agreement between trainings, models and PCA, and in the course of a training."""
    folder = results / "tangents"
    shared = pairs(results)
    told = of_findings(shared, left_out(results, params))
    said = [
        "The share of two tangent spaces is the mean squared cosine of their principal angles: 100% if one contains "
        "the other. Random subspaces share the larger rank divided by the number of pixels. In brackets: 95% intervals "
        "over the images and, where a model has several trainings, over these; with one, the variation between "
        "trainings is not in them.",
        same_surface(told),
        *pair_sentences(told),
    ]
    models = shared[["a", "b"]].stack().nunique()
    share = extremes(shared[shared["a"] != shared["b"]], "shared_mean", "{:.1%}".format, "a", "b")
    alt = f"A square of {models} by {models} models: the darker, the more of its tangent space a pair shares; {share}."
    shown = [Picture(folder / "shared.svg", "Tangent spaces in common, over the sample.", wide=False, alt=alt)]
    if trained(params):
        epochs = read_table(folder / "epochs.csv")
        said += epoch_sentences(epochs[~epochs["model"].isin(left_out(results, params))])
        caption = "What each training shares with the finished model, by epoch."
        start = extremes(epochs[epochs["epoch"] == epochs["epoch"].min()], "shared_mean", "{:.1%}".format, "model")
        alt = f"Curves of {epochs['model'].nunique()} models that end at 100%; at the first epoch: {start}."
        shown.append(Picture(folder / "epochs.svg", caption, alt=alt))
    alike = told[told["latent_dim_a"] == told["latent_dim_b"]]
    where = f"means over {shared['images'].max()} images of the {params.sample.split} split; angles in degrees"
    return Section(
        TITLE,
        said,
        [_table(alike, f"Pairs of equal dimension, {where}").of(folder / "shared.csv")],
        shown,
        folded_tables=[_table(shared.drop(alike.index), f"Other pairs, {where}").of(folder / "shared.csv")],
    )


def pairs(results: Path) -> pd.DataFrame:
    """What all pairs of models share."""
    return read_table(results / "tangents" / "shared.csv")


def of_findings(shared: pd.DataFrame, silent: Collection[str]) -> pd.DataFrame:
    """The pairs that findings rest on: without a reason against them, of models that have learned something."""
    return shared[shared["reason"].isna() & ~shared[["a", "b"]].isin(silent).any(axis=1)]


def same_surface(shared: pd.DataFrame) -> str:
    """Whether two trainings learn the same surface, in one sentence."""
    asked, rows = "Do two trainings learn the same surface?", shared[shared["kind"] == "trainings"]
    if rows.empty:
        return f"{asked} This study cannot tell: it has one training of each model."
    said = [
        _shared(
            row,
            "same surface",
            "{verdict} for {subject} (its {trainings} trainings share {}, by chance {chance:.1%})",
            relation=_verdict(row),
            verdict=capitalized(_verdict(row)) if place == 0 else _verdict(row),
            trainings=int(row["seeds_a"]),
        )
        for place, (_, row) in enumerate(rows.iterrows())
    ]
    return Sentence(f"{asked} {{}}.", said, "; ")


def _verdict(row: pd.Series) -> str:
    """Yes, no or cannot tell."""
    return "yes" if row["shared_mean_low"] >= SAME else "no" if row["shared_mean_high"] < SAME else "cannot tell"


def pair_sentences(shared: pd.DataFrame) -> list[Sentence]:
    """What pairs of equal dimension share: trainings, models, and models with PCA; and which of these share more."""
    said = []
    verdicts: dict[tuple[str, str, str], list[str]] = {}
    alike = shared[(shared["latent_dim_a"] == shared["latent_dim_b"]) & shared["kind"].isin(KINDS)]
    for k, rows in alike.groupby("latent_dim_a"):
        of_kind = {kind: part.sort_values("shared_mean") for kind in KINDS if len(part := rows[rows["kind"] == kind])}
        found = [
            _shared(
                row,
                f"share of {KINDS[kind]}",
                (f"{KINDS[kind]} share " if place == 0 else "to ")
                + ("{} ({subject})" if row["a"] == row["b"] else "{} ({subject} and {object})")
                + ("" if place == 0 and len(part) > 1 else ";"),
            )
            for kind, part in of_kind.items()
            for place, (_, row) in enumerate(part.iloc[[0, -1] if len(part) > 1 else [0]].iterrows())
        ]
        said.append(Sentence(f"At k = {k}, {{}} chance is {rows['chance'].mean():.1%}.", found, " "))
        for one, other in pairwise(of_kind):
            verdicts.setdefault((one, other, more(of_kind[one], of_kind[other])), []).append(str(k))
    for (one, other, verdict), dims in verdicts.items():
        words = (
            f"Whether {KINDS[one]} share more than {KINDS[other]} cannot be told at k = {{dims}}."
            if verdict == "cannot tell"
            else f"{KINDS[one].capitalize()} share {verdict} than {KINDS[other]} at k = {{dims}}."
        )
        compared = Finding(
            f"share of {KINDS[one]}",
            words,
            value=len(dims),
            unit="dimensions of the code",
            relation=verdict,
            object=KINDS[other],
            facts={"dims": ", ".join(dims)},
        )
        said.append(Sentence("{}", [compared]))
    return said


def more(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Whether each pair of one kind shares more than each of the other: more, less, or cannot tell."""
    if one["shared_mean_low"].min() > other["shared_mean_high"].max():
        return "more"
    return "less" if one["shared_mean_high"].max() < other["shared_mean_low"].min() else "cannot tell"


def epoch_sentences(epochs: pd.DataFrame) -> list[str]:
    """What trainings share with the finished model after the first kept epoch."""
    ordered = epochs.sort_values("epoch", kind="stable").groupby("model", sort=False)
    first = ordered.head(1)[ordered["epoch"].transform("nunique").loc[ordered.head(1).index] > 1]
    if first.empty:
        return []
    listed = [
        _shared(row.rename({"model": "a"}), "share after the first epoch", "{subject} {}")
        for _, row in first.iterrows()
    ]
    return [Sentence("After the first kept epoch a training shares with the finished model: {}.", listed)]


def _shared(row: pd.Series, kind: str, words: str, relation: str | None = None, **facts: Any) -> Finding:
    """What a pair shares; ``words`` hold it at ``{}``."""
    value, low, high = (float(row[f"shared_mean{end}"]) for end in ("", "_low", "_high"))
    known = pd.notna(low)
    words = words.replace("{}", "{value:.1%}" + (" [{low:.1%}, {high:.1%}]" if known else ""))
    other = str(row["b"]) if "b" in row else None
    facts |= {"chance": float(row["chance"])} if "chance" in row else {}
    least, most = (low, high) if known else (None, None)
    return Finding(kind, words, str(row["a"]), value, least, most, relation=relation, object=other, facts=facts)


def _table(shared: pd.DataFrame, caption: str) -> Table:
    percent, degrees, number = "{:.1%}".format, "{:.1f}".format, "{:.0f}".format
    columns: dict[str, tuple[str, Callable[[float], str] | None]] = {
        "a": ("a", None), "b": ("b", None), "latent_dim_a": ("k, a", number), "latent_dim_b": ("k, b", number),
        "shared_mean": ("share", percent), "shared_mean_low": ("from", percent), "shared_mean_high": ("to", percent),
        "chance": ("chance", percent), "smallest_deg": ("smallest angle", degrees),
        "median_deg": ("median angle", degrees), "largest_deg": ("largest angle", degrees), "reason": ("reason", None),
    }  # fmt: skip
    shown = [key for key in columns if key != "reason" or shared["reason"].notna().any()]
    frame = shared[shown].rename(columns={key: head for key, (head, _) in columns.items()})
    return table(frame, {head: form for head, form in columns.values() if form and head in frame}, caption)

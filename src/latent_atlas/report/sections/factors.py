"""The report on ground truth: how much of the true tangent spaces of known factors the models hold."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd

from latent_atlas.data.sources import SHAPES
from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged, scope
from latent_atlas.report.learned import left_out
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.statistics.factors import ALL
from latent_atlas.study.manifolds import compared, pca_manifolds
from latent_atlas.study.schema import Params

TITLE = "Known factors"


def section(results: Path, params: Params) -> Section | None:
    """The true directions against the tangent spaces; nothing where the factors of the images are not known."""
    if params.dataset.name != SHAPES:
        return None
    folder = results / "factors"
    summary, differences = read_table(folder / "summary.csv"), read_table(folder / "differences.csv")
    kept = summary[summary["model"].isin({*compared(params)} - left_out(results, params))]
    single, kinds = summary[summary["factor"] != ALL], read_table(folder / "by_class.csv")
    held = "Mean share of the true tangent space that is held"
    return Section(
        TITLE,
        sentences(kept, differences),
        [
            _table(
                summary, "factor", "share", "{:.3f}",
                f"Mean share of each true direction that is held, and of {ALL} the share of the true tangent space. "
                f"{scope(summary, pca_manifolds(params))}",
            ).of(folder / "summary.csv")
        ],
        [
            Picture(folder / "factors.svg", "Score of each true direction, and of the true tangent space.",
                alt=f"Points with intervals for {summary['model'].nunique()} models and {summary['factor'].nunique()} "
                f"directions; scores: {extremes(summary, 'score_mean', '{:.2f}'.format, 'model', 'factor')}."),
            Picture(
                folder / "directions.png",
                f"{params.tangents.example} and its derivative by each factor, scaled to one length; below, what each "
                f"tangent space holds of it, and the angle. Of each pixel the channel that changes most.",
                alt=f"{params.tangents.example} and {single['factor'].nunique()} derivatives in the first row; a row "
                f"for each of {len(compared(params))} models. Mean share that is held over the sample: "
                f"{extremes(single, 'share_mean', '{:.1%}'.format, 'model', 'factor')}.",
            ),
        ],
        folded_tables=[
            _table(kinds[kinds["factor"] == ALL], "label", "share", "{:.3f}", f"{held}, by kind").of(
                folder / "by_class.csv"
            ),
            _table(single, "factor", "angle_deg", "{:.1f}", "Mean angles to the true directions in degrees").of(
                folder / "summary.csv"
            ),
        ],
    )  # fmt: skip


def sentences(summary: pd.DataFrame, differences: pd.DataFrame) -> list[str]:
    """What is held of the true tangent space, which model holds more, and which factor each model holds least."""
    single, whole = summary[summary["factor"] != ALL], summary[summary["factor"] == ALL]
    said: list[str] = [
        f"The factors of these images are known. Their true tangent space is that of the derivatives by "
        f"{', '.join(single['factor'].drop_duplicates())}."
    ]
    if whole.empty:
        return said
    whole = whole.sort_values("score_mean", ascending=False, kind="stable")
    shares = [
        Finding.ranged(
            "share of the true tangent space",
            row,
            "share_mean",
            ".1%",
            "{subject} {}, chance {chance:.1%}",
            facts={"chance": float(row["chance_share"])},
        )
        for _, row in whole.iterrows()
    ]
    held = f"Over {whole['images'].max()} images, the mean share of it that a tangent space holds is: {{}}."
    said.append(Sentence(held, shares, "; "))
    verdicts = differences[differences["factor"] == ALL].set_index(["a", "b"])["verdict"]
    against = []
    for more, less in pairwise(whole["model"]):
        told = verdicts.get((more, less), verdicts.get((less, more))) != "cannot tell"
        words = "{subject} holds more than {object}" if told else "between {subject} and {object} one cannot tell"
        relation = "holds more" if told else "cannot tell"
        against.append(Finding("score of the true tangent space", words, more, relation=relation, object=less))
    if against:
        said.append(Sentence("Compared at the same images by the score: {}.", against, "; "))
    least: dict[str, list[str]] = {}
    for model, rows in single.groupby("model", sort=False):
        first, second = rows.sort_values("score_mean").iloc[:2].to_dict("records")
        told = first["score_mean_high"] < second["score_mean_low"]
        words = first["factor"] if told else f"{first['factor']} or {second['factor']}, one cannot tell which,"
        least.setdefault(words, []).append(str(model))
    listed = "; ".join(f"{words} by {', '.join(names)}" for words, names in least.items())
    return [*said, f"Held least is {listed}."]


def _table(summary: pd.DataFrame, by: str, value: str, form: str, caption: str) -> Table:
    """The mean of a column by model and another key, with its interval, and the mean chance level."""
    names, others = (list(summary[key].drop_duplicates()) for key in ("model", by))
    text = summary.assign(cell=[ranged(row, f"{value}_mean", form.format) for _, row in summary.iterrows()])
    wide = text.pivot(index="model", columns=by, values="cell").loc[names, others]
    wide["chance"] = summary.groupby("model")["chance_deg" if value == "angle_deg" else f"chance_{value}"].mean()
    return table(wide.reset_index(), {"chance": form.format}, caption)

"""The report on geodesics: what they gain against the line of codes, which are certified, what varies with the seed."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged
from latent_atlas.report.learned import left_out
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.study.schema import Params

TITLE = "Geodesics"
WORDS = {
    "code_distance": "the distance between codes",
    "line_length": "the length of the decoded line",
    "length": "the length of the geodesic",
}
NOTHING = 1e-3  # share of the length up to which nothing is gained
CAPTION = (
    "Geodesics between random pairs of test images: the shares that converged, that are shorter than the decoded line "
    "of codes, and that are reached from both starting paths; the length in the codes over the distance of the codes; "
    "medians, with 95% intervals, of the length over that of the line and over the distance of the ends"
)
VARIATION = (
    "Coefficients of variation between trainings, with 95% intervals over the pairs; scaled: after the distances of "
    "each training are divided by their mean"
)


CONVERGED = (
    "On {subject}, {value:.0%} of the polygons became stationary. There the path in the codes is {stretch:.1f} times "
    "as long as the distance between the codes (median). Lengths of the other polygons are upper bounds."
)
SAME = (
    "From the line of codes and from a path through codes of training images, the same energy was reached in "
    "{value:.0%} of the pairs on {subject}, and in no smaller share on any other model whose polygons all became "
    "stationary."
)


@dataclass(frozen=True)
class Findings:
    """What the geodesics of random pairs say of the models.

    Attributes
    ----------
    pairs : int
    most, least : (str, float, float, float)
        The models whose geodesics are the most and the least shorter than the lines: by what share, the median over the
        pairs, with its interval.
    unfinished : list of (str, float, float)
        Models with geodesics that did not converge: the share that did, and the length in the codes over the distance
        of the codes.
    same : (str, float)
        The model at which the fewest pairs have the same geodesic from both starting paths, and their share; of those
        whose geodesics all converged, if there are any.
    """

    pairs: int
    most: tuple[str, float, float, float]
    least: tuple[str, float, float, float]
    unfinished: list[tuple[str, float, float]]
    same: tuple[str, float]


@dataclass(frozen=True)
class Steadiest:
    """The distance that varies least between the trainings of a model.

    Attributes
    ----------
    model : str
    seeds : int
    quantity : str or None
        None where the intervals of the two least ones overlap.
    variation : (float, float, float)
        The least scaled coefficient of variation, with its interval.
    """

    model: str
    seeds: int
    quantity: str | None
    variation: tuple[float, float, float]


def section(results: Path, params: Params) -> Section:
    """Geodesics of random pairs and of the pairs of examples."""
    folder = results / "geodesics"
    summary, variation = (read_table(folder / f"{name}.csv") for name in ("summary", "variation"))
    ends, said = read_table(folder / "pairs.csv"), list[str]()
    learned = summary[summary["model"].isin(set(params.models) - left_out(results, params))]
    if len(learned):
        said += sentences(findings(learned))
    said += [steadiest_sentence(found) for found in steadiest(variation)] or [
        "Which of the distances varies least between trainings cannot be told from one training of each model."
    ]
    once = "" if summary["seeds"].max() > 1 else "; the variation between trainings is not in the intervals"
    tables = [_table(summary, CAPTION + once).of(folder / "summary.csv")]
    if len(variation):
        shown = table(variation, dict.fromkeys(variation.columns[4:], "{:.3f}".format), VARIATION)
        tables.append(shown.of(folder / "variation.csv"))
    pictures = [
        Picture(
            folder / "gains.svg",
            "Boxes hold the middle half of the pairs, whiskers nine tenths.",
            alt=f"Boxes of {summary['model'].nunique()} models. Median length of the geodesic over that of "
            f"the line: {extremes(summary, 'ratio_to_line_median', '{:.3f}'.format, 'model')}.",
        )
    ]
    pictures += [
        Picture(folder / f"{pair}.png", f"From {start} to {end}: points of the line of codes at equal steps, and "
                   "the nodes of the geodesic's polygon.", wide=False,
                alt=f"Rows of images that turn {start} into {end}, two rows a manifold. Length over that of the line: "
                f"{extremes(ends[ends['pair'] == pair], 'ratio_to_line', '{:.3f}'.format, 'manifold')}.")
        for pair, (start, end) in params.interpolate.pairs.items()
    ]  # fmt: skip
    return Section(TITLE, said, tables, pictures)


def _table(summary: pd.DataFrame, caption: str) -> Table:
    share, number, short = "{:.0%}".format, "{:.0f}".format, "{:.3f}".format
    columns = {
        "latent_dim": ("k", number), "pairs": ("pairs", number), "converged": ("converged", share),
        "shorter": ("shorter", share), "same": ("same from both", share), "stretch_of_codes": ("in codes", short),
    }  # fmt: skip
    frame = summary[["model", *columns]].rename(columns={key: head for key, (head, _) in columns.items()})
    for head, key in (("over the line", "ratio_to_line_median"), ("over the distance", "ratio_to_chord_median")):
        frame[head] = [ranged(row, key, short) for _, row in summary.iterrows()]
    return table(frame, dict(columns.values()), caption)


def findings(summary: pd.DataFrame) -> Findings:
    """The models with the largest and smallest gain, and what is not certain, of a summary with at least one row."""
    gains = []
    for _, row in summary.iterrows():
        gain, low, high = (1 - float(row[f"ratio_to_line_median{end}"]) for end in ("", "_high", "_low"))
        gains.append((str(row["model"]), gain, low, high))
    rows = summary[summary["converged"] < 1]
    certain = summary[summary["converged"] == 1] if (summary["converged"] == 1).any() else summary
    same = certain.loc[certain["same"].idxmin()]
    return Findings(
        int(summary["pairs"].max()),
        max(gains, key=itemgetter(1)),
        min(gains, key=itemgetter(1)),
        list(rows[["model", "converged", "stretch_of_codes"]].itertuples(index=False, name=None)),
        (str(same["model"]), float(same["same"])),
    )


def sentences(found: Findings) -> list[Sentence]:
    """The findings in words."""
    start, alone = f"Over {found.pairs} pairs of images, the geodesic is ", found.most[0] == found.least[0]
    words = f"{start}shorter than the decoded line of codes {{}}{'' if alone else '; the other models lie between'}."
    gains = [_gain(one) for one in ([found.most] if alone else [found.most, found.least])]
    return [
        Sentence(f"{start}as long as the decoded line of codes on all models: nothing is gained.")
        if found.most[1] < NOTHING
        else Sentence(words, gains, " and "),
        *(
            Sentence("{}", [Finding("converged geodesics", CONVERGED, model, share, facts={"stretch": stretch})])
            for model, share, stretch in found.unfinished
        ),
        Sentence("{}", [Finding("same geodesic from both starts", SAME, *found.same)]),
    ]


def _gain(found: tuple[str, float, float, float]) -> Finding:
    interval = "" if pd.isna(found[2]) else "; 95% interval {low:.1%} to {high:.1%}"  # a few pairs have none
    words = f"by {{value:.1%}} (median{interval}) on {{subject}}"
    return Finding("geodesic shorter than the line", words, *found)


def steadiest(variation: pd.DataFrame) -> list[Steadiest]:
    """The distance with the least scaled coefficient of variation of each model; none where there is one training."""
    found = []
    for model, rows in variation.groupby("model", sort=False):
        first, second = (row for _, row in rows.sort_values("scaled").head(2).iterrows())
        quantity = str(first["quantity"]) if first["scaled_high"] < second["scaled_low"] else None
        value, low, high = (float(first[f"scaled{ending}"]) for ending in ("", "_low", "_high"))
        found.append(Steadiest(str(model), int(first["seeds"]), quantity, (value, low, high)))
    return found


def steadiest_sentence(found: Steadiest) -> str:
    """What varies least between the trainings of a model, in words."""
    start = f"Between the {found.seeds} trainings of {found.model}"
    if found.quantity is None:
        return f"{start}, it cannot be told which of the distances varies least."
    value, low, high = found.variation
    words = (
        f"{start}, {WORDS[found.quantity]} varies least: its coefficient of variation, without the scale of each "
        "training, is {value:.3f} (95% interval over the pairs: {low:.3f} to {high:.3f})."
    )
    return Sentence("{}", [Finding("coefficient of variation", words, found.model, value, low, high)])

"""The report on invariance angles: which displacements lie in each tangent space, against chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged, scope, tied
from latent_atlas.report.learned import left_out
from latent_atlas.report.maps import heat_map
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.report.plots import angles_by_step
from latent_atlas.statistics.headline import BY_CONSTRUCTION
from latent_atlas.study.manifolds import compared, groups, pca_manifolds, trained
from latent_atlas.study.schema import Params

TITLE = "Invariance angles"


def section(results: Path, params: Params) -> Section:
    """Angles between small displacements of images and the tangent spaces."""
    folder = results / "invariance"
    steps = read_table(folder / "steps.csv")
    sample = read_table(folder / "summary.csv")
    silent = left_out(results, params)
    told = [name for name in compared(params) if name not in silent]
    first, *others = params.invariance.pictures or list(params.examples)
    said = [
        "A transformation changes an image by a displacement. At an angle of 0° the displacement lies in the tangent "
        "space; at 90° it is orthogonal to it. A random subspace of the same rank is already closer than 90°. That "
        "chance level falls with the rank. The score compares manifolds of different rank: 0 is chance, 1 is an angle "
        "of 0°.",
        *sample_sentences(sample[sample["model"].isin(told)], read_table(folder / "differences.csv"), params),
        *step_sentences(step_findings(steps)),
    ]
    examples = read_table(folder / "examples.csv")
    said += limit_sentences(examples)
    degrees, names = "{:.1f}°".format, ("manifold", "transformation")

    def angles_at(example: str) -> Picture:
        rows = examples[examples["example"] == example]
        alt = (
            f"Heat map of {rows['model'].nunique()} models by {rows['transformation'].nunique()} transformations, the "
            f"last column chance. Angles: {extremes(rows, 'angle_deg', degrees, *names)}."
        )
        chance = rows.assign(transformation="chance", angle_deg=rows["chance_deg"])
        means = pd.concat([rows, chance]).groupby(["model", "transformation"], sort=False)["angle_deg"].mean()
        plot = heat_map(means.reset_index(), "transformation", "angle_deg", "angle (degrees)", 90, reverse=True)
        return Picture(folder / f"angles_{example}.svg", f"Angles at {example}.", alt=alt, plots=(plot.to_dict(),))

    shown = [angles_at(example) for example in (first, *others)]
    if trained(params):
        epochs = read_table(folder / "epochs.csv")
        said += epoch_sentences(*epoch_findings(epochs[~epochs["model"].isin(silent)]))
        last = epochs[epochs["epoch"] == epochs.groupby("manifold")["epoch"].transform("max")]
        alt = (
            f"Points of {epochs['manifold'].nunique()} trainings, one for each epoch, a panel for each of "
            f"{epochs['transformation'].nunique()} transformations. Angles at the end: "
            f"{extremes(last, 'angle_deg', degrees, *names)}."
        )
        shown.append(Picture(folder / "epochs.svg", "Angle and test error in the course of each training.", alt=alt))
    charts = angles_by_step(steps, groups(params))
    shown.append(
        Picture(
            folder / "steps.svg",
            "Angle against the size of the step; diamonds: the derivative.",
            plots=tuple(chart.to_dict() for chart in charts.values()),
            alt=f"Curves of {steps['model'].nunique()} models over steps up to {steps['step'].max():g}. "
            f"Angles: {extremes(steps, 'angle_deg', degrees, *names)}.",
        )
    )
    kinds = list(params.invariance.transformations)
    folded = [
        Picture(
            folder / "displacements" / example / f"{kind}.png",
            f"{kind} of {example}: tangential and normal components on each manifold.",
            wide=False,
            alt=f"A row for each manifold: {example}, its displacement by {kind}, and the two components in "
            f"red and blue. Angles: {extremes(_at(examples, example, kind), 'angle_deg', degrees, 'manifold')}.",
        )
        for example in params.invariance.pictures
        for kind in kinds
    ]
    folded += [angles_at(example) for example in params.examples if example not in (first, *others)]
    angles, scores = (one.of(folder / "summary.csv") for one in (_sample_table(sample, params), _score_table(sample)))
    return Section(TITLE, said, [angles], shown, folded, folded_tables=[scores])


def _at(examples: pd.DataFrame, example: str, kind: str) -> pd.DataFrame:
    return examples[(examples["example"] == example) & (examples["transformation"] == kind)]


def limit_sentences(examples: pd.DataFrame) -> list[str]:
    """Of which models angles are limits only."""
    if "products" not in examples or examples["products"].isna().all():
        return []
    models = ", ".join(examples.loc[examples["products"].notna(), "model"].drop_duplicates())
    return [
        f"Angles of {models} are upper limits, and shares and scores lower limits: there are too many coordinates to "
        "measure all directions. No difference from another model is told of them."
    ]


def sample_sentences(sample: pd.DataFrame, differences: pd.DataFrame, params: Params) -> list[str]:
    """The best model of each transformation over the sample by the mean score, and what cannot be told from it."""
    counted = sample[~sample["transformation"].isin(BY_CONSTRUCTION)].dropna(subset=["score_mean"])
    if counted.empty:
        return []
    listed = []
    for kind, rows in counted.groupby("transformation", sort=False):
        best = rows.loc[rows["score_mean"].idxmax()]
        alike = tied(differences[differences["transformation"] == kind], best["model"], rows["model"])
        listed.append(
            Finding.ranged(
                "highest score",
                best,
                "score_mean",
                ".2f",
                "{transformation}: {subject}, {}" + (", not told from {object}" if alike else ""),
                relation="cannot tell" if alike else "best",
                object=", ".join(alike) or None,
                facts={"transformation": str(kind)},
            )
        )
    return [
        Sentence(
            f"Over {sample['images'].max()} images of the {params.sample.split} split, the highest mean score is, for "
            f"each transformation, {{}}. {scope(sample, pca_manifolds(params))}.",
            listed,
            "; ",
        )
    ]


def _sample_table(sample: pd.DataFrame, params: Params) -> Table:
    """Mean angle of each manifold and transformation over the sample, and the mean chance level."""
    names = list(sample["model"].drop_duplicates())
    kinds = list(sample["transformation"].drop_duplicates())
    wide = sample.pivot(index="model", columns="transformation", values="angle_deg_mean").loc[names, kinds]
    wide["chance"] = sample.drop_duplicates("model").set_index("model")["chance_deg"]
    caption = (
        f"Mean angles in degrees over {sample['images'].max()} images of the {params.sample.split} split. A linear "
        f"subspace through zero holds a change of brightness by construction, so that neither brightness nor the "
        f"uncentred variants of PCA, which are kept for comparison with the reference study, count in the sentences"
    )
    return table(wide.reset_index(), dict.fromkeys([*kinds, "chance"], "{:.1f}".format), caption)


def _score_table(sample: pd.DataFrame) -> Table:
    """Mean score of each model and transformation with its interval."""
    names, kinds = list(sample["model"].drop_duplicates()), list(sample["transformation"].drop_duplicates())
    cells = sample.assign(said=[ranged(row, "score_mean", "{:.2f}".format) for _, row in sample.iterrows()])
    wide = cells.pivot(index="model", columns="transformation", values="said").loc[names, kinds].reset_index()
    return table(wide, {}, "Mean scores with 95% intervals: 0 is chance, 1 is an angle of 0°")


@dataclass(frozen=True)
class StepFindings:
    """How far angles of finite steps are from those of the derivative, in degrees.

    Attributes
    ----------
    median, largest : float
        Of the differences at a step of 1.
    transformation, manifold : str
        Where the largest one is.
    smallest_step, rest : float
        The smallest step, and the median difference there; NaN where there is none.
    """

    median: float
    largest: float
    transformation: str
    manifold: str
    smallest_step: float
    rest: float


def step_findings(steps: pd.DataFrame) -> StepFindings | None:
    """What the table of angles by step says; nothing where it has no step of 1 or no derivative."""
    smallest = steps.loc[steps["step"] > 0, "step"].min()
    limit, one, least = (
        steps[steps["step"] == step].set_index(["manifold", "transformation"])["angle_deg"] for step in (0, 1, smallest)
    )
    gap = (one - limit).abs().dropna()
    if gap.empty:
        return None
    manifold, kind = gap.idxmax()
    return StepFindings(gap.median(), gap.max(), kind, manifold, smallest, (least - limit).abs().median())


def step_sentences(found: StepFindings | None) -> list[str]:
    """The findings in words."""
    if found is None:
        return []
    said = [
        Finding(
            "chord against tangent",
            "its angle differs from that of the derivative by {value:.1f}° in the median and by up to {largest:.1f}° "
            "({transformation}, {subject}).",
            subject=found.manifold,
            value=found.median,
            unit="degrees",
            facts={"largest": found.largest, "transformation": found.transformation, "step": 1},
        )
    ]
    if found.rest > 1:
        said.append(
            Finding(
                "chord against tangent",
                "A small step does not give the tangent either: at {step:g} the median difference is {value:.1f}°. "
                "These transformations move black pixels in over the edge, however small the step is.",
                value=found.rest,
                unit="degrees",
                facts={"step": found.smallest_step},
            )
        )
    return [Sentence("A step of 1 is a chord, not a tangent: {}", said, " ")]


def epoch_findings(epochs: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The cases in which an angle fell together with the test error, and how many cases there are.

    A case is a model and a transformation; its first epoch is compared with its last.

    Returns
    -------
    DataFrame
        By manifold and transformation: ``angle_deg``, ``test_mse`` of the last epoch and, with the suffix ``_first``,
        of the first; the largest fall first.
    int
    """
    ordered = epochs.dropna(subset=["angle_deg"]).sort_values("epoch", kind="stable")
    both = ordered.groupby(["manifold", "transformation"], sort=False)[["epoch", "angle_deg", "test_mse"]]
    cases = both.last().join(both.first().add_suffix("_first"))
    cases = cases[cases["epoch_first"] < cases["epoch"]]
    fall = cases["angle_deg_first"] - cases["angle_deg"]
    fell = cases[(fall > 0) & (cases["test_mse"] < cases["test_mse_first"])]
    return fell.loc[fall[fell.index].sort_values(ascending=False, kind="stable").index], len(cases)


def epoch_sentences(fell: pd.DataFrame, cases: int) -> list[str]:
    """The findings in words."""
    if not cases:
        return []
    said = [
        Finding(
            "angle falls with the error",
            "in {value} of {cases} cases (models × transformations)",
            value=len(fell),
            unit="cases",
            facts={"cases": cases},
        )
    ]
    if len(fell):
        (manifold, kind), most = fell.index[0], fell.iloc[0]
        said.append(
            Finding(
                "largest fall of the angle",
                "most for {subject} and {transformation}: from {first:.1f}° to {value:.1f}° while the error fell from "
                "{error_first:.4f} to {error:.4f}",
                subject=manifold,
                value=float(most["angle_deg"]),
                unit="degrees",
                facts={
                    "transformation": kind,
                    "first": float(most["angle_deg_first"]),
                    "error_first": float(most["test_mse_first"]),
                    "error": float(most["test_mse"]),
                },
            )
        )
    words = "From the first kept epoch to the last, the angle fell together with the test error {}."
    return [Sentence(words, said, "; ")]

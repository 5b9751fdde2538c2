"""The report on invariance angles: which displacements lie in each tangent space, against chance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report import published
from latent_atlas.report.learned import unlearned
from latent_atlas.report.page import Picture, Section, table
from latent_atlas.study.manifolds import pca_manifolds, trained
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """Angles between small displacements of images and the tangent spaces."""
    folder = results / "invariance"
    angles = pd.read_csv(folder / "examples.csv")
    steps = pd.read_csv(folder / "steps.csv")
    sample = pd.read_csv(folder / "summary.csv")
    left_out = [case.model for case in unlearned(results, params)]
    first, *others = params.invariance.pictures or list(params.examples)
    said = [
        "A transformation changes an image by a displacement. At an angle of 0° the displacement lies in the tangent "
        "space; at 90° it is orthogonal to it. A random subspace of the same rank is already closer than 90°. That "
        "chance level falls with the rank. The score compares manifolds of different rank: 0 is chance, 1 is an angle "
        "of 0°.",
        *sample_sentences(sample[~sample["manifold"].isin(left_out)], params),
        *best_known(angles[(angles["example"] == first) & ~angles["manifold"].isin(left_out)], first),
        *step_sentences(steps),
    ]
    shown = [Picture.of(folder / f"angles_{example}.svg", f"Angles at {example}.") for example in (first, *others)]
    if trained(params):
        epochs = pd.read_csv(folder / "epochs.csv")
        said += epoch_sentences(epochs[~epochs["manifold"].isin(left_out)])
        shown.append(Picture.of(folder / "epochs.svg", "Angle and test error after each epoch of each training."))
    shown.append(Picture.of(folder / "steps.svg", "Angle against the size of the step; diamonds: the derivative."))
    kinds = list(params.invariance.transformations)
    folded = [
        Picture.of(
            folder / "displacements" / example / f"{kind}.png",
            f"{kind} of {example}: tangential and normal components on each manifold.",
            wide=False,
        )
        for example in params.invariance.pictures
        for kind in kinds
    ]
    folded += [
        Picture.of(folder / f"angles_{example}.svg", f"Angles at {example}.")
        for example in params.examples
        if example not in (first, *others)
    ]
    beside = published_table(angles, params)
    return Section(
        "Invariance angles", said, [_sample_table(sample, params), *([beside] if beside else [])], shown, folded
    )


def sample_sentences(sample: pd.DataFrame, params: Params) -> list[str]:
    """The best manifold of each transformation over the sample, by the mean score."""
    best = sample.dropna(subset=["score_mean"])
    if best.empty:
        return []
    best = best.loc[best.groupby("transformation", sort=False)["score_mean"].idxmax()]
    listed = ", ".join(
        f"{row['transformation']}: {row['manifold']} ({row['score_mean']:.2f})" for _, row in best.iterrows()
    )
    return [
        f"Over {params.sample.size} images of the {params.sample.split} split, the highest mean score for each "
        f"transformation is {listed}."
    ]


def _sample_table(sample: pd.DataFrame, params: Params) -> str:
    """Mean angle of each manifold and transformation over the sample, and the mean chance level."""
    names = list(sample["manifold"].drop_duplicates())
    kinds = list(sample["transformation"].drop_duplicates())
    wide = sample.pivot(index="manifold", columns="transformation", values="angle_deg_mean").loc[names, kinds]
    wide["chance"] = sample.drop_duplicates("manifold").set_index("manifold")["chance_deg"]
    caption = f"Mean angles in degrees over {params.sample.size} images of the {params.sample.split} split"
    return table(wide.reset_index(), dict.fromkeys([*kinds, "chance"], "{:.1f}".format), caption)


def best_known(angles: pd.DataFrame, example: str) -> list[str]:
    """Which manifold is best for each transformation against chance, and which transformation for each manifold."""
    gain = angles.assign(gain=angles["chance_deg"] - angles["angle_deg"]).dropna(subset=["gain"])
    by_kind = gain.loc[gain.groupby("transformation", sort=False)["gain"].idxmax()]
    winners = ", ".join(
        f"{row['transformation']} by {row['manifold']} ({row['angle_deg']:.1f}°, "
        f"{abs(row['gain']):.1f}° {'below' if row['gain'] >= 0 else 'above'} chance)"
        for _, row in by_kind.iterrows()
    )
    by_manifold = gain.loc[gain.groupby("manifold", sort=False)["gain"].idxmax()]
    favourites: dict[str, list[str]] = {}
    for _, row in by_manifold.iterrows():
        favourites.setdefault(row["transformation"], []).append(row["manifold"])
    listed = "; ".join(f"{kind} for {', '.join(names)}" for kind, names in favourites.items())
    return [
        f"At {example}, the manifold with the smallest angle against chance is, for each transformation: {winners}.",
        f"The transformation with the smallest angle against chance: {listed}.",
    ]


def step_sentences(steps: pd.DataFrame) -> list[str]:
    """How far the angle of the largest whole step is from that of the derivative."""
    one = steps[steps["step"] == 1].set_index(["manifold", "transformation"])["angle_deg"]
    limit = steps[steps["step"] == 0].set_index(["manifold", "transformation"])["angle_deg"]
    gap = (one - limit).dropna()
    if gap.empty:
        return []
    (manifold, kind), largest = gap.abs().idxmax(), gap.abs().max()
    said = (
        f"A step of 1 is a chord, not a tangent: its angle differs from that of the derivative by "
        f"{gap.abs().median():.1f}° in the median and by up to {largest:.1f}° ({kind}, {manifold})."
    )
    smallest = steps.loc[steps["step"] > 0, "step"].min()
    least = steps[steps["step"] == smallest].set_index(["manifold", "transformation"])["angle_deg"]
    rest = (least - limit).abs().dropna()
    if len(rest) and rest.median() > 1:
        said += (
            f" Nor does a small step give the tangent: at {smallest:g} the median difference is {rest.median():.1f}°, "
            f"for these transformations let black in over the edge at once, however small the step."
        )
    return [said]


def epoch_sentences(epochs: pd.DataFrame) -> list[str]:
    """Whether angles fall as the test error falls, from the first epoch of each training to its last."""
    cases = epochs.dropna(subset=["angle_deg"]).sort_values("epoch", kind="stable")
    both = cases.groupby(["manifold", "transformation"], sort=False)
    first, last = both.first(), both.last()
    longer = first["epoch"] < last["epoch"]
    first, last = first[longer], last[longer]
    if first.empty:
        return []
    change = last["angle_deg"] - first["angle_deg"]
    falls = change[(change < 0) & (last["test_mse"] < first["test_mse"])]
    said = (
        f"From the first epoch to the last, the angle fell together with the test error in {len(falls)} of "
        f"{len(change)} cases (models × transformations)"
    )
    if len(falls):
        manifold, kind = case = falls.idxmin()
        before, after = first.loc[case], last.loc[case]
        said += (
            f"; most for {manifold} and {kind}: from {before['angle_deg']:.1f}° to {after['angle_deg']:.1f}° "
            f"while the error fell from {before['test_mse']:.4f} to {after['test_mse']:.4f}"
        )
    return [said + "."]


def published_table(angles: pd.DataFrame, params: Params) -> str | None:
    """This run's angles beside the published ones, where both are of the same thing."""
    if not published.comparable(params):
        return None
    here = angles[angles["example"] == published.EXAMPLE].set_index(["manifold", "transformation"])
    moves = params.invariance.transformations
    kinds = [
        name
        for name, step in published.STEPS.items()
        if name in moves and moves[name].step == step and moves[name].function in (None, name)
    ]
    rows = []
    for manifold, known in published.ANGLES_DEG.items():
        if manifold in pca_manifolds(params) or published.same_model(params, manifold):
            row: dict[str, object] = {"manifold": manifold}
            for kind in kinds:
                row[kind] = here.loc[(manifold, kind), "angle_deg"]
                row[f"{kind}, published"] = known[kind]
            row["chance"] = here.loc[(manifold, kinds[0]), "chance_deg"] if kinds else None
            rows.append(row)
    if not rows or not kinds:
        return None
    frame = pd.DataFrame(rows)
    formats = {column: "{:.2f}".format for column in frame.columns if column != "manifold"}
    caption = (
        f"Angles at {published.EXAMPLE} in degrees, beside the reference study's. PCA's do not depend on a training "
        f"and must agree; the autoencoders are trained anew"
    )
    return table(frame, formats, caption)

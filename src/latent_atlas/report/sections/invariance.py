"""The report on invariance angles: which motions each surface contains, against chance."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report import published
from latent_atlas.report.page import Picture, Section, table
from latent_atlas.stages.tables import numeric_angles
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """Angles between small motions of the probes and the tangent spaces."""
    folder = results / "invariance"
    angles = numeric_angles(pd.read_csv(folder / "probe_angles.csv"))
    steps = numeric_angles(pd.read_csv(folder / "step_angles.csv"))
    first, *others = params.invariance.pictures or list(params.probes)
    said = [
        "An angle of 0° means that the surface contains the motion, 90° that it knows nothing of it. A random "
        "subspace of the same dimension already comes closer than 90°, the more so the larger k: only the "
        "difference from that chance level compares surfaces of different dimension.",
        *best_known(angles[angles["probe"] == first], first),
        *step_sentences(steps),
    ]
    shown = [Picture.of(folder / f"angles_{probe}.svg", f"Angles at {probe}.") for probe in (first, *others)]
    if params.trained:
        epochs = numeric_angles(pd.read_csv(folder / "epoch_angles.csv"))
        said += epoch_sentences(epochs)
        shown.append(Picture.of(folder / "epoch_angles.svg", "Angle and test error after each epoch of each training."))
    shown.append(
        Picture.of(folder / "step_angles.svg", "Angle against the size of the step; diamonds: the derivative.")
    )
    motions = list(params.invariance.transformations)
    folded = [
        Picture.of(
            folder / f"motion_{probe}_{motion}.png", f"{motion} of {probe}, split by each tangent space.", wide=False
        )
        for probe in params.invariance.pictures
        for motion in motions
    ]
    folded += [
        Picture.of(folder / f"angles_{probe}.svg", f"Angles at {probe}.")
        for probe in params.probes
        if probe not in (first, *others)
    ]
    beside = published_table(angles, params)
    return Section("Invariance angles", said, [beside] if beside else [], shown, folded)


def best_known(angles: pd.DataFrame, probe: str) -> list[str]:
    """Which motion each manifold knows best against chance, and which manifold each motion."""
    gain = angles.assign(gain=angles["random_subspace_deg"] - angles["angle_deg"]).dropna(subset=["gain"])
    by_motion = gain.loc[gain.groupby("transformation", sort=False)["gain"].idxmax()]
    winners = ", ".join(
        f"{row['transformation']} by {row['manifold']} ({row['angle_deg']:.1f}°, "
        f"{abs(row['gain']):.1f}° {'below' if row['gain'] >= 0 else 'above'} chance)"
        for _, row in by_motion.iterrows()
    )
    by_manifold = gain.loc[gain.groupby("manifold", sort=False)["gain"].idxmax()]
    favourites: dict[str, list[str]] = {}
    for _, row in by_manifold.iterrows():
        favourites.setdefault(row["transformation"], []).append(row["manifold"])
    listed = "; ".join(f"{motion} for {', '.join(names)}" for motion, names in favourites.items())
    return [
        f"At {probe}, each motion is known best, against chance, as follows: {winners}.",
        f"The motion that each surface knows best against chance: {listed}.",
    ]


def step_sentences(steps: pd.DataFrame) -> list[str]:
    """How far the angle of the largest whole step is from that of the derivative."""
    one = steps[steps["step"] == 1].set_index(["manifold", "transformation"])["angle_deg"]
    limit = steps[steps["step"] == 0].set_index(["manifold", "transformation"])["angle_deg"]
    gap = (one - limit).dropna()
    if gap.empty:
        return []
    (manifold, motion), largest = gap.abs().idxmax(), gap.abs().max()
    said = (
        f"A step of 1 is a chord, not a tangent: its angle differs from that of the derivative by "
        f"{gap.abs().median():.1f}° in the median and by up to {largest:.1f}° ({motion}, {manifold})."
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
        f"{len(change)} cases (models × motions)"
    )
    if len(falls):
        manifold, motion = case = falls.idxmin()
        before, after = first.loc[case], last.loc[case]
        said += (
            f"; most for {manifold} and {motion}: from {before['angle_deg']:.1f}° to {after['angle_deg']:.1f}° "
            f"while the error fell from {before['test_mse']:.4f} to {after['test_mse']:.4f}"
        )
    return [said + "."]


def published_table(angles: pd.DataFrame, params: Params) -> str | None:
    """This run's angles beside the published ones, where both are of the same thing."""
    if not published.comparable(params):
        return None
    here = angles[angles["probe"] == published.PROBE].set_index(["manifold", "transformation"])
    moves = params.invariance.transformations
    motions = [
        name
        for name, step in published.STEPS.items()
        if name in moves and moves[name].step == step and moves[name].function in (None, name)
    ]
    rows = []
    for manifold, known in published.ANGLES_DEG.items():
        if manifold in params.pca_manifolds or published.same_model(params, manifold):
            row: dict[str, object] = {"manifold": manifold}
            for motion in motions:
                row[motion] = here.loc[(manifold, motion), "angle_deg"]
                row[f"{motion}, published"] = known[motion]
            row["random subspace"] = here.loc[(manifold, motions[0]), "random_subspace_deg"] if motions else None
            rows.append(row)
    if not rows or not motions:
        return None
    frame = pd.DataFrame(rows)
    formats = {column: "{:.2f}".format for column in frame.columns if column != "manifold"}
    caption = (
        f"Angles at {published.PROBE} in degrees, beside the reference study's. PCA's do not depend on a training and "
        f"must agree; the autoencoders are trained anew"
    )
    return table(frame, formats, caption)

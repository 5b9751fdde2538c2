"""The report on interpolations: how curved the paths are, and how far they are from the images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.learned import left_out
from latent_atlas.report.page import Picture, Section, extremes, table
from latent_atlas.study.schema import Params

TITLE = "Interpolation"
STRAIGHT = 1 + 1e-9  # length ratio up to which a path counts as straight


@dataclass(frozen=True)
class Findings:
    """What the paths between one pair of images say.

    Attributes
    ----------
    most_curved, ratio : str, float
        The manifold whose path is the longest for the distance between its ends, and that ratio.
    straight, paths : int
        How many paths are straight, of how many.
    nearest, farthest : (str, float)
        The manifolds whose paths' largest distance to the nearest training image is smallest and largest.
    """

    most_curved: str
    ratio: float
    straight: int
    paths: int
    nearest: tuple[str, float]
    farthest: tuple[str, float]


def section(results: Path, params: Params) -> Section:
    """Paths between pairs of images, and their lengths."""
    folder = results / "interpolate"
    summary = read_table(folder / "summary.csv")
    paths = read_table(folder / "paths.csv")
    silent = left_out(results, params)
    said, shown, folded = [], [], []
    for pair, (start, end) in params.interpolate.pairs.items():
        tables = (rows[(rows["pair"] == pair) & ~rows["model"].isin(silent)] for rows in (summary, paths))
        said.append(sentence(findings(*tables), f"{start} to {end}"))
        rows, near = (rows[rows["pair"] == pair] for rows in (summary, paths))
        column = "distance_to_nearest_training_image"
        largest = near.groupby("manifold", sort=False)[column].max().reset_index()
        far = extremes(largest, column, "{:.2f}".format, "manifold")
        shown.append(
            Picture(
                folder / f"{pair}.png",
                f"From {start} to {end}, both ends included.",
                wide=False,
                alt=f"Rows of images that turn {start} into {end}, one a manifold. Length of the path over "
                f"the distance of its ends: {extremes(rows, 'length_ratio', '{:.2f}'.format, 'manifold')}.",
            )
        )
        folded.append(Picture(folder / f"{pair}_curves.svg", f"Speed along the paths from {start} to {end}, and "
                                 "their distance to the nearest training image.",
                                 alt=f"Two plots of curves of {near['manifold'].nunique()} manifolds along the path. "
                                 f"Largest distance to a training image: {far}."))  # fmt: skip
    wide = summary.pivot(index="manifold", columns="pair", values="length_ratio")
    names = list(summary["manifold"].drop_duplicates())
    frame = wide.loc[names, list(params.interpolate.pairs)].reset_index()
    formats = dict.fromkeys(params.interpolate.pairs, "{:.3f}".format)
    caption = "Length of the decoded path over the distance between its ends: 1 is straight"
    return Section(TITLE, said, [table(frame, formats, caption).of(folder / "summary.csv")], shown, folded)


def findings(summary: pd.DataFrame, paths: pd.DataFrame) -> Findings:
    """Which path is the most curved, and which is closest to the training images, of one pair."""
    ratios = summary.dropna(subset=["length_ratio"]).set_index("manifold")["length_ratio"]  # a point has none
    largest = paths.groupby("manifold", sort=False)["distance_to_nearest_training_image"].max()
    near, far = largest.idxmin(), largest.idxmax()
    return Findings(
        str(ratios.idxmax()),
        float(ratios.max()),
        int((ratios < STRAIGHT).sum()),
        len(ratios),
        (str(near), float(largest[near])),
        (str(far), float(largest[far])),
    )


def sentence(found: Findings, words: str) -> str:
    """The findings of one pair in words."""
    listed = []
    if found.ratio < STRAIGHT:
        said = f"From {words}, all paths are straight. {{}}"
    else:
        said = f"From {words}, {{}}"
        curved = (
            "the path of {subject} is the most curved: its length is {value:.2f} times the distance between its ends. "
            "{straight} of {paths} paths are straight."
        )
        facts = {"straight": found.straight, "paths": found.paths}
        listed.append(Finding("length over distance", curved, found.most_curved, found.ratio, facts=facts))
    near = (
        "The path of {subject} stays closest to the training images: its largest distance to the nearest one is "
        "{value:.2f}."
    )
    far = "The largest of all is {value:.2f}, of {subject} (in units of one pixel's range)."
    for kind, text, (name, distance) in (("smallest", near, found.nearest), ("largest", far, found.farthest)):
        listed.append(Finding(f"{kind} distance to training images", text, name, distance, unit="pixel ranges"))
    return Sentence(said, listed, " ")

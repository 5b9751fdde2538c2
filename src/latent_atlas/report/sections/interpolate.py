"""The report on interpolations: how curved the walks are, and how far they stray from the images."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report.page import Picture, Section, table
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """Walks between pairs of images, and their lengths."""
    folder = results / "interpolate"
    summary = pd.read_csv(folder / "summary.csv")
    paths = pd.read_csv(folder / "paths.csv")
    said, shown, folded = [], [], []
    for pair, (start, end) in params.interpolate.pairs.items():
        said += sentences(summary[summary["pair"] == pair], paths[paths["pair"] == pair], f"{start} to {end}")
        shown.append(Picture.of(folder / f"{pair}.png", f"From {start} to {end}, both ends included.", wide=False))
        folded.append(Picture.of(folder / f"{pair}_curves.svg", f"Speed of the walks from {start} to {end}, and how "
                                 "far they are from the nearest training image."))  # fmt: skip
    wide = summary.pivot(index="manifold", columns="pair", values="length_ratio")
    names = list(summary["manifold"].drop_duplicates())
    frame = wide.loc[names, list(params.interpolate.pairs)].reset_index()
    formats = dict.fromkeys(params.interpolate.pairs, "{:.3f}".format)
    caption = "Length of the decoded walk over the straight distance between its ends: 1 is straight"
    return Section("Interpolation", said, [table(frame, formats, caption)], shown, folded)


def sentences(summary: pd.DataFrame, paths: pd.DataFrame, words: str) -> list[str]:
    """Which walk is the most curved, and which stays closest to the training images on its way."""
    summary = summary.dropna(subset=["length_ratio"])  # it has none where a surface is a single point
    most = summary.loc[summary["length_ratio"].idxmax()]
    straight = summary[summary["length_ratio"] < 1 + 1e-9]
    said = (
        f"From {words}, {most['manifold']} takes the most curved way: "
        f"{most['length_ratio']:.2f} times the straight distance between its ends."
        if most["length_ratio"] > 1 + 1e-9
        else f"From {words}, all walks are straight."
    )
    if 0 < len(straight) < len(summary):
        said += f" {len(straight)} of {len(summary)} walks are straight, those of flat surfaces."
    strays = paths.groupby("manifold", sort=False)["distance_to_nearest_training_image"].max()
    said += (
        f" On its way {strays.idxmin()} never is farther than {strays.min():.2f} from the nearest training image; "
        f"{strays.idxmax()} strays farthest, to {strays.max():.2f} (in units of one pixel's range)."
    )
    return [said]

"""The report on reconstructions: which manifold comes closest to images that it was not fitted to."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from latent_atlas.files import read_table
from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.intervals import ranged, scope
from latent_atlas.report.learned import left_out, unlearned
from latent_atlas.report.page import Picture, Section, Table, extremes, table
from latent_atlas.study.manifolds import groups, pca_manifolds, trained
from latent_atlas.study.schema import Params

TITLE = "Reconstruction"
SPLITS = {"test": "Test", "train": "Training"}


def section(results: Path, params: Params) -> Section:
    """Errors of all manifolds on both splits, and their reconstructions side by side."""
    folder = results / "reconstruct"
    errors = read_table(folder / "summary.csv")
    sample = read_table(folder / "sample.csv")
    linear = pca_manifolds(params)
    told = sample[~sample["model"].isin(left_out(results, params))]

    def compared_in_words(split: str) -> str:
        rows = errors[errors["split"] == split]
        error = extremes(rows, "mse", "{:.5f}".format, "manifold")
        return (
            f"A row of originals, and rows of {len(rows)} manifolds with the differences. Mean squared error: {error}."
        )

    return Section(
        TITLE,
        warnings=[str(case) for case in unlearned(results, params)],
        sentences=[
            *sentences(findings(told, read_table(folder / "differences.csv"), linear)),
            *gap_sentences(told[~told["model"].isin(linear)], params.sample.split),
            *imported_sentences([name for name in params.models if name not in trained(params)]),
        ],
        tables=[
            _table(errors).of(folder / "summary.csv"),
            _gap_table(sample, scope(sample, linear)).of(folder / "sample.csv"),
        ],
        pictures=[
            Picture(
                folder / "test_comparison.png",
                "The first test images by every manifold; on the right what each one gets wrong, all on one scale.",
                alt=compared_in_words("test"),
            )
        ],
        folded=[
            Picture(
                folder / f"{split}_images.png",
                f"{words} images, the originals.",
                wide=False,
                alt=f"A square grid of images of {params.dataset.name or 'the dataset'} from the {split} split.",
            )
            for split, words in SPLITS.items()
        ]
        + [
            Picture(
                folder / f"{split}_{group}.png",
                f"{words} images reconstructed by {', '.join(names)}.",
                alt=f"Square grids of the same images, one for each manifold; mean squared error: "
                f"{extremes(_in(errors, split, names), 'mse', '{:.5f}'.format, 'manifold')}.",
            )
            for split, words in SPLITS.items()
            for group, names in groups(params).items()
        ]
        + [
            Picture(
                folder / "train_comparison.png",
                "The first training images by every manifold.",
                alt=compared_in_words("train"),
            )
        ],
    )


def _in(errors: pd.DataFrame, split: str, models: Collection[str]) -> pd.DataFrame:
    return errors[(errors["split"] == split) & errors["model"].isin(models)]


def findings(sample: pd.DataFrame, differences: pd.DataFrame, linear: Collection[str]) -> pd.DataFrame:
    """Each model beside centred PCA of its dimension, at the images of the sample.

    Parameters
    ----------
    sample : DataFrame
        ``model, latent_dim, mse_mean``.
    differences : DataFrame
        ``a, b, quantity, verdict`` of pairs of models.
    linear : collection of str
        The models that are PCA.

    Returns
    -------
    DataFrame
        ``model``; ``ratio``, its mean error over PCA's; ``verdict``: *smaller*, *larger* or *cannot tell*. Models of
        dimensions that PCA lacks have no row.
    """
    errors = sample.set_index("model")["mse_mean"]
    pairs = differences[differences["quantity"] == "mse"].set_index(["a", "b"])["verdict"]
    rows = []
    for model, k in zip(sample["model"], sample["latent_dim"], strict=True):
        if model not in linear and f"pca{k}" in errors:
            said = pairs[model, f"pca{k}"]
            verdict = {"a is smaller": "smaller", "b is smaller": "larger"}.get(said, said)
            rows.append((model, errors[model] / errors[f"pca{k}"], verdict))
    return pd.DataFrame(rows, columns=["model", "ratio", "verdict"])


def sentences(found: pd.DataFrame) -> list[str]:
    """The findings in words."""
    listed = {
        verdict: [
            Finding(
                "error over that of PCA",
                "{subject} by {change:.0%}",
                subject=row["model"],
                value=row["ratio"],
                relation=str(verdict),
                object="centred PCA of the same dimension",
                facts={"change": abs(row["ratio"] - 1)},
            )
            for _, row in rows.iterrows()
        ]
        for verdict, rows in found.groupby("verdict")
    }
    words = {
        "smaller": "Smaller errors than centred PCA of the same dimension, at the same images: {}.",
        "larger": "Larger errors than centred PCA of the same dimension, at the same images: {}.",
        "cannot tell": "Whether the error differs from that of centred PCA of the same dimension cannot be told of {}.",
    }
    return [Sentence(text, listed[verdict]) for verdict, text in words.items() if verdict in listed]


def gap_sentences(sample: pd.DataFrame, split: str) -> list[str]:
    """What the encoders miss of what their surfaces could draw, over the images of the sample."""
    gaps = sample[sample["encoder_gap_mean"].notna()]
    if not len(gaps):
        return []
    ends = [gaps.loc[gaps["encoder_gap_mean"].idxmin()], gaps.loc[gaps["encoder_gap_mean"].idxmax()]]
    ends = ends[: gaps["model"].nunique()]  # one is both the least and the most
    found: list[str] = [
        Sentence(
            "The squared error divides into what the surface cannot draw, the distance to its closest point, and what "
            f"the encoder misses. At the {gaps['images'].max():,} images of the {split} split the share of the latter "
            f"is {{}}{'; others lie between' if len(gaps) > 2 else ''}.",
            [Finding.ranged("encoder gap", row, "encoder_gap_mean", ".1%", "{} for {subject}") for row in ends],
            ", and ",
        )
    ]
    short = [
        Finding("not converged", "{subject} ({value:.1%})", row["model"], 1 - row["converged_share"])
        for _, row in gaps.iterrows()
        if row["converged_share"] < 0.99
    ]
    if short:
        found.append(
            Sentence(
                "Where the search for the closest point ends before the residual is orthogonal to the tangent space, "
                "the encoder misses at least what is found. Share of such images: {}.",
                short,
            )
        )
    return found


def imported_sentences(names: list[str]) -> list[str]:
    """What is not known of models that were trained elsewhere."""
    if not names:
        return []
    return [f"Imported, and perhaps trained on these test images, which cannot be known here: {', '.join(names)}."]


def _table(errors: pd.DataFrame) -> Table:
    wide = errors.pivot(index="manifold", columns="split", values=["mse", "psnr_db", "ssim"])
    order = errors["manifold"].drop_duplicates()
    frame = pd.DataFrame(
        {
            "manifold": order.to_list(),
            "k": errors.drop_duplicates("manifold")["latent_dim"].to_list(),
            "test MSE": wide["mse", "test"].reindex(order).to_list(),
            "training MSE": wide["mse", "train"].reindex(order).to_list(),
            "test PSNR (dB)": wide["psnr_db", "test"].reindex(order).to_list(),
            "test SSIM": wide["ssim", "test"].reindex(order).to_list(),
        }
    )
    formats = {
        "k": "{:.0f}".format,
        "test MSE": "{:.5f}".format,
        "training MSE": "{:.5f}".format,
        "test PSNR (dB)": "{:.2f}".format,
        "test SSIM": "{:.3f}".format,
    }
    return table(frame, formats, "Mean errors over all images of each split")


def _gap_table(sample: pd.DataFrame, intervals: str) -> Table:
    """Errors by the encoders and of the closest points, over the sample."""
    error, share = "{:.5f}".format, "{:.1%}".format
    ranges = {
        "error by the encoder": ("mse_mean", error),
        "error of the closest point": ("mse_closest_mean", error),
        "encoder gap": ("encoder_gap_mean", share),
    }
    frame = sample[["model", "latent_dim"]].rename(columns={"latent_dim": "k"})
    for head, (column, written) in ranges.items():
        frame[head] = [ranged(row, column, written) for _, row in sample.iterrows()]
    frame["converged"], frame["steps, median"] = sample["converged_share"], sample["steps_median"]
    formats = {"k": "{:.0f}".format, "converged": share, "steps, median": "{:.0f}".format}
    return table(
        frame, formats, f"Means over the sample: what the surface cannot draw, and what the encoder misses. {intervals}"
    )

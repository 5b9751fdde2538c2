"""The report on reconstructions: which surface comes closest to images that it has not seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from latent_atlas.report.page import Picture, Section, table
from latent_atlas.study.manifolds import groups, pca_manifolds
from latent_atlas.study.schema import Params


def section(results: Path, params: Params) -> Section:
    """Errors of all manifolds on both splits, and their reconstructions side by side."""
    folder = results / "reconstruct"
    errors = pd.read_csv(folder / "errors.csv")
    test = errors[errors["split"] == "test"]
    pictures = [(name, f"{split}_{name}.png") for split in ("test", "train") for name in groups(params)]
    return Section(
        "Reconstruction",
        sentences=sentences(test, set(pca_manifolds(params))),
        tables=[_table(errors)],
        pictures=[
            Picture.of(
                folder / "test_comparison.png",
                "Ten test images by every manifold; on the right what each one gets wrong, all on one scale.",
            )
        ],
        folded=[
            Picture.of(folder / f"{split}_images.png", f"{words} images, the originals.", wide=False)
            for split, words in (("test", "Test"), ("train", "Training"))
        ]
        + [
            Picture.of(folder / file, f"{file.split('_')[0].capitalize()} images reconstructed: {name}.")
            for name, file in pictures
        ]
        + [Picture.of(folder / "train_comparison.png", "Ten training images by every manifold.")],
    )


def sentences(test: pd.DataFrame, flat: set[str]) -> list[str]:
    """What the test errors say: the best of all, and each curved surface against the flat one of its dimension."""
    best = test.loc[test["mse"].idxmin()]
    said = [
        f"On images that no manifold was fitted to, {best['manifold']} reconstructs best: "
        f"a mean squared error of {best['mse']:.5f} per pixel ({best['psnr_db']:.1f} dB, SSIM {best['ssim']:.3f})."
    ]
    centred = test[test["manifold"].isin([name for name in flat if not name.endswith("_uncentred")])]
    baseline = centred.set_index("latent_dim")["mse"]
    curved = test[~test["manifold"].isin(flat) & test["latent_dim"].isin(baseline.index)]
    ratio = curved["mse"] / curved["latent_dim"].map(baseline)
    better, worse = curved[ratio < 1], curved[ratio >= 1]
    if len(better):
        gains = ", ".join(
            f"{row['manifold']} by {1 - ratio[index]:.0%}" for index, row in better.iterrows() if index in ratio
        )
        said.append(f"Better than centred PCA of the same dimension: {gains}.")
    if len(worse):
        losses = ", ".join(f"{row['manifold']} by {ratio[index] - 1:.0%}" for index, row in worse.iterrows())
        said.append(f"Worse than centred PCA of the same dimension: {losses}.")
    return said


def _table(errors: pd.DataFrame) -> str:
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
    best = {"test MSE": "min", "training MSE": "min", "test PSNR (dB)": "max", "test SSIM": "max"}
    return table(frame, formats, "Mean errors over all images of each split; the best in bold", best)

"""reconstruct_summary: the manifolds' reconstructions compared, in one table and side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from latent_atlas.command import log
from latent_atlas.data.stored import SPLITS, StoredImages
from latent_atlas.errors import counted
from latent_atlas.files import write_tables, write_text
from latent_atlas.report.figures.reconstruct import plot_comparison, plot_images
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.statistics.summaries import by_class, differences, summarized
from latent_atlas.study.manifolds import firsts, groups, manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

VALUES = ["mse", "mse_closest", "encoder_gap", "ssim"]  # what of each image of the sample is summarized


def reconstruct_summary(params: Params, images: Path, folder: Path) -> None:
    """Compare the manifolds' errors over the splits and the sample, and draw their reconstructions side by side."""
    data = StoredImages.load(images)
    errors = combined(folder, manifolds(params), "summary.csv")
    each = combined(folder, manifolds(params), "errors.parquet")
    sample = each[each["example"].isna()]
    search = sample.groupby(["model", "latent_dim"]).agg(
        converged_share=("converged", "mean"), steps_median=("steps", "median")
    )
    written = {
        "summary.csv": errors,
        "examples.csv": each[each["example"].notna()],
        "sample.csv": summarized(sample, VALUES).join(search, ["model", "latent_dim"]),
        "by_class.csv": by_class(summarized, sample, VALUES, ["latent_dim"]),
        "differences.csv": differences(sample, VALUES),
        "differences_by_class.csv": by_class(differences, sample, VALUES),
    }
    write_tables(folder, written)
    write_text(folder / "metrics.json", metrics(errors))
    needed = {split: " ".join(map(str, ("float32 *", *data.shape))) for split in SPLITS}
    examples = {name: arrays_of(name, folder / name / "shown.safetensors", needed) for name in firsts(params)}
    for split in SPLITS:
        originals = data.pixels(split)[: params.reconstruct.shown].astype(np.float32) / np.float32(255)  # n x C x H x W
        save(plot_images({f"{split} images": originals}), folder / f"{split}_images.png")
        for group, names in groups(params).items():
            save(plot_images({name: examples[name][split] for name in names}), folder / f"{split}_{group}.png")
        shown = {name: images[split] for name, images in examples.items()}
        save(plot_comparison(originals, shown), folder / f"{split}_comparison.png")
    log.info(f"{counted(len(examples), 'manifold')} compared: {folder}")


def metrics(errors: pd.DataFrame) -> str:
    """The errors on the test images as JSON, a mapping for each manifold: what DVC calls metrics."""
    test = errors[errors["split"] == "test"].set_index("manifold")
    chosen = test[["latent_dim", "mse", "psnr_db", "ssim"]].to_dict("index")
    numbers = {
        name: {key: None if pd.isna(value) else float(f"{value:.6g}") for key, value in row.items()}
        for name, row in chosen.items()
    }
    return json.dumps(numbers, indent=1) + "\n"

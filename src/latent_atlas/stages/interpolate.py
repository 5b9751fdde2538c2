"""interpolate: paths between two images along the straight line of one manifold's codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry import paths
from latent_atlas.geometry.manifold import PixelSpace, load_manifold
from latent_atlas.stages import tables
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def interpolate(params: Params, name: str, manifold: Path | None, images: Path, folder: Path) -> None:
    """Interpolate between pairs of examples along the straight line of one manifold's codes, decoded.

    Without a manifold, along the straight line of pixels.
    """
    data = Images.load(images)
    surface = (
        load_manifold(manifold, architectures(params), name).to(torch.float64) if manifold else PixelSpace(data.shape)
    )
    config = params.interpolate
    chosen = torch.linspace(0, config.steps, config.shown).round().long()
    first = (
        tables.head(params, name, surface.latent_dim)
        if manifold
        else {"manifold": name, "model": name, "seed": None, "latent_dim": surface.latent_dim}
    )
    steps, lengths, shown = [], [], {}
    for pair, ends in config.pairs.items():
        start, end = data.examples({example: params.examples[example] for example in ends}, surface.dtype)
        path = paths.interpolate(surface, start, end, config.steps)
        head = first | {"pair": pair}
        columns = {
            "step": range(config.steps + 1),
            "t": path.t,
            "step_length": path.step_lengths,
            "cumulative_length": path.step_lengths.cumsum(0),
            "distance_to_nearest_training_image": paths.distance_to_nearest(path.images, data.train),
        }
        steps.append(pd.DataFrame(head | columns))
        ratio = path.length / path.straight_distance if path.straight_distance else float("nan")
        lengths.append(
            head | {"path_length": path.length, "straight_distance": path.straight_distance, "length_ratio": ratio}
        )
        shown[pair] = path.images[chosen].float()  # shown x C x H x W
        log.info(f"{pair}: {ratio:.3f} times the straight distance")
    write_safetensors(folder / "images.safetensors", shown, {"manifold": name})
    write_tables(folder, {"summary.csv": pd.DataFrame(lengths), "path.csv": pd.concat(steps)})

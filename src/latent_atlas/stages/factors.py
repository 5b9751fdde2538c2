"""factors: the true tangent spaces of images of known factors against those of a manifold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.command import report_progress
from latent_atlas.data.figures import directions, draw, factor_names
from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import DataError, counted
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry.factors import Held, held
from latent_atlas.geometry.manifold import Manifold, load_manifold
from latent_atlas.geometry.tangent_spaces import TangentSpaces
from latent_atlas.stages import tables
from latent_atlas.statistics.factors import ALL
from latent_atlas.statistics.measurements import angle_columns
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def factors(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Angles between the true directions at the sample and the examples and one manifold's tangent spaces."""
    data = Images.load(images)
    if data.train_factors is None or data.test_factors is None:
        raise DataError(f"the factors of {data.name} are not known: name the dataset shapes, or leave this stage out")
    surface = load_manifold(manifold, architectures(params), name).to(torch.float64)
    pixels, keys = tables.measured_images(params, data)
    by_split = {"train": data.train_factors, "test": data.test_factors}
    known = torch.stack([by_split[split][image] for split, image in keys[["split", "image"]].to_numpy()])  # N x f
    kinds = list(keys["label"])
    found = held(
        surface, pixels, kinds, known, lambda done: report_progress(f"{done} of {counted(len(pixels), 'image')}")
    )
    head = tables.head(params, name, surface.latent_dim)
    rows = keys.loc[keys.index.repeat(known.shape[1] + 1)].reset_index(drop=True).assign(**head)
    measured = pd.DataFrame(_columns(found, factor_names(data.shape[0]), surface.pixel_count))
    write_tables(folder, {"factors.parquet": pd.concat([rows[[*head, *keys.columns]], measured], axis=1)})
    shown = list(keys["example"]).index(params.tangents.example)
    one = slice(shown, shown + 1)
    write_safetensors(
        folder / "pictures.safetensors", _pictures(surface, pixels[one], kinds[one], known[one]), {"manifold": name}
    )


def _columns(found: Held, names: tuple[str, ...], pixels: int) -> dict[str, object]:
    """Image by image a row for each factor, and one for all: of that the share, which is no angle's."""
    count = len(found.rank)
    together = torch.rad2deg(found.share.sqrt().clamp(max=1).acos())  # N
    angles = torch.cat([found.angles_deg, together[:, None]], 1).flatten().numpy()  # N (f + 1)
    columns = angle_columns(angles, found.rank.repeat_interleave(len(names) + 1).tolist(), pixels)
    whole = np.tile([*[False] * len(names), True], count)
    columns["angle_deg"] = np.where(whole, np.nan, angles)
    columns["chance_deg"] = np.where(whole, np.nan, columns["chance_deg"])
    columns["reason"] = np.where(whole, "several directions", columns["reason"])
    dimensions = torch.cat([(~found.angles_deg.isnan()).long(), found.true_rank[:, None]], 1).flatten()
    return {"factor": [*names, ALL] * count, "dimension": dimensions.numpy()} | columns


def _pictures(surface: Manifold, pixels: Tensor, kinds: list[str], known: Tensor) -> dict[str, Tensor]:
    """An image and its derivatives, each of unit length, and what the manifold makes of them: (1 + f, C, H, W) each."""
    codes = surface.encode(as_float(pixels, surface.dtype))  # 1 x k
    true = torch.nn.functional.normalize(directions(kinds, known, surface.image_shape), dim=-1)  # 1 x f x P
    tangential, _ = TangentSpaces(surface.jacobian(codes)).components(true)  # 1 x f x P
    return {
        key: torch.cat([image, vectors[0].reshape(-1, *surface.image_shape)]).float()
        for key, image, vectors in (
            ("true", draw(kinds, known, surface.image_shape), true),
            ("held", surface.decode(codes), tangential),
        )
    }

"""explorer: the decoder of one manifold as graphs that a browser runs, and the codes that the explorer starts from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.command import log
from latent_atlas.data.images import Images, as_float
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry.bases import with_fixed_signs
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.paths import smooth
from latent_atlas.report.onnx_decoders import graphs
from latent_atlas.stages import tables
from latent_atlas.study.models import architectures
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

IMAGES, NUMBERS = 240, 2**20  # the most images to pick from, and the most numbers that they may have together
SEGMENTS = 28  # of a geodesic


def explorer(params: Params, name: str, manifold: Path, images: Path, folder: Path, geodesics: Path) -> None:
    """Export one manifold's decoder and its Jacobian for the explorer, with the codes of the images to pick from."""
    surface = load_manifold(manifold, architectures(params), name)
    data = Images.load(images)
    pairs = tables.shown_pairs(geodesics, name)
    exact = surface.to(torch.float64)
    places = shown_places(params, data, pairs)
    pixels = torch.stack([data.pixels(split)[index] for split, index in places])  # n x C x H x W
    codes = exact.encode(as_float(pixels, exact.dtype))  # n x k
    paths = tables.tensors_of(name, geodesics / "images.safetensors", {"codes": f"float32 * * {surface.latent_dim}"})
    nodes = paths["codes"][pairs.index.tolist()]  # pairs x nodes x k
    found = graphs(surface, codes, transformations(params))
    centre = codes.mean(0)  # k
    axes = torch.linalg.svd(codes - centre, full_matrices=False).Vh[:2]  # 1 or 2 x k
    parts = {
        "decoder": _bytes(found.decoder),
        "jacobian": _bytes(found.jacobian),
        "weights": _bytes(found.weights),
        "codes": codes.float(),
        "geodesics": smooth(nodes, SEGMENTS).float(),  # pairs x points x k
        "centre": centre.float(),
        "axes": with_fixed_signs(axes.T).T.float(),
    }
    write_safetensors(folder / "graphs.safetensors", parts, {"manifold": name})
    row = {
        "exported": not found.reason,
        "with_jacobian": bool(found.jacobian),
        "weights": found.stored,
        "precision": found.precision,
        "bytes": len(found.decoder) + len(found.jacobian) + len(found.weights),
        "largest_pixel_error": found.pixel_error,
        "largest_angle_error_deg": found.angle_error,
        "reason": found.reason or found.jacobian_reason,
    }
    head = tables.head(params, name, surface.latent_dim)
    shown = pd.DataFrame(places, columns=["split", "image"]).assign(manifold=name)[["manifold", "split", "image"]]
    write_tables(folder, {"export.csv": pd.DataFrame([head | row]), "images.csv": shown})
    if found.reason:
        log.warning(f"warning: this decoder has no form that a browser runs: {found.reason}")
    elif found.jacobian_reason:
        log.warning(f"warning: the derivative of this decoder has no form that a browser runs: {found.jacobian_reason}")
    else:
        log.info(
            f"weights in {found.stored}, computed in {found.precision}; at most {255 * found.pixel_error:.2f} of 255 "
            f"and {found.angle_error:.3f} degrees from float64"
        )


def shown_places(params: Params, data: Images, pairs: pd.DataFrame) -> list[tuple[str, int]]:
    """Split and index of the images to pick from: examples, ends of the pairs, then the sample, each once."""
    ends = pairs[["first", "second"]].to_numpy().flatten().tolist()
    needed = dict.fromkeys([*data.places(params.examples), *data.places({place: place for place in ends})])
    _, keys = tables.measured_images(params, data)
    sampled = zip(keys["split"], keys["image"].astype(int), strict=True)
    most = min(IMAGES, NUMBERS // int(np.prod(data.shape)))
    return list(dict.fromkeys([*needed, *sampled]))[: max(most, len(needed))]


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)

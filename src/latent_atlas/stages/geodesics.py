"""geodesics: shortest paths on one manifold between pairs of images, against the decoded line of codes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log
from latent_atlas.data import samples
from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import counted
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry import geodesics as geometry
from latent_atlas.geometry.manifold import batches, load_manifold
from latent_atlas.geometry.paths import line, smooth, through_neighbours
from latent_atlas.stages import tables
from latent_atlas.study.defaults import PAIRS
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

NEIGHBOURS = 2000  # training images that paths may lead through
SEGMENTS = 64  # of a curve whose length is measured
STARTS = ("line", "neighbours")


def geodesics(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Geodesics between the pairs of examples and between random pairs of test images, on one manifold."""
    surface = load_manifold(manifold, architectures(params), name)
    data, config = Images.load(images), params.geodesics
    pairs = _pairs(params, data)
    pixels = torch.stack([data.pixels(split)[i] for place in pairs.values() for split, i in place])  # 2·B x C x H x W
    start, end = surface.encode(as_float(pixels, surface.dtype)).unflatten(0, (-1, 2)).unbind(1)  # B x k each
    labels = data.labels("train")
    chosen = samples.stratified(labels, min(NEIGHBOURS, len(labels)), config.seed)
    near = torch.cat([surface.encode(x) for x in batches(data.train[chosen], surface.dtype)])  # N x k
    segments = config.nodes - 1
    straight = line(start, end, segments)
    found = geometry.geodesics(surface, straight, through_neighbours(surface, near, start, end, segments))
    line_length = geometry.lengths(surface, line(start, end, SEGMENTS))
    length = geometry.lengths(surface, smooth(found.codes, SEGMENTS))
    columns = {
        "pair": list(pairs),
        "random": [pair not in params.interpolate.pairs for pair in pairs],
        "first": [f"{split}/{index}" for (split, index), _ in pairs.values()],
        "second": [f"{split}/{index}" for _, (split, index) in pairs.values()],
        "code_distance": (end - start).double().norm(dim=1),
        "chord": found.chord,
        "line_length": line_length,
        "length": length,
        "polygon_length": found.length,
        "ratio_to_line": length / line_length,
        "ratio_to_chord": length / found.chord,
        "energy": found.energy,
        "code_length": found.codes.double().diff(dim=1).norm(dim=-1).sum(1),
        "relative_gradient": found.relative_gradient,
        "equal_speed_defect": found.speed_defect,
        "converged": found.converged,
        "iterations": found.iterations,
        "start": [STARTS[number] for number in found.start],
        "other_energy_ratio": found.other,
    }
    table = pd.DataFrame(tables.head(params, name, surface.latent_dim) | columns)
    write_tables(folder, {"pairs.csv": table})
    shown = {"codes": found.codes}  # B x nodes x k
    for number, pair in enumerate(params.interpolate.pairs):
        shown |= {f"{pair}_line": surface.decode(straight[number]), f"{pair}_geodesic": found.images[number]}
    write_safetensors(folder / "images.safetensors", {key: x.float() for key, x in shown.items()}, {"manifold": name})
    log.info(
        f"{int(found.converged.sum())} of {counted(len(table), 'geodesic')} converged; their length is "
        f"{table['ratio_to_line'].median():.3f} times that of the line (median)"
    )


def _pairs(params: Params, data: Images) -> dict[str, list[tuple[str, int]]]:
    """Split and index of both images of each pair: those of the examples, then the random ones."""
    named = {
        pair: data.places({example: params.examples[example] for example in ends})
        for pair, ends in params.interpolate.pairs.items()
    }
    count = params.geodesics.pairs or min(PAIRS, len(data.test) // 2)
    drawn = samples.pairs(len(data.test), count, params.geodesics.seed).tolist()
    return named | {f"test_{a}_{b}": [("test", a), ("test", b)] for a, b in drawn}

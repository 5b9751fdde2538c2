"""What the stages share: the images that are measured, and the tables that are written of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from latent_atlas.errors import FileError
from latent_atlas.files import AGAIN, read_arrays, read_safetensors, read_table
from latent_atlas.study.defaults import SAMPLE
from latent_atlas.study.manifolds import member

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from latent_atlas.data.images import Images
    from latent_atlas.study.schema import Params

HEAD = ("manifold", "model", "seed", "latent_dim")  # the first columns of each table of a manifold
RANDOM_PAIRS = 10  # of test images whose geodesics the explorer shows

LAYERS = {  # the tables of layers, and their columns
    "layers.csv": (
        *HEAD, "part", "layer", "kind", "input_shape", "output_shape", "input_dim", "output_dim", "parameters",
        "rank", "sigma_max", "sigma_min", "rank_tolerance",
    ),
    "spectra.csv": (*HEAD, "part", "layer", "kind", "order", "singular_value"),
    "summary.csv": (*HEAD, "part", "property", "verdict", "reason"),
}  # fmt: skip


def measured_images(params: Params, data: Images) -> tuple[Tensor, pd.DataFrame]:
    """The images at which manifolds are measured: the examples in their order, then the sample.

    Returns
    -------
    pixels : uint8 tensor (N, C, H, W)
    keys : DataFrame
        N rows: ``split``, ``image`` (index in the split), ``label`` (name of the class), ``example`` (its name, or null
        for an image of the sample).
    """
    import torch

    from latent_atlas.data.samples import stratified

    sample = params.sample
    labels = data.labels(sample.split)
    chosen = stratified(labels, sample.size or min(SAMPLE, len(labels)), sample.seed).tolist()
    places = [*data.places(params.examples), *((sample.split, index) for index in chosen)]
    pixels = torch.stack([data.pixels(split)[index] for split, index in places])  # N x C x H x W
    keys = pd.DataFrame(places, columns=["split", "image"])
    keys["label"] = [data.classes[int(data.labels(split)[index])] for split, index in places]
    keys["example"] = [*params.examples, *[None] * len(chosen)]
    return pixels, keys


def head(params: Params, name: str, latent_dim: int) -> dict[str, object]:
    """The first columns of each table of a manifold, :data:`HEAD`; PCA has no seed."""
    return dict(zip(HEAD, (name, *member(params, name), latent_dim), strict=True))


def read_of(name: str, path: Path, columns: Collection[str] = ()) -> pd.DataFrame:
    """A table that a stage wrote for one manifold; FileError if it is of another, or as :func:`read_table` has it."""
    table = read_table(path, columns)
    if "manifold" in table and (others := sorted({*table["manifold"].astype(str)} - {name})):
        raise FileError(f"{path} is damaged: it is of {others[0]}, not of {name}: {AGAIN}")
    return table


def tensors_of(name: str, path: Path, needed: Mapping[str, str] | None = None) -> dict[str, Tensor]:
    """Tensors that a stage wrote for one manifold; FileError if they are of another, or as for a file of tensors."""
    metadata, tensors = read_safetensors(path, needed=needed)
    _check_name(name, path, metadata)
    return tensors


def arrays_of(name: str, path: Path, needed: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """As :func:`tensors_of`, as arrays, which takes no import of torch."""
    metadata, arrays = read_arrays(path, needed=needed)
    _check_name(name, path, metadata)
    return arrays


def _check_name(name: str, path: Path, metadata: Mapping[str, str]) -> None:
    if (found := metadata.get("manifold")) != name:
        raise FileError(f"{path} is damaged: it is of {found}, not of {name}: {AGAIN}")


def shown_pairs(geodesics: Path, name: str) -> pd.DataFrame:
    """The pairs of images whose geodesics are shown, by their rows in the table: of examples, then random ones."""
    pairs = read_of(name, geodesics / "pairs.csv", ["random", "first", "second"])
    return pd.concat([pairs[~pairs["random"]], pairs[pairs["random"]][:RANDOM_PAIRS]])


def combined(folder: Path, names: Iterable[str], file: str) -> pd.DataFrame:
    """The rows of ``folder/NAME/file`` (CSV or Parquet) for each name, in that order, as one long table."""
    tables = [read_of(name, folder / name / file) for name in names]
    rows = [table for table in tables if len(table)] or tables[:1]
    for table in rows:
        if "seed" in table:
            table["seed"] = table["seed"].astype("Int64")
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()

"""How much of their tangent spaces manifolds share: in a table, and over the pairs of trainings of models."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.data.images import as_images
from latent_atlas.geometry.agreement import Agreement, agreement, tangent_bases, unresolved
from latent_atlas.geometry.manifold import Manifold
from latent_atlas.statistics.intervals import interval_of_pairs

MEMORY = 256 * 2**20  # bytes that the bases of a batch of images and what they are computed of may take
WHOLE = 512 * 2**20  # bytes that the basis of one manifold at one image may take
SHARED = ("shared_mean", "shared_mean_low", "shared_mean_high")
ANGLES = ("smallest_deg", "median_deg", "largest_deg")
UNDEFINED, TOO_LARGE = "tangent space of rank zero", "basis of more than 512 MiB"  # why an agreement is null


def agreements(
    surfaces: Mapping[str, Manifold],
    images: Tensor | np.ndarray,
    pairs: Collection[tuple[str, str]] | None = None,
    report: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Agreement of manifolds' tangent spaces at the same images.

    Parameters
    ----------
    surfaces : mapping of name to Manifold
        At least one, each measured in its own precision. From float32, agreements are right to about 1e-6 and angles
        to a few hundredths of a degree: what float32 does not resolve is measured in float64.
    images : tensor or array (N, C, H, W), (C, H, W), or (N, H, W) for one channel
        uint8, or floats in [0, 1].
    pairs : collection of (name, name), optional
        Of the manifolds that are compared; by default all.
    report : callable, optional
        Called with the number of images done, after each batch.

    Returns
    -------
    DataFrame
        N rows for each pair, pair by pair: ``a``, ``b``, ``image`` (index), ``rank_a``, ``rank_b``; ``shared``,
        ``chance``, ``smallest_deg``, ``median_deg`` and ``largest_deg`` of
        :class:`~latent_atlas.geometry.agreement.Agreement`; ``reason``, why they are null.

    Raises
    ------
    DataError
        If the images do not fit a manifold.
    """
    pairs = list(combinations(surfaces, 2) if pairs is None else pairs)
    x, *_ = (as_images(images, surface.image_shape) for surface in surfaces.values())  # N x C x H x W
    measured = {
        name: surface.to(torch.float64) if unresolved(tangent_bases(surface, x[:1])).all() else surface
        for name, surface in surfaces.items()
        if 8 * surface.pixel_count * surface.latent_dim <= WHOLE
    }
    widths = [surface.latent_dim for surface in measured.values()]
    batch = max(1, MEMORY // (8 * math.prod(x.shape[1:]) * (sum(widths) + 4 * max(widths, default=1))))
    columns = ["rank_a", "rank_b", *Agreement._fields]
    rows = torch.full((len(pairs), len(x), len(columns)), math.nan, dtype=torch.float64)
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        bases = {name: tangent_bases(surface, part) for name, surface in measured.items()}
        for number, (a, b) in enumerate(pairs):
            if a in bases and b in bases:
                found = (bases[a].ranks, bases[b].ranks, *agreement(bases[a], bases[b]))  # n each
                rows[number, start : start + batch] = torch.stack([column.double() for column in found], dim=1)
        report(start + len(part))
    keys = pd.DataFrame([(*pair, image) for pair in pairs for image in range(len(x))], columns=["a", "b", "image"])
    table = pd.DataFrame(rows.flatten(0, 1).numpy(), columns=columns).astype({"rank_a": "Int64", "rank_b": "Int64"})
    null = zip(table["rank_a"].isna(), table["shared"].isna(), strict=True)
    table["reason"] = [TOO_LARGE if large else UNDEFINED if undefined else None for large, undefined in null]
    return pd.concat([keys, table], axis=1)


def pairs_of_models(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement of models over their trainings and the images: a row for each pair of models.

    Parameters
    ----------
    table : DataFrame
        A row for each pair of manifolds and image: ``a``, ``b``, ``model_a``, ``model_b``, ``latent_dim_a``,
        ``latent_dim_b``, ``split``, ``image``, and the measures and reasons of :func:`agreements`.

    Returns
    -------
    DataFrame
        ``a``, ``b`` (models; the same one where its trainings are compared with each other), ``latent_dim_a``,
        ``latent_dim_b``, ``seeds_a``, ``seeds_b`` (how many trainings), ``images``, ``undefined`` (images at which one
        of them has a tangent space of rank zero); ``shared_mean`` with ``shared_mean_low`` and ``shared_mean_high``;
        means of ``chance``, ``smallest_deg``, ``median_deg`` and ``largest_deg``; ``reason``, why all are null.
    """
    rows = []
    for (a, b), part in table.groupby(["model_a", "model_b"], sort=False):
        alike, image = a == b, part.groupby(["split", "image"]).ngroup().to_numpy()
        trainings = [sorted({*part["a"], *part["b"]})] * 2 if alike else [sorted(set(part[side])) for side in "ab"]
        one, other = (pd.Index(names).get_indexer(part[key]) for key, names in zip("ab", trainings, strict=True))
        shared = np.full((*map(len, trainings), image.max() + 1), np.nan)  # S x T x N
        shared[one, other, image] = part["shared"]
        if alike:
            shared[other, one, image] = part["shared"]
        known = np.isfinite(part["shared"])
        rows.append(
            {"a": a, "b": b}
            | part[["latent_dim_a", "latent_dim_b"]].iloc[0].to_dict()
            | {"seeds_a": len(trainings[0]), "seeds_b": len(trainings[1]), "images": shared.shape[2]}
            | {"undefined": part.loc[~known, ["split", "image"]].drop_duplicates().shape[0]}
            | dict(zip(SHARED, interval_of_pairs(shared, alike), strict=True))
            | part[["chance", *ANGLES]].mean().to_dict()
            | {"reason": None if known.any() else part["reason"].iloc[0]}
        )
    return pd.DataFrame(rows)

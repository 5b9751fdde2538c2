"""How much of their tangent spaces manifolds share, in a table."""

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

MEMORY = 256 * 2**20  # bytes that the bases of a batch of images and what they are computed of may take
WHOLE = 512 * 2**20  # bytes that the basis of one manifold at one image may take
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

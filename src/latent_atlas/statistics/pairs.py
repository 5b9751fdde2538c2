"""How much of their tangent spaces models share, over the pairs of their trainings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from latent_atlas.statistics.intervals import interval_of_pairs

SHARED = ("shared_mean", "shared_mean_low", "shared_mean_high")
ANGLES = ("smallest_deg", "median_deg", "largest_deg")


def pairs_of_models(table: pd.DataFrame) -> pd.DataFrame:
    """Agreement of models over their trainings and the images: a row for each pair of models.

    Parameters
    ----------
    table : DataFrame
        A row for each pair of manifolds and image: ``a``, ``b``, ``model_a``, ``model_b``, ``latent_dim_a``,
        ``latent_dim_b``, ``split``, ``image``, and the measures and reasons of :func:`.agreement.agreements`.

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

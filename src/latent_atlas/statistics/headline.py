"""One score an image: how well a manifold holds the displacements of an image, over several transformations."""

from __future__ import annotations

import pandas as pd

BY_CONSTRUCTION = ("brightness",)  # a linear subspace through zero contains it, whatever the images are
KEYS = ["manifold", "model", "seed", "latent_dim", "split", "image", "label", "example"]


def mean_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The mean score over the transformations of each manifold and image; those of :data:`BY_CONSTRUCTION` left out.

    Parameters
    ----------
    table : DataFrame
        :data:`KEYS`, ``transformation``, ``score`` (null where a displacement is zero). ``example`` is null for an
        image of the sample.

    Returns
    -------
    DataFrame
        :data:`KEYS` and ``score``, null where no transformation has one.
    """
    counted = table[~table["transformation"].isin(BY_CONSTRUCTION)]
    return counted.groupby(KEYS, sort=False, dropna=False)["score"].mean().reset_index()


def percentiles(scores: pd.DataFrame) -> pd.DataFrame:
    """Where the examples lie in the sample: a row for each model and example.

    Parameters
    ----------
    scores : DataFrame
        As :func:`mean_scores` gives it.

    Returns
    -------
    DataFrame
        ``model``, ``example``, ``score`` (mean over the trainings), and ``percentile``: the percentage of the images of
        the sample with a lower score, an equal one counting half; the mean over the trainings.
    """
    sample = scores[scores["example"].isna()].dropna(subset=["score"])
    examples = scores[scores["example"].notna()].dropna(subset=["score"])
    rows = []
    for manifold, others in sample.groupby("manifold", sort=False):
        for one in examples[examples["manifold"] == manifold].itertuples():
            below = (others["score"] < one.score).mean() + 0.5 * (others["score"] == one.score).mean()
            rows.append((one.model, one.example, one.score, 100 * below))
    found = pd.DataFrame(rows, columns=["model", "example", "score", "percentile"])
    return found.groupby(["model", "example"], sort=False).mean().reset_index()

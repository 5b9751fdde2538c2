"""Means of what is held of the factors of images: of each, and of all together."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from latent_atlas.statistics.summaries import summarized, with_chance

ALL = "all"  # in tables: the factors together


def means(sample: pd.DataFrame, values: Sequence[str], keys: Sequence[str]) -> pd.DataFrame:
    """A row for each model and factor, and one for all factors together, which have no angle; with the mean chance."""
    together = sample["factor"] == ALL
    whole = summarized(sample[together], [value for value in values if value != "angle_deg"], keys)
    found = pd.concat([summarized(sample[~together], values, keys), whole], ignore_index=True)
    return with_chance(found, sample, keys)

"""How much distances between the same images vary between trainings of a model.

A code has no scale and no axes of its own: another training gives other codes to the same images. Lengths that are
measured in pixel space do not depend on them, though on what was learned. Compare Syrota et al., "Identifying Metric
Structures of Deep Latent Variable Models" (2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from latent_atlas.statistics.intervals import interval


def variation(table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """Coefficients of variation over the trainings of each model: means over pairs of images, with 95% intervals.

    Parameters
    ----------
    table : DataFrame
        ``model, seed, pair`` and the quantities: distances, one row for each training and pair.
    quantities : names of columns

    Returns
    -------
    DataFrame
        ``model, quantity, seeds, pairs``; ``variation``: the standard deviation (of seeds - 1) over the mean of a
        distance over the seeds; and ``scaled``: the same after the distances of each training are divided by their mean
        over the pairs; each with ``_low, _high``, over pairs: the seeds are not resampled. Pairs that lack a value, or
        whose mean distance is zero, are left out. A model with fewer than two seeds has no row.
    """
    rows = []
    for model, part in table.dropna(subset=["seed"]).groupby("model", sort=False):
        for quantity in quantities:
            wide = part.pivot(index="pair", columns="seed", values=quantity).to_numpy(np.float64)  # pairs x seeds
            wide = wide[np.isfinite(wide).all(1) & (wide.mean(1) > 0)]
            if wide.shape[1] < 2 or not len(wide):
                continue
            row = {"model": model, "quantity": quantity, "seeds": wide.shape[1], "pairs": len(wide)}
            for name, values in (("variation", wide), ("scaled", wide / wide.mean(0))):
                found = interval(values.std(1, ddof=1) / values.mean(1))
                row |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
            rows.append(row)
    measures = [f"{name}{end}" for name in ("variation", "scaled") for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["model", "quantity", "seeds", "pairs", *measures])

"""Bootstrap intervals of means and medians over images, and over images and trainings.

All trainings are measured at the same images, so that their values form a matrix, trainings by images. Rows and columns
are resampled, each on its own: Owen, "The Pigeonhole Bootstrap" (2007). Percentiles of so few trainings cover too
seldom. The interval is then the estimate plus and minus standard errors from the bootstrap, as many as Student's t has
for the effective degrees of freedom: Satterthwaite, "An Approximate Distribution of Estimates of Variance Components"
(1946). With one training only images are resampled, and the interval is that of the percentiles; the variation between
trainings is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from latent_atlas.errors import DataError

LEVEL = 0.95
RESAMPLES = 2000

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and its interval; all NaN where there are no values."""

    estimate: float
    low: float
    high: float


def interval(
    values: Floats, statistic: str = "mean", level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """A mean or median with its bootstrap interval.

    Parameters
    ----------
    values : array (S, N), or (N,) for one training
        One value for each training and image; NaN where it is undefined.
    statistic : {"mean", "median"}
    level : float
        The probability with which such intervals cover what they estimate.
    resamples : int
    seed : int
        Of the resampling.

    Raises
    ------
    DataError
        If there are more than two dimensions, or the statistic or the level is none.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))  # S x N
    if values.ndim != 2 or statistic not in ("mean", "median") or not 0 < level < 1:
        raise DataError(
            f"an interval needs values (trainings, images), mean or median, and a level between 0 and 1, not an array "
            f"of shape {values.shape}, {statistic!r} and {level}"
        )
    weighted = _mean if statistic == "mean" else _median
    return _bootstrapped(lambda ways: weighted(values, *ways), values.shape, level, resamples, seed)


def difference(
    a: Floats, b: Floats, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Interval, str]:
    """The mean difference between two manifolds at the same images, with its interval, and what can be said of it.

    Parameters
    ----------
    a, b : arrays (S, N) and (T, N), or (N,)
        Values of one or more trainings each; column n of both belongs to the same image, and is left out where a value
        is undefined.

    Returns
    -------
    Interval
        Of a - b.
    verdict : {"a is smaller", "b is smaller", "cannot tell"}

    Raises
    ------
    DataError
        If they are not of the same number of images.
    """
    a, b = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (a, b))
    if a.shape[1] != b.shape[1]:
        raise DataError(f"values at {a.shape[1]} and at {b.shape[1]} images cannot be paired: measure the same images")
    known = np.isfinite(a).all(0) & np.isfinite(b).all(0)  # N
    a, b = a[:, known], b[:, known]

    def drawn(ways: list[Floats]) -> Floats:
        of_a, of_b, images = ways
        return _mean(a, of_a, images) - _mean(b, of_b, images)

    found = _bootstrapped(drawn, (len(a), len(b), a.shape[1]), level, resamples, seed)
    verdict = "a is smaller" if found.high < 0 else "b is smaller" if found.low > 0 else "cannot tell"
    return found, verdict


def interval_of_pairs(
    values: Floats, alike: bool = False, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The mean over pairs of trainings and over images, with its interval.

    Pairs with a training in common are no independent values: trainings are resampled, not pairs.

    Parameters
    ----------
    values : array (S, T, N)
        One value for each of S trainings of one model, each of T of another, and each image. An image is left out where
        a value is undefined.
    alike : bool
        Whether both are the same trainings of one model: a symmetric array, of which the pairs of a training with
        itself are left out. Its mean is a U-statistic, whose pseudo-values by training vary as trainings do: Arvesen,
        "Jackknifing U-Statistics" (1969). They need three trainings; with two only images are resampled.
    """
    count, others, _ = values.shape
    pairs = np.triu(np.ones((count, count), dtype=bool), 1) if alike else np.ones((count, others), dtype=bool)
    values = values[..., np.isfinite(values[pairs]).all(0)]  # S x T x n
    if alike and count > 2:
        of_each = values[~np.eye(count, dtype=bool)].reshape(count, count - 1, -1).sum(1)  # S x n
        whole = of_each.sum(0) / 2  # n
        without = (whole - of_each) / math.comb(count - 1, 2)  # S x n: means over the pairs of the other trainings
        values = count * whole / math.comb(count, 2) - (count - 1) * without
        return interval(values, "mean", level, resamples, seed)
    if alike or count == others == 1:
        return interval(values[pairs], "mean", level, resamples, seed)

    def drawn(ways: list[Floats]) -> Floats:
        of_a, of_b, images = ways
        return _mean(values[pairs], (of_a[:, :, None] * of_b[:, None]).reshape(-1, count * others), images)

    return _bootstrapped(drawn, values.shape, level, resamples, seed)


def _bootstrapped(
    drawn: Callable[[list[Floats]], Floats], sizes: Sequence[int], level: float, resamples: int, seed: int
) -> Interval:
    """The interval of a statistic of resamples in several ways, of which the last is that of the images.

    ``drawn`` gets for each way the weights (B, n) of its n things in B resamples, or (1, n), and gives (B,) values.
    """
    ones = [np.ones((1, n)) for n in sizes]
    estimate = float(drawn(ones)[0])
    if np.isnan(estimate):
        return Interval(estimate, estimate, estimate)
    counts = [_counts(n, resamples, seed + way) for way, n in enumerate(sizes)]
    values = drawn(counts)
    if max(sizes[:-1]) == 1:
        low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        return Interval(estimate, float(low), float(high))
    alone = ([*ones[:way], counts[way], *ones[way + 1 :]] for way in range(len(sizes)))
    variances = np.array([np.nanvar(drawn(weights)) for weights in alone])
    freedom = np.maximum(np.array(sizes) - 1, 1)
    total = np.nanvar(values) + (variances / freedom).sum()  # a resample of n varies too little by (n - 1) / n
    if not total > 0:
        return Interval(estimate, estimate, estimate)
    effective = variances.sum() ** 2 / (variances**2 / freedom).sum()
    reach = float(stats.t.ppf((1 + level) / 2, effective) * np.sqrt(total))
    return Interval(estimate, estimate - reach, estimate + reach)


@lru_cache(maxsize=8)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    """How often each of n things is drawn in each resample of size n: (B, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _mean(values: Floats, trainings: Floats, images: Floats) -> Floats:
    """Weighted means (B,) of values (S, N) for weights (B or 1, S) and (B or 1, N)."""
    known = np.isfinite(values)
    totals, weights = (trainings * (images @ part.T) for part in (np.where(known, values, 0), known.astype(float)))
    with np.errstate(invalid="ignore"):
        found: Floats = totals.sum(1) / weights.sum(1)
    return found


def _median(values: Floats, trainings: Floats, images: Floats) -> Floats:
    """Weighted medians (B,) of values (S, N) for weights (B or 1, S) and (B or 1, N)."""
    rows, columns = np.isfinite(values).nonzero()
    order = np.argsort(values[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    ranked = values[rows, columns]  # M, smallest first
    medians = np.full(max(len(trainings), len(images)), np.nan)
    for resample in range(len(medians)):
        reached = (trainings[resample % len(trainings), rows] * images[resample % len(images), columns]).cumsum()  # M
        if len(reached) and reached[-1]:
            # The values on both sides of the middle, which are one value if the middle lies within it.
            low, high = (reached.searchsorted(reached[-1] / 2, side) for side in ("left", "right"))
            medians[resample] = (ranked[low] + ranked[high]) / 2
    return medians

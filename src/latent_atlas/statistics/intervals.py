"""Intervals of means, medians and shares over images, and over images and trainings.

All trainings are measured at the same images, so that their values form a matrix, trainings by images. Rows and columns
are resampled, each on its own: Owen, "The Pigeonhole Bootstrap" (2007). The interval is the estimate plus and minus
√(Σ t² s²) over both ways, s the standard error from the bootstrap of one way, t the quantile of Student's t for as many
trainings or images: Howe, "Approximate Confidence Limits on the Mean of X + Y Where X and Y Are Two Tabled Independent
Random Variables" (1974). It covers at least as often as it says, also with two trainings, and is then wide: pooled
degrees of freedom (Satterthwaite) take two trainings that are alike by accident for ones that always are.

With one training only images are resampled; the variation between trainings is not in the interval. Its limits are
percentiles of the resamples, further out for few images: Hesterberg, "What Teachers Should Know about the Bootstrap"
(2015). Of fewer than :data:`FEWEST` images there is no interval.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy  # which loads a part of it when it is used
from numpy.typing import NDArray

from latent_atlas.errors import DataError

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 6  # images: the range of five contains the median of all with less than 95%
ROUNDING = 1e-12  # a mean difference up to this part of the largest value is one of rounding

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate and its interval; all NaN where there are no values, the limits where there are too few."""

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
    return Interval(*intervals(values[..., None], statistic, level, resamples, seed)[:, 0].tolist())


def intervals(
    values: Floats, statistic: str = "mean", level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """As :func:`interval` for C quantities at once: values (S, N, C) to estimates, lower and upper limits (3, C)."""
    if values.ndim != 3 or statistic not in ("mean", "median") or not 0 < level < 1:
        raise DataError(
            f"an interval needs values (trainings, images), mean or median, and a level between 0 and 1, not an array "
            f"of shape {values.shape[:2]}, {statistic!r} and {level}"
        )
    drawn = _means if statistic == "mean" else _medians
    images = drawn(values, 1, _counts(values.shape[1], resamples, seed))  # B x C
    trainings = drawn(values, 0, _counts(len(values), resamples, seed + 1)) if len(values) > 1 else None
    known = np.isfinite(values)
    estimate = drawn(values, 1, np.ones((1, values.shape[1])))[0]
    return _limits(estimate, images, known.any(0).sum(0), [(trainings, known.any(1).sum(0))], level)


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
    a, b = (np.atleast_2d(np.asarray(values, dtype=np.float64))[..., None] for values in (a, b))
    found = Interval(*differences(a, b, level, resamples, seed)[:, 0].tolist())
    return found, verdict(found.low, found.high)


def differences(a: Floats, b: Floats, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """As :func:`difference` for C quantities at once: values (S, N, C) and (T, N, C) to a - b and its limits (3, C)."""
    if a.shape[1:] != b.shape[1:]:
        raise DataError(f"values at {a.shape[1]} and at {b.shape[1]} images cannot be paired: measure the same images")
    known = np.isfinite(a).all(0) & np.isfinite(b).all(0)  # N x C
    a, b = (np.where(known, values, np.nan) for values in (a, b))
    counts = _counts(a.shape[1], resamples, seed)
    images = _means(a, 1, counts) - _means(b, 1, counts)  # B x C
    estimate = (_means(a, 1, np.ones((1, a.shape[1]))) - _means(b, 1, np.ones((1, a.shape[1]))))[0]
    trainings = [
        (_means(values, 0, _counts(len(values), resamples, seed + way)) if len(values) > 1 else None,
         np.full(a.shape[2], len(values)))
        for way, values in enumerate((a, b), start=1)
    ]  # fmt: skip
    found = _limits(estimate, images, known.sum(0), trainings, level)
    size = np.fmax(np.abs(a).max((0, 1), where=known, initial=0), np.abs(b).max((0, 1), where=known, initial=0))  # C
    rounding = np.abs(estimate) <= ROUNDING * size  # which is no difference
    found[1:, rounding] = np.stack([np.fmin(found[1, rounding], 0), np.fmax(found[2, rounding], 0)])
    return found


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
    if alike or count == others == 1 or not values.size:
        return interval(values[pairs], "mean", level, resamples, seed)
    images = values.shape[2]
    drawn = _means(values.reshape(count * others, images, 1), 1, _counts(images, resamples, seed))  # B x 1
    trainings = [
        (_means(values.mean((1 - side, 2))[:, None, None], 0, _counts(size, resamples, seed + 1 + side))
         if size > 1 else None, np.array([size]))
        for side, size in enumerate((count, others))
    ]  # fmt: skip
    estimate = np.array([values.mean()])
    return Interval(*_limits(estimate, drawn, np.array([images]), trainings, level)[:, 0].tolist())


def verdict(low: float, high: float) -> str:
    """What the interval of a difference a - b says."""
    return "a is smaller" if high < 0 else "b is smaller" if low > 0 else "cannot tell"


def share(holds: NDArray[np.bool_], level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The share of images at which something holds.

    Wilson's score interval (1927) for one training, that of :func:`interval` for several. Where it holds at all N
    images for all trainings, or at none, the other limit is one-sided: 1 - level to the power 1 / N, about 1 - 3 / N at
    95% (the rule of three).

    Parameters
    ----------
    holds : array (S, N), or (N,) for one training
    """
    holds = np.atleast_2d(holds)  # S x N
    images, held = holds.shape[1], int(holds.sum())
    if not images:
        return Interval(np.nan, np.nan, np.nan)
    if held in (0, holds.size):
        sided = scipy.stats.binomtest(images if held else 0, images, alternative="greater" if held else "less")
        return Interval(float(held > 0), *sided.proportion_ci(level, "exact"))
    if len(holds) == 1:
        return Interval(held / images, *scipy.stats.binomtest(held, images).proportion_ci(level, "wilson"))
    estimate, low, high = interval(holds.astype(np.float64), "mean", level, resamples, seed)
    return Interval(estimate, max(low, 0.0), min(high, 1.0))


def _limits(
    estimate: Floats, images: Floats, count: NDArray[np.int64],
    trainings: list[tuple[Floats | None, NDArray[np.int64]]], level: float,
) -> Floats:  # fmt: skip
    """Estimates (C,) with their limits, (3, C), from resamples (B, C) of images and of the trainings of each manifold.

    ``count`` and what stands beside the resamples of trainings are the numbers (C,) of those with values.
    """
    limits = np.full((2, len(estimate)), np.nan)
    enough = count >= FEWEST
    several = [(drawn, n) for drawn, n in trainings if drawn is not None]
    if several:
        squares = np.zeros(enough.sum())
        for drawn, n in [(images, count), *several]:
            n = np.maximum(n[enough], 2)  # one training has no variance
            factor = n / (n - 1)  # a resample of n varies too little by (n - 1) / n
            squares += scipy.stats.t.ppf((1 + level) / 2, n - 1) ** 2 * factor * np.nanvar(drawn[:, enough], axis=0)
        limits[:, enough] = estimate[enough] + np.sqrt(squares) * np.array([[-1], [1]])
    else:
        for n in np.unique(count[enough]):
            here = count == n
            outer = scipy.stats.norm.cdf(np.sqrt(n / (n - 1)) * scipy.stats.t.ppf((1 - level) / 2, n - 1))
            limits[:, here] = np.nanquantile(images[:, here], [outer, 1 - outer], axis=0)
    return np.vstack([estimate, limits])


@lru_cache(maxsize=4)
def _counts(n: int, resamples: int, seed: int) -> Floats:
    """How often each of n things is drawn in each resample of size n: (B, n)."""
    draw = np.random.default_rng(seed).multinomial
    return draw(n, np.full(n, 1 / n), size=resamples).astype(np.float64) if n else np.zeros((resamples, 0))


def _means(values: Floats, way: int, counts: Floats) -> Floats:
    """Means (B, C) of values (S, N, C) where those along axis ``way`` are drawn so often (B, S or N)."""
    known = np.isfinite(values)
    totals, weights = np.where(known, values, 0).sum(1 - way), known.sum(1 - way)  # S or N x C
    with np.errstate(invalid="ignore"):
        found: Floats = (counts @ totals) / (counts @ weights)
    return found


def _medians(values: Floats, way: int, counts: Floats) -> Floats:
    """Medians (B, C) of values (S, N, C) where those along axis ``way`` are drawn so often (B, S or N)."""
    different, each = np.unique(counts, axis=0, return_inverse=True) if way == 0 else (counts, np.arange(len(counts)))
    medians = np.full((len(different), values.shape[2]), np.nan)
    for column, plane in enumerate(np.moveaxis(values, 2, 0)):
        places = np.isfinite(plane).nonzero()
        order = np.argsort(plane[places], kind="stable")
        ranked, drawn = plane[places][order], places[way][order]  # M, smallest first
        middle, reach = len(ranked) // 2, math.ceil(2.5 * len(plane) * math.sqrt(plane.shape[1]))  # five deviations
        found = _weighted_medians(ranked, drawn, different, max(middle - reach, 0), middle + reach)
        again = np.isnan(found)  # outside of that, or without a value
        if again.any() and len(ranked):
            found[again] = _weighted_medians(ranked, drawn, different[again], 0, len(ranked))
        medians[:, column] = found
    return medians[each]


def _weighted_medians(ranked: Floats, drawn: NDArray[np.int64], counts: Floats, start: int, end: int) -> Floats:
    """Medians (B,) of ascending values (M,) if the thing ``drawn`` (M,) that each is of is drawn so often (B, n).

    NaN where a median is not one of the values from ``start`` to ``end``, or nothing is drawn.
    """
    things = np.arange(counts.shape[1] + 1)
    below, total = (counts @ np.histogram(part, things)[0] for part in (drawn[:start], drawn))  # B
    reached = below + counts.T[drawn[start:end]].cumsum(0)  # m x B
    # The values on both sides of the middle, which are one value if the middle lies within it.
    low, high = start + (2 * reached < total).sum(0), start + (2 * reached <= total).sum(0)
    inside = (2 * below < total) & (high < min(end, len(ranked)))
    found = np.full(len(counts), np.nan)
    found[inside] = (ranked[low[inside]] + ranked[high[inside]]) / 2
    return found

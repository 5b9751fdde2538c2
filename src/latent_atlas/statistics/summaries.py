"""Tables over a sample of images: means and medians of each model, by class as well, and differences between models.

They are made of a long table with the columns ``model``, ``seed`` (null for a model of one training), ``split``,
``image``, ``label``, further keys such as ``transformation``, and columns of values. A value that is null or infinite
is undefined and left out. The intervals, of 95%, are those of :mod:`latent_atlas.statistics.intervals`: where ``seeds``
is 1, the variation between trainings is not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from latent_atlas.errors import DataError
from latent_atlas.statistics import intervals

ENDINGS = ("", "_low", "_high")


class _Cube(NamedTuple):
    """Values (S, N, C, V) of a model: of S trainings at N images for C combinations of keys."""

    model: str
    keys: list[tuple[Hashable, ...]]  # C
    values: intervals.Floats


def summarized(table: pd.DataFrame, values: Sequence[str], keys: Sequence[str] = ("latent_dim",)) -> pd.DataFrame:
    """Means and medians over the images and trainings: a row for each model and its keys.

    Parameters
    ----------
    table : DataFrame
        See the module.
    values : names of columns
        Of what means and medians are taken.
    keys : names of columns
        What a row is of beside its model.

    Returns
    -------
    DataFrame
        ``model``, the keys, ``seeds`` and ``images`` (how many), ``undefined`` (images at which one of the values is);
        of each value ``*_mean, *_mean_low, *_mean_high, *_median, *_median_low, *_median_high``; and ``reason``, why
        limits are null.

    Raises
    ------
    DataError
        If a model has two rows of the same keys, training and image.
    """
    tables = []
    for cube in _cubes(table, values, keys):
        seeds, images, combined, quantities = cube.values.shape
        known = np.isfinite(cube.values)
        few = known.any(0).sum(0).min(1) < intervals.FEWEST  # C
        columns: dict[str, object] = {"model": cube.model}
        columns |= dict(zip(keys, zip(*cube.keys, strict=True), strict=True))
        columns |= {"seeds": seeds, "images": images, "undefined": (~known).any((0, 3)).sum(0)}
        flat = cube.values.reshape(seeds, images, -1)  # S x N x CV
        found = {
            statistic: intervals.intervals(flat, statistic).reshape(3, combined, quantities)
            for statistic in ("mean", "median")
        }
        columns |= {
            f"{value}_{statistic}{ending}": numbers[line, :, number]
            for number, value in enumerate(values)
            for statistic, numbers in found.items()
            for line, ending in enumerate(ENDINGS)
        }
        columns["reason"] = [f"a value at fewer than {intervals.FEWEST} images" if one else None for one in few]
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def differences(table: pd.DataFrame, values: Sequence[str], keys: Sequence[str] = ()) -> pd.DataFrame:
    """Mean differences between all pairs of models at the same images: a row for each pair, its keys and each value.

    Parameters
    ----------
    table, values
        As for :func:`summarized`.
    keys : names of columns
        Only combinations that both models have are compared.

    Returns
    -------
    DataFrame
        ``a, b``, the keys, ``quantity`` (name of the value), ``seeds_a, seeds_b``, ``images`` (at which all trainings
        of both have a value), ``difference`` (a - b), ``low, high``, and ``verdict``: *a is smaller*, *b is smaller* or
        *cannot tell*, which is also said where there are too few images.
    """
    rows: list[tuple[object, ...]] = []
    for a, b in combinations(_cubes(table, values, keys), 2):
        both = [key for key in a.keys if key in b.keys]
        x, y = (
            cube.values[:, :, [cube.keys.index(key) for key in both]].reshape(*cube.values.shape[:2], -1)  # S x N x CV
            for cube in (a, b)
        )
        found = intervals.differences(x, y)
        images = (np.isfinite(x).all(0) & np.isfinite(y).all(0)).sum(0)  # CV
        heads = [(*key, value) for key in both for value in values]
        for head, count, (estimate, low, high) in zip(heads, images, found.T, strict=True):
            said = intervals.verdict(low, high)
            rows.append((a.model, b.model, *head, len(x), len(y), count, estimate, low, high, said))
    columns = ["a", "b", *keys, "quantity", "seeds_a", "seeds_b", "images", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def by_class(
    make: Callable[[pd.DataFrame, Sequence[str], Sequence[str]], pd.DataFrame],
    table: pd.DataFrame,
    values: Sequence[str],
    keys: Sequence[str] = (),
) -> pd.DataFrame:
    """What :func:`summarized` or :func:`differences` makes of the images of each class, with ``label`` as further key.

    A class without images in the table has no row.
    """
    made = [make(rows, values, [*keys, "label"]) for _, rows in table.groupby("label")]
    return pd.concat(made, ignore_index=True)


def with_chance(summary: pd.DataFrame, table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A summary by ``model`` and keys, with the means of ``chance_deg`` and ``chance_share`` of the same rows."""
    by = ["model", *keys]
    return summary.merge(table.groupby(by, sort=False)[["chance_deg", "chance_share"]].mean().reset_index(), on=by)


def _cubes(table: pd.DataFrame, values: Sequence[str], keys: Sequence[str]) -> Iterator[_Cube]:
    """The values of each model, in the order of the table; the images are the same for all."""
    image = table.groupby(["split", "image"]).ngroup().to_numpy()
    for model, rows in table.assign(image=image).groupby("model", sort=False):
        seed, seeds = pd.factorize(rows["seed"], sort=True, use_na_sentinel=False)
        cells = rows.groupby(["model", *keys], sort=False, dropna=False)
        count = cells.ngroups
        cube = np.full((len(seeds), image.max() + 1, count, len(values)), np.nan)
        places = seed, rows["image"].to_numpy(), cells.ngroup().to_numpy()
        if len(np.unique(np.ravel_multi_index(places, cube.shape[:3]))) < len(rows):
            raise DataError(
                f"{model} has two rows of the same training and image: name {', '.join(keys)} and more keys"
            )
        cube[places] = rows[values].to_numpy(np.float64)
        yield _Cube(str(model), [tuple(key) for key in cells.head(1)[list(keys)].to_numpy(object)], cube)


def quantiles(
    table: pd.DataFrame, value: str, keys: Sequence[str], shares: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
) -> pd.DataFrame:
    """Quantiles of a value over the images of all trainings: a row for each model, its keys and each quantile.

    Parameters
    ----------
    table : DataFrame
        See the module.
    value : name of a column
    keys : names of columns
        What a row is of beside its model.
    shares : numbers from 0 to 1

    Returns
    -------
    DataFrame
        ``model``, the keys, ``images`` (with a value), ``quantile``, and the value. Models without one are left out.
    """
    known = table[np.isfinite(table[value].astype(float))]
    found = known.groupby(["model", *keys], sort=False)[value]
    rows = found.quantile(list(shares)).rename_axis(["model", *keys, "quantile"]).reset_index()
    counts = known.drop_duplicates(["model", *keys, "image"]).groupby(["model", *keys], sort=False).size()
    rows.insert(1 + len(keys), "images", counts.loc[pd.MultiIndex.from_frame(rows[["model", *keys]])].to_numpy())
    return rows

"""The variation of distances between trainings, where it is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from latent_atlas.statistics.variation import variation


def table(distances: np.ndarray, model: str = "fc2") -> pd.DataFrame:
    """The long table of distances (seeds, pairs)."""
    seeds, pairs = distances.shape
    keys = {"model": model, "seed": np.repeat(range(seeds), pairs), "pair": np.tile(range(pairs), seeds)}
    return pd.DataFrame(keys | {"length": distances.ravel(), "other": 1.0})


def test_coefficients_of_two_seeds() -> None:
    """Distances 1 and 3: standard deviation 2^(1/2), mean 2."""
    found = variation(table(np.repeat([[1.0], [3.0]], 8, axis=1)), ["length", "other"])
    assert found["quantity"].tolist() == ["length", "other"]
    assert found[["seeds", "pairs"]].to_numpy().tolist() == [[2, 8], [2, 8]]
    assert found["variation"].tolist() == pytest.approx([math.sqrt(2) / 2, 0])
    assert found["scaled"].tolist() == pytest.approx([0, 0], abs=1e-12)  # a scale alone
    assert found["variation_low"].tolist() == pytest.approx(found["variation"].tolist())


def test_the_true_coefficient_lies_within_the_interval() -> None:
    random = np.random.default_rng(0)
    wanted = [np.std(row, ddof=1) / np.mean(row) for row in random.normal(10, 1, (100_000, 3))]
    found = variation(table(random.normal(10, 1, (3, 400))), ["length"]).iloc[0]
    assert found["variation_low"] < np.mean(wanted) < found["variation_high"]
    assert found["variation_high"] - found["variation_low"] < 0.02


def test_one_seed_has_no_row_but_columns() -> None:
    pca = table(np.ones((1, 5)), "pca2").assign(seed=None)
    found = variation(pd.concat([table(np.ones((1, 5))), pca]), ["length"])
    assert found.empty
    assert {"model", "quantity", "seeds", "pairs", "variation", "scaled_high"} <= set(found.columns)


def test_undefined_distances_are_left_out() -> None:
    distances = np.array([[1.0, 0.0, math.nan, 2.0], [1.0, 0.0, 1.0, 2.0]])
    found = variation(table(distances), ["length"])
    assert found["pairs"].tolist() == [2]
    assert found["variation"].tolist() == [0]

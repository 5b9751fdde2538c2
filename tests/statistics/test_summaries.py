"""Summaries: the numbers of single intervals, in tables; classes; differences between models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latent_atlas.errors import DataError
from latent_atlas.statistics.intervals import difference, interval
from latent_atlas.statistics.summaries import by_class, differences, quantiles, summarized

SIZES = {"one": 3, "other": 2, "pca": 1}  # trainings
KINDS = ("turn", "shift")
IMAGES = 30


def table(seed: int = 0) -> pd.DataFrame:
    """Three models, two kinds, 30 images of two classes; two values, of which one is undefined at two images."""
    draw = np.random.default_rng(seed)
    rows = [
        {
            "model": model, "seed": number if model != "pca" else None, "latent_dim": k, "split": "test",
            "image": 5 * image, "label": "ab"[int(image % 3 == 0)], "kind": kind,
            "score": draw.normal(loc=9 * k), "angle": np.nan if kind == "turn" and image < 2 else draw.normal(),
        }
        for k, (model, size) in enumerate(SIZES.items())
        for number in range(size)
        for image in draw.permutation(IMAGES)
        for kind in KINDS
    ]  # fmt: skip
    return pd.DataFrame(rows)


def matrix(rows: pd.DataFrame, model: str, kind: str, value: str) -> np.ndarray:
    """Trainings by images."""
    chosen = rows[(rows["model"] == model) & (rows["kind"] == kind)]
    return chosen.assign(seed=chosen["seed"].fillna(0)).pivot(index="seed", columns="image", values=value).to_numpy()


class TestSummarized:
    """A row for each model and kind."""

    def test_holds_the_intervals_of_each_value(self) -> None:
        rows = table()
        found = summarized(rows, ["score", "angle"], ["latent_dim", "kind"])
        assert list(zip(found["model"], found["kind"], strict=True)) == [(m, kind) for m in SIZES for kind in KINDS]
        assert found["latent_dim"].tolist() == [0, 0, 1, 1, 2, 2]
        assert found["seeds"].tolist() == [3, 3, 2, 2, 1, 1]
        assert set(found["images"]) == {IMAGES}
        assert found["undefined"].tolist() == [2, 0] * 3
        assert found["reason"].isna().all()
        for row in found.to_dict("records"):
            for value in ("score", "angle"):
                for statistic in ("mean", "median"):
                    expected = interval(matrix(rows, row["model"], row["kind"], value), statistic)
                    names = [f"{value}_{statistic}{ending}" for ending in ("", "_low", "_high")]
                    assert [row[name] for name in names] == pytest.approx(expected, rel=1e-12)

    def test_same_table_same_bytes_whatever_the_order_of_images(self) -> None:
        rows = table()
        found = summarized(rows, ["score"], ["kind"])
        pd.testing.assert_frame_equal(found, summarized(rows, ["score"], ["kind"]), check_exact=True)
        mixed = rows.sample(frac=1, random_state=0).sort_values("model", key=lambda m: m.map(list(SIZES).index))
        mixed = summarized(mixed, ["score"], ["kind"]).sort_values(["model", "kind"], ignore_index=True)
        wanted = found.sort_values(["model", "kind"], ignore_index=True)
        pd.testing.assert_frame_equal(wanted, mixed, rtol=1e-12)

    def test_infinite_values_are_left_out(self) -> None:
        rows = (
            table()
            .query("model == 'pca' and kind == 'turn'")
            .assign(score=lambda t: t["score"].where(t["image"] > 5, np.inf))
        )
        found = summarized(rows, ["score"])
        assert found["undefined"].tolist() == [2]
        assert found["score_mean"].item() == pytest.approx(rows["score"][rows["image"] > 5].mean())

    def test_two_rows_of_the_same_image(self) -> None:
        with pytest.raises(DataError, match="one has two rows of the same training and image"):
            summarized(table(), ["score"], ["latent_dim"])


class TestByClass:
    """The same for the images of each class."""

    def test_is_that_of_its_images(self) -> None:
        rows = table()
        found = by_class(summarized, rows, ["score"], ["kind"])
        assert found["label"].tolist() == ["a"] * 6 + ["b"] * 6
        assert found["images"].tolist() == [20] * 6 + [10] * 6
        alone = summarized(rows[rows["label"] == "b"], ["score"], ["kind"])
        pd.testing.assert_frame_equal(found[6:].drop(columns="label").reset_index(drop=True), alone)
        pairs = by_class(differences, rows, ["score"], ["kind"])
        assert pairs.groupby("label")["images"].unique().map(list).to_dict() == {"a": [20], "b": [10]}

    def test_of_one_image_has_a_mean_and_a_reason(self) -> None:
        rows = table()
        rows.loc[rows["image"] == 0, "label"] = "rare"
        found = by_class(summarized, rows, ["score"], ["kind"]).query("label == 'rare'")
        assert set(found["images"]) == {1}
        assert found["score_mean"].notna().all()
        assert found[["score_mean_low", "score_mean_high", "score_median_low"]].isna().all(axis=None)
        assert set(found["reason"]) == {"a value at fewer than 6 images"}
        pairs = by_class(differences, rows, ["score"], ["kind"]).query("label == 'rare'")
        assert set(pairs["verdict"]) == {"cannot tell"}
        assert pairs["difference"].notna().all()


class TestQuantiles:
    """Where the values of the sample lie."""

    def test_are_those_of_all_trainings(self) -> None:
        rows = table()
        rows.loc[rows["image"] == 0, "score"] = np.nan
        found = quantiles(rows, "score", ["kind"])
        assert len(found) == 6 * 5
        for row in found.to_dict("records"):
            own = rows.query("model == @row['model'] and kind == @row['kind'] and image > 0")
            assert row["score"] == pytest.approx(np.quantile(own["score"], row["quantile"]))
            assert row["images"] == own["image"].nunique()


class TestDifferences:
    """Pairs of models at the same images."""

    def test_are_those_of_single_pairs(self) -> None:
        rows = table()
        found = differences(rows, ["score", "angle"], ["kind"])
        pairs = [("one", "other"), ("one", "pca"), ("other", "pca")]
        assert list(found[["a", "b", "kind", "quantity"]].itertuples(index=False, name=None)) == [
            (*pair, kind, value) for pair in pairs for kind in KINDS for value in ("score", "angle")
        ]
        for row in found.to_dict("records"):
            a, b = (matrix(rows, row[side], row["kind"], row["quantity"]) for side in "ab")
            expected, verdict = difference(a, b)
            assert [row[name] for name in ("difference", "low", "high")] == pytest.approx(expected, rel=1e-12)
            assert row["verdict"] == verdict
            assert (row["seeds_a"], row["seeds_b"]) == (SIZES[row["a"]], SIZES[row["b"]])
            assert row["images"] == (28 if row["kind"] == "turn" and row["quantity"] == "angle" else 30)
        assert set(found.query("quantity == 'score' and b == 'pca'")["verdict"]) == {"a is smaller"}

    def test_only_what_both_have_is_compared(self) -> None:
        rows = table()
        rows = rows[(rows["model"] != "one") | (rows["kind"] != "turn")]
        found = differences(rows, ["score"], ["kind"])
        assert found.query("a == 'one'")["kind"].tolist() == ["shift"] * 2
        assert found.query("a == 'other'")["kind"].tolist() == ["turn", "shift"]

    def test_of_one_model_is_an_empty_table(self) -> None:
        found = differences(table().query("model == 'pca'"), ["score"], ["kind"])
        assert list(found.columns)[:4] == ["a", "b", "kind", "quantity"]
        assert found.empty

"""Agreement of manifolds in tables, and intervals over pairs of trainings."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from surfaces import orthonormal
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.geometry.manifold import PrincipalSubspace
from latent_atlas.statistics import agreement as measured
from latent_atlas.statistics.agreement import agreements
from latent_atlas.statistics.intervals import interval_of_pairs
from latent_atlas.statistics.pairs import SHARED, pairs_of_models


def subspace(components: Tensor) -> PrincipalSubspace:
    """A linear subspace of images of 1 x 4 x 5 pixels through zero."""
    return PrincipalSubspace(components, torch.zeros(20, dtype=torch.float64), (1, 4, 5))


class TestAgreements:
    """The table of all pairs of manifolds."""

    @pytest.fixture
    def surfaces(self) -> dict[str, PrincipalSubspace]:
        """Subspaces of which the second shares two directions of three with the first, and the third none."""
        frame = orthonormal(20, 8).T
        return {"a": subspace(frame[:3]), "b": subspace(frame[1:5]), "none": subspace(torch.zeros(1, 20).double())}

    def test_rows(self, surfaces: dict[str, PrincipalSubspace], monkeypatch: pytest.MonkeyPatch) -> None:
        images = torch.rand(5, 1, 4, 5, dtype=torch.float64)
        done: list[int] = []
        monkeypatch.setattr(measured, "MEMORY", 2 * 8 * 20 * (8 + 16))  # two images
        table = agreements(surfaces, images, report=done.append)
        assert done == [2, 4, 5]
        assert list(zip(table["a"], table["b"], table["image"], strict=True)) == [
            (*pair, image) for pair in (("a", "b"), ("a", "none"), ("b", "none")) for image in range(5)
        ]
        first = table[(table["a"] == "a") & (table["b"] == "b")]
        assert set(zip(first["rank_a"], first["rank_b"], strict=True)) == {(3, 4)}
        np.testing.assert_allclose(first[["shared", "chance"]], [[2 / 3, 4 / 20]] * 5, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            first[["smallest_deg", "median_deg", "largest_deg"]], [[0, 0, 90]] * 5, rtol=0, atol=1e-8
        )
        assert first["reason"].isna().all()

    def test_rank_zero_is_null_with_the_reason(self, surfaces: dict[str, PrincipalSubspace]) -> None:
        table = agreements(surfaces, torch.rand(2, 1, 4, 5), [("none", "a")])
        assert len(table) == 2
        assert table[["shared", "chance", "smallest_deg", "median_deg", "largest_deg"]].isna().all(axis=None)
        assert set(table["reason"]) == {"tangent space of rank zero"}
        assert table["rank_a"].tolist() == [0, 0]

    def test_a_manifold_that_is_too_large_is_left_out(
        self, surfaces: dict[str, PrincipalSubspace], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(measured, "WHOLE", 8 * 20 * 3)
        table = agreements(surfaces, torch.rand(2, 1, 4, 5))
        large = (table["a"] == "b") | (table["b"] == "b")
        assert set(table.loc[large, "reason"]) == {"basis of more than 512 MiB"}
        assert table.loc[large, ["rank_a", "rank_b", "shared"]].isna().all(axis=None)
        assert set(table.loc[~large, "reason"]) == {"tangent space of rank zero"}

    def test_of_one_manifold_there_are_no_pairs(self, surfaces: dict[str, PrincipalSubspace]) -> None:
        table = agreements({"a": surfaces["a"]}, torch.rand(2, 1, 4, 5))
        assert table.empty
        assert {"a", "b", "image", "shared", "chance", "reason"} <= set(table.columns)

    def test_images_of_another_shape(self, surfaces: dict[str, PrincipalSubspace]) -> None:
        with pytest.raises(DataError, match="4 x 5"):
            agreements(surfaces, torch.rand(2, 1, 5, 4))


class TestPairsOfModels:
    """The pairs of trainings of two models as one pair."""

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        """Three trainings of a model and two of another at ten images."""
        names = {"a": "a", "a_seed1": "a", "a_seed2": "a", "b": "b", "b_seed1": "b"}
        rows = [
            (one, other, names[one], names[other], 2, 2, "test", image, index + image / 100)
            for index, (one, other) in enumerate(combinations(names, 2))
            for image in range(10)
        ]
        columns = ["a", "b", "model_a", "model_b", "latent_dim_a", "latent_dim_b", "split", "image", "shared"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(chance=0.1, smallest_deg=1.0, median_deg=2.0, largest_deg=table["shared"], reason=None)

    def test_rows(self, table: pd.DataFrame) -> None:
        found = pairs_of_models(table)
        assert list(zip(found["a"], found["b"], strict=True)) == [("a", "a"), ("a", "b"), ("b", "b")]
        assert found[["seeds_a", "seeds_b"]].to_numpy().tolist() == [[3, 3], [3, 2], [2, 2]]
        assert (found["images"] == 10).all()
        for row in found.itertuples():
            part = table[(table["model_a"] == row.a) & (table["model_b"] == row.b)]
            assert row.shared_mean == pytest.approx(part["shared"].mean())
            assert row.largest_deg == pytest.approx(part["largest_deg"].mean())
            assert row.shared_mean_low < row.shared_mean < row.shared_mean_high

    def test_intervals_are_those_of_pairs(self, table: pd.DataFrame) -> None:
        """Whatever the order of the rows."""
        found = pairs_of_models(table.sample(frac=1, random_state=0)).set_index(["a", "b"])
        values = table["shared"].to_numpy().reshape(10, 10)  # pairs x images
        square = np.full((3, 3, 10), np.nan)
        square[np.triu_indices(3, 1)] = values[[0, 1, 4]]
        square[np.tril_indices(3, -1)] = values[[0, 1, 4]]
        wanted = interval_of_pairs(square, alike=True)
        assert found.loc[("a", "a"), [*SHARED]].tolist() == pytest.approx(wanted)
        wanted = interval_of_pairs(values[[2, 3, 5, 6, 7, 8]].reshape(3, 2, 10))
        assert found.loc[("a", "b"), [*SHARED]].tolist() == pytest.approx(wanted)

    def test_undefined(self, table: pd.DataFrame) -> None:
        table.loc[(table["a"] == "a") & (table["image"] == 4), "shared"] = np.nan
        found = pairs_of_models(table).set_index(["a", "b"])
        assert found["undefined"].tolist() == [1, 1, 0]
        assert found["shared_mean"].notna().all()
        assert found["reason"].isna().all()
        found = pairs_of_models(table.assign(shared=np.nan, reason="why"))
        assert found[[*SHARED]].isna().all(axis=None)
        assert set(found["reason"]) == {"why"}

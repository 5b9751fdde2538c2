"""Agreement of manifolds in tables, and intervals over pairs of trainings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from surfaces import orthonormal
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.geometry.manifold import PrincipalSubspace
from latent_atlas.statistics import agreement as measured
from latent_atlas.statistics.agreement import agreements


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
        images, done = torch.rand(5, 1, 4, 5, dtype=torch.float64), []
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

    def test_of_one_manifold_there_are_no_pairs(self, surfaces: dict[str, PrincipalSubspace]) -> None:
        table = agreements({"a": surfaces["a"]}, torch.rand(2, 1, 4, 5))
        assert table.empty
        assert {"a", "b", "image", "shared", "chance", "reason"} <= set(table.columns)

    def test_images_of_another_shape(self, surfaces: dict[str, PrincipalSubspace]) -> None:
        with pytest.raises(DataError, match="4 x 5"):
            agreements(surfaces, torch.rand(2, 1, 5, 4))

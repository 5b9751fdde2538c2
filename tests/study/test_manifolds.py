from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Study

from latent_atlas.errors import ParamsError
from latent_atlas.study.manifolds import Member, firsts, groups, manifolds, member, members, trained


@pytest.mark.parametrize(
    ("seeds", "own", "found"),
    [
        (1, None, {"fc2": 4}),
        (3, None, {"fc2": 4, "fc2_seed5": 5, "fc2_seed6": 6}),
        ([9, 2], None, {"fc2": 9, "fc2_seed2": 2}),
        (3, 1, {"fc2": 4}),
        (1, [0, 7], {"fc2": 0, "fc2_seed7": 7}),
    ],
)
def test_seeds_of_a_model(study: Study, seeds: Any, own: Any, found: dict[str, int]) -> None:
    study.edit("training.seed", 4)
    study.edit("seeds", seeds)
    if own is not None:
        study.edit("models.fc2.seeds", own)
    of_model = {name: each.seed for name, each in members(study.params).items() if each.model == "fc2"}
    assert of_model == found


def test_a_seed_of_a_models_training_is_its_first(study: Study) -> None:
    study.edit("models.fc2.training", {"seed": 20})
    study.edit("seeds", 2)
    assert member(study.params, "fc2") == ("fc2", 20)
    assert member(study.params, "fc2_seed21") == ("fc2", 21)
    assert member(study.params, "fc4_seed1") == ("fc4", 1)


def test_imported_models_and_pca_have_one_manifold_without_a_seed(study: Study, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    study.edit("models.fc2.state_dict", "weights.pth")
    study.edit("seeds", 3)
    found = members(study.params)
    assert found["fc2"] == Member("fc2", None)
    assert found["pca2"] == Member("pca2", None)
    assert trained(study.params) == ["fc4", "fc4_seed1", "fc4_seed2"]


def test_pictures_show_the_first_seed(study: Study) -> None:
    before = firsts(study.params), groups(study.params)
    assert before[0] == manifolds(study.params)
    study.edit("seeds", 3)
    assert (firsts(study.params), groups(study.params)) == before


def test_unknown_manifold(study: Study) -> None:
    with pytest.raises(ParamsError, match="has no manifold 'fc2_seed1': it has fc2, fc4, pca2"):
        member(study.params, "fc2_seed1")

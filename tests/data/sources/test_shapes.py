"""The source of figures: known factors beside rounded pixels, and options that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import ROOT, Study

from latent_atlas.data.figures import PERIODS, draw, factor_names, ranges
from latent_atlas.data.images import Images
from latent_atlas.data.sources import expected, obtain
from latent_atlas.errors import DataError, ParamsError
from latent_atlas.study import schema as config

WANTED: dict[str, Any] = {"name": "shapes", "size": [12, 15], "colour": "rgb", "options": {"images": 60}, "seed": 3}


def test_pixels_are_the_rounded_figures_of_the_stored_factors(tmp_path: Path) -> None:
    images = obtain(WANTED, tmp_path)
    images.save(tmp_path / "images.safetensors")
    stored = Images.load(tmp_path / "images.safetensors")
    assert (len(stored.train), len(stored.test), stored.shape) == (54, 6, (3, 12, 15))
    assert stored.classes == tuple(PERIODS)
    assert stored.made["factors"] == list(factor_names(3))
    low, high = ranges(stored.shape)
    for split in ("train", "test"):
        factors = getattr(stored, f"{split}_factors")
        kinds = [stored.classes[label] for label in stored.labels(split)]
        error = 255 * draw(kinds, factors, stored.shape) - stored.pixels(split)
        assert error.abs().max() <= 0.5
        others = [0, 1, 3, 4, 5]
        assert ((factors >= low) & (factors <= high))[:, others].all()
        assert (factors[:, 2] <= torch.tensor([PERIODS[kind] for kind in kinds])).all()


def test_seed_and_numbers(tmp_path: Path) -> None:
    images, again = (obtain(WANTED, tmp_path) for _ in range(2))
    other = obtain(WANTED | {"seed": 4}, tmp_path)
    assert images.checksum == again.checksum != other.checksum
    few = obtain(
        WANTED | {"options": {"images": 50, "kinds": ["ring", "ellipse"]}, "test_share": 0.4, "limit": 15}, tmp_path
    )
    assert (len(few.train), len(few.test), few.classes) == (15, 15, ("ring", "ellipse"))
    assert few.train_factors is not None
    assert few.train_factors.shape == (15, 6)
    assert set(few.labels("test").tolist()) == {0, 1}
    grey = obtain(WANTED | {"colour": None, "size": None}, tmp_path)
    assert grey.shape == (1, 24, 24)


def test_numbers_and_shape_are_known_before(tmp_path: Path) -> None:
    images = obtain(WANTED, tmp_path)
    known = expected(WANTED)
    assert (known.train, known.test, known.shape) == (len(images.train), len(images.test), images.shape)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 11}, "dataset.size: 11 pixels are too few for figures; choose at least 12"),
        ({"size": [40, 8]}, "dataset.size: 8 pixels are too few for figures; choose at least 12"),
        ({"options": {"image": 60}}, "dataset.options: shapes have no option 'image'; they have images, kinds"),
        ({"options": {"images": 0}}, "dataset.options.images: 0 cannot be divided with test_share: 0.1; give a whole"),
        ({"options": {"images": -5}}, "dataset.options.images: -5 cannot be divided"),
        ({"options": {"images": 4}}, "dataset.options.images: 4 cannot be divided"),
        ({"options": {"images": 60.0}}, "dataset.options.images: 60.0 cannot be divided"),
        ({"options": {"images": "many"}}, "dataset.options.images: 'many' cannot be divided"),
        ({"options": {"kinds": []}}, r"dataset.options.kinds: \[\] is no list of different kinds; choose of ellipse"),
        ({"options": {"kinds": ["ring", "ring"]}}, r"\['ring', 'ring'\] is no list of different kinds"),
        ({"options": {"kinds": ["star"]}}, r"dataset.options.kinds: \['star'\] is no list"),
        ({"options": {"kinds": "ring"}}, "dataset.options.kinds: 'ring' is no list"),
        ({"folder": "somewhere"}, "dataset: folder does not go with name: shapes; leave it out; known there: colour"),
        ({"crop": "none"}, "dataset: crop does not go with name: shapes"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_told_before_anything_runs(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.edit("dataset", WANTED | changes)
    with pytest.raises(ParamsError, match=words):
        _ = study.params
    if "folder" not in changes and "crop" not in changes:
        with pytest.raises(DataError, match=words):
            obtain(study.values["dataset"], tmp_path)


def test_the_ready_study_fits() -> None:
    params = config.load(ROOT / "studies" / "shapes.yaml")
    assert expected(params.dataset.model_dump()).shape == (3, 24, 24)
    assert set(params.examples) == set(PERIODS)

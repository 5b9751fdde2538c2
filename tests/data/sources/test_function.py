"""A function of the user's gives the images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Study

from latent_atlas.data.images import Images
from latent_atlas.study.sources import dataset, sources

CODE = """
import numpy as np


def stripes(count, side=8):
    pixels = np.random.default_rng(0).random((count, 1, side)).repeat(side, 1)  # N x H x W
    return pixels, ["even", "odd"] * (count // 2)


def broken():
    return len(3)


def nothing():
    pass


def each():
    yield np.zeros((8, 8))


def whole():
    import torch
    from latent_atlas import Images

    pixels, labels = torch.zeros(300, 1, 8, 8, dtype=torch.uint8), torch.zeros(300, dtype=torch.int64)
    return Images("mine", pixels, labels, pixels, labels, ("a",))
"""


@pytest.fixture
def own(study: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(study.folder)
    monkeypatch.syspath_prepend(str(study.folder))
    module = f"mine_{study.folder.name}".replace("-", "_")
    Path(f"{module}.py").write_text(CODE)
    study.edit("examples", {"pullover": "train/0", "sneaker": "train/1"})
    study.edit("interpolate.pairs", {"pair": ["pullover", "sneaker"]})
    study.edit("dataset", {"function": f"{module}:stripes", "options": {"count": 200}})
    return study


def test_its_images_arrive(own: Study) -> None:
    done = own.run("fetch", "--images", "images.safetensors")
    assert done.exit_code == 0, done.output
    images = Images.load(own.folder / "images.safetensors")
    assert images.classes == ("even", "odd")
    assert (images.shape, len(images.train), len(images.test)) == ((1, 8, 8), 180, 20)
    assert images.made["rounded"] == "floats to 1/255"


def test_its_module_is_a_source(own: Study) -> None:
    files = sources("fetch", *dataset(own.params.dataset))
    assert f"{(own.params.dataset.function or '').partition(':')[0]}.py" in files
    stand_in = next(file for file in files if "sources.function" in file)  # for the package's own, outside the study
    assert "data/sources/arrays.py" in Path(stand_in).read_text()


def test_its_own_errors_are_shown_with_their_place(own: Study) -> None:
    own.edit("dataset", {"function": str(own.params.dataset.function).replace("stripes", "broken")})
    done = own.run("fetch", "--images", "images.safetensors")
    assert done.exit_code == 1
    assert ":broken raises TypeError: object of type 'int' has no len() (" in done.stderr
    assert f"{own.folder}/mine_" in done.stderr
    assert ".py, line 11)" in done.stderr


@pytest.mark.parametrize(
    ("name", "says"), [("nothing", "images is no array, but NoneType; needed"), ("each", "no array, but generator;")]
)
def test_what_is_no_array_is_told(name: str, says: str, own: Study) -> None:
    own.edit("dataset", {"function": str(own.params.dataset.function).replace("stripes", name)})
    done = own.run("fetch", "--images", "images.safetensors")
    assert done.exit_code == 1
    assert says in done.stderr


def test_images_are_taken_as_they_are(own: Study) -> None:
    own.edit("dataset", {"function": str(own.params.dataset.function).replace("stripes", "whole")})
    done = own.run("fetch", "--images", "images.safetensors")
    assert done.exit_code == 0, done.output
    images = Images.load(own.folder / "images.safetensors")
    assert (images.name, images.classes, len(images.train), len(images.test)) == ("mine", ("a",), 300, 300)


def test_a_function_that_is_not_there(own: Study) -> None:
    own.edit("dataset", {"function": str(own.params.dataset.function).replace("stripes", "absent")})
    done = own.run("fetch", "--images", "images.safetensors")
    assert done.exit_code == 1
    assert "has no absent" in done.stderr

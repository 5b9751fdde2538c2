"""Datasets of torchvision by the name of their class."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latent_atlas.data import torchvision_import
from latent_atlas.data.sources import obtain, torchvision_names
from latent_atlas.errors import DataError


def test_names_are_found_without_importing_it() -> None:
    names = torchvision_names()
    assert {"CIFAR100", "EMNIST", "SVHN", "FakeData"} <= names
    assert "ImageFolder" not in names


def test_a_set_without_splits_is_divided(tmp_path: Path) -> None:
    options = {"size": 40, "image_size": [3, 6, 5], "num_classes": 4}
    images = obtain({"name": "FakeData", "options": options, "test_share": 0.25, "limit": 9}, tmp_path)
    assert (images.shape, len(images.train), len(images.test)) == ((3, 6, 5), 9, 9)
    assert images.classes[0] == "0"
    whole = obtain({"name": "FakeData", "options": options, "test_share": 0.25}, tmp_path)
    assert (len(whole.train), len(whole.test)) == (30, 10)


def test_splits_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = torchvision_import.datasets().CIFAR100
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name, count in (("train", 12), ("test", 5)):
        pixels = draw.integers(0, 256, (count, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels": list(range(count))}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {number}" for number in range(100)]}))
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *given: True)
    images = obtain({"name": "CIFAR100", "folder": str(tmp_path)}, tmp_path)
    assert (len(images.train), len(images.test)) == (12, 5)
    assert images.test_labels.tolist() == list(range(5))
    assert images.classes[3] == "class 3"
    assert torch.equal(images.test.flatten(1), torch.from_numpy(pixels))
    with pytest.raises(DataError, match=r"CIFAR100 has splits of its own: leave out dataset\.test_share"):
        obtain({"name": "CIFAR100", "folder": str(tmp_path), "seed": 1}, tmp_path)


def test_pictures_of_any_size_get_one(tmp_path: Path) -> None:
    for number in range(10):
        place = tmp_path / "eurosat" / "2750" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 + number, 20), (number, 0, 0)).save(place / f"{number}.png")
    images = obtain({"name": "EuroSAT", "folder": str(tmp_path), "size": [4, 6], "options": {"download": False},
                     "test_share": 0.5}, tmp_path)  # fmt: skip
    assert images.shape == (3, 4, 6)
    assert images.classes == ("class0", "class1")
    assert sorted(torch.cat([images.train, images.test])[:, 0, 0, 0].tolist()) == list(range(10))


@pytest.mark.parametrize(("name", "says"), [("CIFAR100", "does not give CIFAR100 from"), ("ImageNet", "does not give")])
def test_that_cannot_be_had(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        obtain({"name": name, "folder": str(tmp_path)}, tmp_path)
    assert "download=True" not in str(caught.value)


def test_items_that_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    folder = tmp_path / "MovingMNIST"
    folder.mkdir()
    np.save(folder / "mnist_test_seq.npy", np.zeros((20, 4, 64, 64), dtype=np.uint8))
    with pytest.raises(DataError, match="the items of MovingMNIST are not an image and its class"):
        obtain({"name": "MovingMNIST", "folder": str(tmp_path)}, tmp_path)

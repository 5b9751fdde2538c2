"""Images: the one file that holds a dataset, and what cannot be a dataset."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import DataError


def test_file_gives_back_what_was_saved(digits: Images, tmp_path: Path) -> None:
    digits.save(tmp_path / "images.safetensors")
    loaded = Images.load(tmp_path / "images.safetensors")
    for field in dataclasses.fields(Images):
        old, new = getattr(digits, field.name), getattr(loaded, field.name)
        assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
    assert loaded.checksum == digits.checksum


def test_checksum_is_that_of_pixels_and_labels() -> None:
    pixels = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
    labels = torch.tensor([1, 0])
    images = Images("x", pixels, labels, pixels[:1], labels[:1], ("a", "b"))
    stored = bytes(range(8)) + (1).to_bytes(8, "little") + bytes(8) + bytes(range(4)) + (1).to_bytes(8, "little")
    assert images.checksum == hashlib.sha256(stored).hexdigest()


def test_one_pixel_changes_the_checksum(digits: Images) -> None:
    test = digits.test.clone()
    test[100, 0, 3, 3] ^= 1
    assert dataclasses.replace(digits, test=test).checksum != digits.checksum


def test_truncated_file_is_named(digits_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(digits_file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"short\.safetensors is not a readable file of images"):
        Images.load(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.safetensors is not a readable file of images"):
        Images.load(tmp_path / "absent.safetensors")


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other\.safetensors is not a readable file of images"):
        Images.load(tmp_path / "other.safetensors")


def test_impossible_datasets_are_refused(digits: Images) -> None:
    with pytest.raises(DataError, match=r"uint8 of shape \(N, C, H, W\), not torch.float32"):
        dataclasses.replace(digits, train=digits.train.float())
    with pytest.raises(DataError, match=r"not torch.uint8 of shape \(1500, 8, 8\)"):
        dataclasses.replace(digits, train=digits.train[:, 0])
    with pytest.raises(DataError, match="297 test images but 296 labels"):
        dataclasses.replace(digits, test_labels=digits.test_labels[1:])


def test_pixels_as_numbers() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert as_float(pixels, torch.float64).tolist() == [0.0, 51 / 255, 1.0]
    assert pixels.tolist() == [0, 51, 255]


def test_split_by_name(digits: Images) -> None:
    assert digits.pixels("test") is digits.test
    with pytest.raises(ValueError, match="must be 'train' or 'test', not 'validation'"):
        digits.pixels("validation")


def test_floats_are_left_as_they_are_and_never_written_into() -> None:
    pixels = torch.rand(2, 1, 3, 3)
    kept = pixels.clone()
    assert torch.equal(as_float(pixels), kept)
    assert torch.equal(pixels, kept)
    assert as_float(pixels, torch.float64).dtype == torch.float64


@pytest.mark.parametrize("wrong", [torch.full((1, 1, 2, 2), 255.0), torch.tensor([[[[0.5, float("nan")]]]])])
def test_floats_outside_the_range_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        as_float(wrong)


def test_other_types_are_refused() -> None:
    with pytest.raises(DataError, match=r"uint8, or floats in \[0, 1\], not torch.int64"):
        as_float(torch.zeros(1, 1, 2, 2, dtype=torch.int64))

"""Images: the one file that holds a dataset, and what cannot be a dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_atlas import files
from latent_atlas.data.images import Images, as_float
from latent_atlas.data.stored import StoredImages
from latent_atlas.errors import DataError
from latent_atlas.files import write_safetensors


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


def test_the_same_as_arrays(digits: Images, tmp_path: Path) -> None:
    digits.save(tmp_path / "images.safetensors")
    stored = StoredImages.load(tmp_path / "images.safetensors")
    for field in dataclasses.fields(StoredImages):
        old, new = getattr(digits, field.name), getattr(stored, field.name)
        assert np.array_equal(old, new) if isinstance(old, torch.Tensor) else old == new
    assert (stored.shape, stored.checksum) == (digits.shape, digits.checksum)
    assert stored.places({"one": "test/3"}) == [("test", 3)]


@pytest.mark.parametrize("of", [Images, StoredImages])
def test_one_image_is_said_in_singular(of: Any) -> None:
    library: Any = torch if of is Images else np
    make, number = library.zeros, library.uint8
    with pytest.raises(DataError, match="x has 1 train image but 2 labels"):
        of("x", make((1, 1, 2, 2), dtype=number), make(2), make((1, 1, 2, 2), dtype=number), make(1), ("a",))


def test_one_pixel_changes_the_checksum(digits: Images) -> None:
    test = digits.test.clone()
    test[100, 0, 3, 3] ^= 1
    assert dataclasses.replace(digits, test=test).checksum != digits.checksum


def test_truncated_file_is_named(digits_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(digits_file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"short\.safetensors is not a readable safetensors file"):
        Images.load(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.safetensors is not a readable safetensors file"):
        Images.load(tmp_path / "absent.safetensors")


def test_other_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weights": torch.zeros(3)}, path)
    with pytest.raises(DataError, match=r"other\.safetensors has no checksum"):
        Images.load(path)
    write_safetensors(path, {"weights": torch.zeros(3)}, {})
    with pytest.raises(DataError, match=r"other\.safetensors is not a file of images"):
        Images.load(path)


def test_impossible_datasets_are_refused(digits: Images) -> None:
    with pytest.raises(DataError, match=r"uint8 of shape \(N, C, H, W\), not torch.float32"):
        dataclasses.replace(digits, train=digits.train.float())
    with pytest.raises(DataError, match=r"not torch.uint8 of shape \(1500, 8, 8\)"):
        dataclasses.replace(digits, train=digits.train[:, 0])
    with pytest.raises(DataError, match=r"test labels of digits must be int64, not torch\.uint8"):
        dataclasses.replace(digits, test_labels=digits.test_labels.byte())
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


def test_the_file_is_that_of_the_format_s_own_library(digits: Images, tmp_path: Path) -> None:
    digits.save(tmp_path / "ours.safetensors")
    parts = {key: getattr(digits, key) for key in ("train", "train_labels", "test", "test_labels")}
    stored = load_file(tmp_path / "ours.safetensors")
    assert stored.keys() == parts.keys()
    assert all(torch.equal(stored[key], part) for key, part in parts.items())
    save_file(parts, tmp_path / "theirs.safetensors")
    ours, theirs = (
        (tmp_path / f"{name}.safetensors").read_bytes()[-digits.train.nbytes :] for name in ("ours", "theirs")
    )
    assert ours == theirs


def test_how_it_was_made_is_kept(digits: Images, tmp_path: Path) -> None:
    made = {"source": "images", "size": [8, 8], "skipped_unreadable": 2}
    dataclasses.replace(digits, made=made).take(5).save(tmp_path / "images.safetensors")
    assert Images.load(tmp_path / "images.safetensors").made == made


def test_parts_that_do_not_lie_in_one_piece_are_written_in_order(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 1000)
    turned = dataclasses.replace(digits, train=digits.train.transpose(2, 3))
    turned.save(tmp_path / "images.safetensors")
    loaded = Images.load(tmp_path / "images.safetensors")
    assert torch.equal(loaded.train, digits.train.transpose(2, 3))
    assert loaded.checksum == turned.checksum


def test_pixels_stay_in_the_file(tmp_path: Path) -> None:
    """A process reads three images of 200 MB, and holds none of the others in memory."""
    path = tmp_path / "images.safetensors"
    pixels = torch.zeros(200, 1, 1000, 1000, dtype=torch.uint8)
    Images("x", pixels, torch.zeros(200, dtype=torch.int64), pixels[:1], torch.zeros(1, dtype=torch.int64), ("",)).save(
        path
    )
    code = (
        "import sys, re; from pathlib import Path; from latent_atlas.data.images import Images\n"
        "def held(): return int(re.search(r'VmRSS:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "before = held(); images = Images.load(Path(sys.argv[1])); "
        "[images.pixels('train')[i].sum() for i in (0, 100, 199)]; print(held() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux' /proc")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60

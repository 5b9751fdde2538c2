"""Splits: seeded, by label, written in parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_atlas.data import splits
from latent_atlas.data.images import Images
from latent_atlas.data.splits import divided
from latent_atlas.errors import DataError

SHAPE = (1, 2, 2)


def part(index: np.ndarray) -> np.ndarray:
    """Images whose pixels are their number."""
    return np.broadcast_to(index[:, None, None, None], (len(index), *SHAPE)).astype(np.uint8)


def numbers(images: Images) -> Iterator[list[int]]:
    for split in ("train", "test"):
        yield images.pixels(split)[:, 0, 0, 0].tolist()


def test_each_image_is_in_one_split_with_its_label(tmp_path: Path) -> None:
    labels = torch.arange(100) % 4
    images = divided("x", part, 100, SHAPE, labels, "abcd", tmp_path, {}, 0.2, 3)
    train, test = numbers(images)
    assert sorted(train + test) == list(range(100))
    assert images.train_labels.tolist() == [number % 4 for number in train]
    assert images.test_labels.bincount().tolist() == [5] * 4
    assert train != sorted(train)  # so that the first few are of several labels
    assert images.made == {"test_share": 0.2, "seed": 3}


def test_the_seed_chooses(tmp_path: Path) -> None:
    first, again, other = (list(numbers(divided("x", part, 50, SHAPE, None, [""], tmp_path, {}, 0.2, seed)))
                           for seed in (0, 0, 1))  # fmt: skip
    assert first == again != other


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (4, 0.1), (4, 0.9)])
def test_an_empty_split_is_refused(tmp_path: Path, count: int, share: float) -> None:
    with pytest.raises(DataError, match=rf"x: of {count} images?, dataset\.test_share: {share} leaves"):
        divided("x", part, count, SHAPE, None, [""], tmp_path, {}, share, 0)


def test_parts_make_no_difference_and_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = divided("x", part, 100, SHAPE, None, [""], tmp_path, {})
    monkeypatch.setattr(splits, "PART_BYTES", 30)
    asked: list[int] = []

    def few(index: np.ndarray) -> np.ndarray:
        asked.append(len(index))
        return part(index)

    assert divided("x", few, 100, SHAPE, None, [""], tmp_path, {}).checksum == whole.checksum
    assert max(asked) == 7
    assert list(tmp_path.iterdir()) == []  # nothing is left behind

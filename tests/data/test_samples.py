"""Samples: the share of each label, and chance where shares are equal."""

from __future__ import annotations

import pytest
import torch

from latent_atlas.data.samples import pairs, stratified
from latent_atlas.errors import DataError


def test_labels_of_one_image_each_are_drawn_at_random() -> None:
    labels = torch.arange(100)
    samples = [stratified(labels, 10, seed).tolist() for seed in range(5)]
    assert len({tuple(sample) for sample in samples}) == 5
    assert all(len(set(sample)) == 10 for sample in samples)
    assert sorted({label for sample in samples for label in sample})[-1] > 50
    assert samples[0] == stratified(labels, 10, 0).tolist()


def test_largest_remainders_come_first() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])  # shares of 5: 3, 1.5, 0.5; one of the last two gets one more
    for seed in range(5):
        counts = labels[stratified(labels, 5, seed)].bincount(minlength=3).tolist()
        assert counts in ([3, 2, 0], [3, 1, 1])
    labels = torch.tensor([0] * 7 + [1] * 3)  # shares of 4: 2.8, 1.2
    assert all(labels[stratified(labels, 4, seed)].bincount().tolist() == [3, 1] for seed in range(5))


def test_label_without_images_and_labels_of_one() -> None:
    labels = torch.tensor([0, 3, 3, 3, 5])  # of classes 0 to 5
    assert stratified(labels, 5, 0).tolist() == [0, 1, 2, 3, 4]
    assert all({0, 4} < set(stratified(labels, 4, seed).tolist()) for seed in range(5))  # shares 0.8, 2.4, 0.8


@pytest.mark.parametrize("size", [0, 6])
def test_more_than_there_are(size: int) -> None:
    with pytest.raises(DataError, match=f"sample.size: {size} images cannot be drawn of 5; choose 1 to 5"):
        stratified(torch.zeros(5, dtype=torch.int64), size, 0)


class TestPairs:
    """Random pairs of images."""

    def test_no_image_is_drawn_twice(self) -> None:
        found = pairs(40, 20, 3)
        assert found.shape == (20, 2)
        assert sorted(found.flatten().tolist()) == list(range(40))
        assert torch.equal(found, pairs(40, 20, 3))
        assert not torch.equal(found, pairs(40, 20, 4))

    def test_more_than_there_are_is_refused(self) -> None:
        with pytest.raises(
            DataError, match=r"geodesics.pairs: for 21 pairs 42 images are needed, not 41; choose at most 20"
        ):
            pairs(41, 21, 0)

"""Means between the rows of a learning curve."""

from __future__ import annotations

import pytest
import torch

from latent_atlas.errors import TrainingError
from latent_atlas.training.means import Means


def test_batches_count_by_their_images() -> None:
    means = Means("mse")
    means.add(torch.tensor(1.0), {"share": torch.tensor(0.5)}, 3)
    means.add(torch.tensor(5.0), {"share": torch.tensor(0.0)}, 1)
    assert means["train_loss"] == [2.0]
    assert means.of(0) == {"train_loss": 2.0, "share": 0.375}
    means.clear()
    means.add(torch.tensor(7.0), {}, 2)
    assert means.of(0) == {"train_loss": 7.0}


def test_each_of_several_networks_has_its_own() -> None:
    means = Means("mse")
    means.add(torch.tensor([1.0, 2.0]), {"share": torch.tensor([0.0, 1.0])}, 1)
    means.add(torch.tensor([3.0, 8.0]), {"share": torch.tensor([1.0, 1.0])}, 1)
    assert means["train_loss"] == [2.0, 5.0]
    assert means.of(1) == {"train_loss": 5.0, "share": 1.0}


def test_name_of_another_column() -> None:
    with pytest.raises(TrainingError, match="objective 'mine' gives a metric 'epoch', which is a column of every"):
        Means("mine").add(torch.tensor(1.0), {"epoch": torch.tensor(1.0)}, 1)

"""The first step on a copy: which layout and which switches a network can be trained with, and no trace of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from support import same_state
from torch import Tensor, nn

from latent_atlas.data.images import Images
from latent_atlas.errors import LatentAtlasWarning, TrainingError
from latent_atlas.models.registry import build
from latent_atlas.models.surroundings import copied
from latent_atlas.training.loop import Schedule, mean_error, train
from latent_atlas.training.objectives.mse import loss
from latent_atlas.training.rehearsal import rehearse
from latent_atlas.training.reproducible import reproducible

CPU = torch.device("cpu")
SCHEDULE = Schedule(epochs=1, batch_size=500, peak_learning_rate=0.005, precision="float32", seed=0)


class Model(nn.Module):
    """Convolutions, a function and a linear layer before a plain decoder."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3))
        self.linear, self.between = nn.Linear(144, 2), between
        self.unpool = nn.MaxUnpool2d(2)
        self.decoder = nn.Sequential(nn.Linear(2, 64), nn.BatchNorm1d(64), nn.Unflatten(1, (1, 8, 8)))
        self.encoder = self.codes

    def codes(self, x: Tensor) -> Tensor:
        return self.linear(self.between(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.codes(x))


class Unpooled(Model):
    """With an operation that has no deterministic form."""

    def forward(self, x: Tensor) -> Tensor:
        small, where = nn.functional.max_pool2d(x, 2, return_indices=True)
        return super().forward(self.unpool(small, where))


def of_memory(x: Tensor) -> Tensor:
    """The numbers in the order in which they lie in memory: another one for each layout."""
    return x.as_strided((len(x), 144), (144, 1))


def layout_of(make: Callable[[], nn.Module], images: Images) -> torch.memory_format:
    with reproducible(CPU, 0):
        return rehearse(make, make(), loss, images, SCHEDULE, CPU)


@pytest.mark.parametrize(
    ("between", "layout"),
    [
        (lambda x: x.flatten(1), torch.channels_last),
        (lambda x: x.reshape(len(x), -1), torch.channels_last),
        (lambda x: x.view(len(x), -1), torch.contiguous_format),
        (of_memory, torch.contiguous_format),
    ],
)
def test_channels_last_only_where_it_is_right(
    between: Callable[[Tensor], Tensor], layout: torch.memory_format, digits: Images
) -> None:
    def make() -> nn.Module:
        return Model(between)

    assert layout_of(make, digits) is layout
    model, curve, _ = train(make, digits, SCHEDULE, CPU)
    assert mean_error(model, digits.test) == pytest.approx(curve["test_mse"].iloc[-1], rel=1e-4)


@pytest.mark.parametrize("architecture", ["fully_connected", "convolutional"])
def test_the_built_in_ones_are_trained_channels_last(architecture: str, digits: Images) -> None:
    options = {"kernel": 3} if architecture == "convolutional" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error", LatentAtlasWarning)
        assert layout_of(lambda: build(architecture, digits.shape, 2, options), digits) is torch.channels_last


def test_an_operation_without_a_deterministic_form_is_named(digits: Images) -> None:
    def make() -> nn.Module:
        return Unpooled(lambda x: x.flatten(1))

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model, _, _ = train(make, digits, SCHEDULE, CPU)
    (told,) = [one for one in said if one.category is LatentAtlasWarning]
    assert "in its layer unpool (MaxUnpool2d) has no deterministic form" in str(told.message)
    assert not torch.are_deterministic_algorithms_enabled()
    assert isinstance(model, Unpooled)


def test_leaves_no_trace(digits: Images) -> None:
    model = Model(lambda x: x.flatten(1))
    before = copied(model)
    torch.manual_seed(1)
    wanted = torch.rand(2)
    torch.manual_seed(1)
    rehearse(lambda: model, model, loss, digits, SCHEDULE, CPU)
    assert torch.equal(torch.rand(2), wanted)
    assert same_state(model, before)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_step_that_fails_is_told_with_its_layer(digits: Images) -> None:
    def fails(model: nn.Module, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, Tensor]]:
        return model(x[:, :, :5]).mean(), {}

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64))

    with pytest.raises(TrainingError, match=r"first step of the training fails in its layer 1 \(Linear\): Run"):
        rehearse(make, make(), fails, digits, SCHEDULE, CPU)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        (lambda model, x, generator: (model(x) - x).square().mean(), "must return a pair"),
        (lambda model, x, generator: ((model(x) - x).square().mean(), {"mine": 0.5}), "must return a pair"),
        (lambda model, x, generator: ((model(x) - x).square(), {}), "must return a pair"),
        (lambda model, x, generator: (model.decode(x), {}), r"AttributeError: .* has no attribute 'decode'"),
    ],
)
def test_an_objective_that_is_none_is_refused(digits: Images, faulty: Any, message: str) -> None:
    torch.manual_seed(0)
    model = build("fully_connected", digits.shape, 2)
    with pytest.raises(TrainingError, match=message):
        rehearse(lambda: build("fully_connected", digits.shape, 2), model, faulty, digits, SCHEDULE, CPU)

"""Muon: its steps, against torch's own optimizers and closed forms."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import same_state
from torch import nn

from latent_atlas.data.images import Images
from latent_atlas.errors import TrainingError
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Progress, Schedule, Trained, train
from latent_atlas.training.muon import ITERATIONS, QUINTIC, Muon, orthogonal
from latent_atlas.training.schedule import one_cycle

CPU = torch.device("cpu")
SCHEDULE = Schedule(
    epochs=3, batch_size=128, peak_learning_rate=0.005, precision="float32", seed=0, optimizer="muon"
)  # fmt: skip


def trained(images: Images, schedule: Schedule = SCHEDULE, resume: Path | None = None, stop: bool = False) -> Trained:
    def report(progress: Progress) -> None:
        if stop and progress.epoch == 2:
            raise KeyboardInterrupt

    return train(lambda: build("convolutional", images.shape, 2, {"kernel": 3}), images, schedule, CPU, report, resume)


class TestOrthogonal:
    @pytest.mark.parametrize("shape", [(5, 9), (9, 5), (3, 4, 6)])
    def test_singular_values_are_those_of_the_polynomial(self, shape: tuple[int, ...]) -> None:
        torch.manual_seed(0)
        matrix = torch.randn(shape, dtype=torch.float64)
        u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
        values = values / values.norm(dim=-1, keepdim=True)
        a, b, c = QUINTIC
        for _ in range(ITERATIONS):
            values = a * values + b * values**3 + c * values**5
        torch.testing.assert_close(orthogonal(matrix), u @ torch.diag_embed(values) @ vh, rtol=0, atol=1e-12)
        assert values.min() > 0.6
        assert values.max() < 1.3

    def test_zeros(self) -> None:
        assert torch.equal(orthogonal(torch.zeros(2, 3)), torch.zeros(2, 3))


class TestSteps:
    def test_a_matrix_as_by_torch(self) -> None:
        """Torch rounds to bfloat16 on the way, so the steps agree to about its precision."""
        torch.manual_seed(0)
        model = nn.Linear(12, 7, bias=False)
        other = copy.deepcopy(model)
        ours = Muon(model, lr=0.01, betas=(0.9, 0.99))
        theirs = torch.optim.Muon(
            other.parameters(), lr=0.01, momentum=0.95, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        )
        start = model.weight.detach().clone()
        for _ in range(10):
            model.weight.grad = torch.randn(7, 12)
            other.weight.grad = model.weight.grad.clone()
            ours.step()
            theirs.step()
        moved = model.weight - start
        assert float((other.weight - start - moved).detach().norm() / moved.detach().norm()) < 0.02

    @pytest.mark.parametrize("fused", [False, True])
    def test_vectors_as_by_adam(self, fused: bool) -> None:
        torch.manual_seed(0)
        model = nn.BatchNorm1d(5).double()
        other = copy.deepcopy(model)
        ours = Muon(model, lr=0.01, betas=(0.9, 0.99), fused=fused)
        theirs = torch.optim.Adam(other.parameters(), lr=0.01, betas=(0.9, 0.99))
        for _ in range(10):
            for one, same in zip(model.parameters(), other.parameters(), strict=True):
                one.grad = torch.randn(5, dtype=torch.float64)
                same.grad = one.grad.clone()
            ours.step()
            theirs.step()
        for one, same in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(one, same, rtol=0, atol=1e-12)

    def test_a_kernel_is_a_matrix_in_any_layout(self) -> None:
        torch.manual_seed(0)
        kernel = nn.Conv2d(3, 6, 4, bias=False).double()
        last = copy.deepcopy(kernel)
        last.weight.data = kernel.weight.detach().to(memory_format=torch.channels_last)
        matrix = nn.Linear(48, 6, bias=False).double()
        matrix.weight.data = kernel.weight.detach().flatten(1).clone()
        gradients = torch.randn(4, 6, 3, 4, 4, dtype=torch.float64)
        for model in (kernel, last, matrix):
            optimizer = Muon(model, lr=0.01, betas=(0.9, 0.99))
            for gradient in gradients:
                model.weight.grad = gradient.reshape(model.weight.shape).contiguous()
                optimizer.step()
        assert last.weight.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(kernel.weight.flatten(1), matrix.weight, rtol=0, atol=1e-14)
        torch.testing.assert_close(last.weight, kernel.weight, rtol=0, atol=1e-14)

    def test_frozen_and_unused_weights_stay(self) -> None:
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        model[0].requires_grad_(False)
        before = copy.deepcopy(model.state_dict())
        optimizer = Muon(model, lr=0.1, betas=(0.9, 0.99))
        model[1](torch.rand(5, 4)).sum().backward()
        optimizer.step()
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed == {"1.weight", "1.bias"}

    def test_first_step_of_the_cycle(self) -> None:
        """A step of a matrix of one row is its gradient in the length of the learning rate."""
        model = nn.Linear(4, 1, bias=False).double()
        optimizer, _ = one_cycle(model, SCHEDULE, 100, CPU)
        before = model.weight.detach().clone()
        model.weight.grad = torch.tensor([[3.0, 0.0, -4.0, 0.0]], dtype=torch.float64)
        optimizer.step()
        step = (before - model.weight).detach()
        value = 1.0
        for _ in range(ITERATIONS):
            value = QUINTIC[0] * value + QUINTIC[1] * value**3 + QUINTIC[2] * value**5
        expected = model.weight.grad / 5 * value * 0.2 * 4**0.5 * SCHEDULE.peak_learning_rate / 25
        torch.testing.assert_close(step, expected, rtol=0, atol=1e-15)


class TestTraining:
    def test_reaches_a_lower_error_than_adam(self, digits: Images) -> None:
        schedule = replace(SCHEDULE, epochs=10, batch_size=64, peak_learning_rate=0.007)
        errors = {
            name: trained(digits, replace(schedule, optimizer=name)).curve["test_mse"].iloc[-1]
            for name in ("adam", "muon")
        }
        assert errors["muon"] < 0.95 * errors["adam"]

    def test_interrupted_and_resumed_is_as_straight_through(self, digits: Images, tmp_path: Path) -> None:
        straight = trained(digits)
        with pytest.raises(KeyboardInterrupt):
            trained(digits, resume=tmp_path / "state", stop=True)
        resumed = trained(digits, resume=tmp_path / "state")
        assert same_state(straight.model, resumed.model)
        assert straight.curve.equals(resumed.curve)

    def test_unknown_optimizer(self) -> None:
        with pytest.raises(TrainingError, match="there is no optimizer 'sgd': choose adam or muon"):
            replace(SCHEDULE, optimizer="sgd")

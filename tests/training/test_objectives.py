"""What a training minimizes: the built-in objectives, a user's own, and what becomes of their metrics."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from latent_atlas.data.images import Images
from latent_atlas.errors import TrainingError
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Progress, Schedule, Trained, train
from latent_atlas.training.objectives import denoising, mse, objective

OWN = """
def loss(model, x, generator):
    error = (model(x) - x).abs().mean()
    return error, {"largest": (model(x) - x).abs().max()}
"""


class StopError(Exception):
    """An interruption."""


@pytest.fixture(scope="module")
def images() -> Images:
    """120 images of 4x4 random pixels."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (120, 1, 4, 4), generator=draw, dtype=torch.uint8)
    labels = torch.zeros(120, dtype=torch.int64)
    return Images("random", pixels[:80], labels[:80], pixels[80:], labels[80:], ("random",))


def trained(images: Images, objective: str, snapshot_every: int = 1, resume: Path | None = None,
            stop_in: int | None = None) -> Trained:  # fmt: skip
    """A training of four epochs, stopped in one of them if asked."""

    def report(progress: Progress) -> None:
        if progress.epoch == stop_in:
            raise StopError

    schedule = Schedule(4, 20, 1e-3, "float32", 3, objective, snapshot_every)
    return train(lambda: build("fully_connected", (1, 4, 4), 2), images, schedule, torch.device("cpu"), report, resume)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Half(nn.Module):
    """Gives half of what it gets."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class TestLosses:
    """Values in closed form."""

    def test_mse(self) -> None:
        x = torch.full((3, 1, 2, 2), 0.8)
        value, metrics = mse.loss(Half(), x, torch.Generator())
        assert value.item() == pytest.approx(0.4**2, rel=1e-6)
        assert metrics == {}

    def test_denoising_has_the_image_without_noise_as_its_target(self) -> None:
        x = torch.full((500, 1, 10, 10), 0.8)
        value, _ = denoising.loss(Half(), x, torch.Generator().manual_seed(0))
        assert value.item() == pytest.approx(0.4**2 + (denoising.NOISE / 2) ** 2, rel=0.01)

    def test_noise_is_that_of_the_generator(self) -> None:
        x = torch.full((5, 1, 2, 2), 0.5)
        one, same, other = (
            denoising.loss(Half(), x, torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 2)
        )
        assert one == same != other


class TestByName:
    """How an objective is named."""

    def test_file_of_the_package(self) -> None:
        assert objective("mse") is mse.loss
        assert objective("denoising") is denoising.loss

    def test_unknown(self) -> None:
        with pytest.raises(TrainingError, match="unknown objective 'mae': choose one of denoising, mse, or name a"):
            objective("mae")
        with pytest.raises(TrainingError, match="objective 'nowhere_at_all:loss': no module named 'nowhere_at_all'"):
            objective("nowhere_at_all:loss")

    def test_of_the_user_with_a_metric_in_the_curve(
        self, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "objective_for_a_test.py").write_text(OWN)
        monkeypatch.syspath_prepend(tmp_path)
        curve = trained(images, "objective_for_a_test:loss").curve
        assert list(curve.columns) == [
            "epoch", "step", "learning_rate", "train_loss", "largest", "train_mse", "test_mse",
        ]  # fmt: skip
        assert (curve["largest"] > curve["train_loss"]).all()
        assert (curve["largest"] <= 1).all()


class TestGuards:
    """What an objective may give."""

    @pytest.mark.parametrize("name", ["epoch", "train_loss", "test_mse"])
    def test_metric_of_a_reserved_name(
        self, name: str, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = f"reserved_{name}_for_a_test"
        (tmp_path / f"{module}.py").write_text(OWN.replace("largest", name))
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(TrainingError, match=f"gives a metric '{name}', which is a column of every learning curve"):
            trained(images, f"{module}:loss")

    def test_negative_losses_are_no_divergence(
        self, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "negative_for_a_test.py").write_text(
            "def loss(model, x, generator):\n    return ((model(x) - x) ** 2).mean() - 10, {}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        curve = trained(images, "negative_for_a_test:loss").curve
        assert (curve["train_loss"] < -9).all()
        assert len(curve) == 4

    def test_random_numbers_are_not_those_of_the_order(
        self, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "first_draw_for_a_test.py").write_text(
            "import torch\n\nDRAWN = []\n\n\ndef loss(model, x, generator):\n"
            "    DRAWN.append(torch.randperm(80, generator=generator))\n    return ((model(x) - x) ** 2).mean(), {}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        trained(images, "first_draw_for_a_test:loss")
        order = torch.randperm(80, generator=torch.Generator().manual_seed(3))
        assert not torch.equal(sys.modules["first_draw_for_a_test"].DRAWN[0], order)


class TestResume:
    """An interrupted training gives the same as one that ran through, random numbers of the objective included."""

    @pytest.mark.parametrize("every", [1, 2, 3])
    def test_same_weights_and_snapshots(self, images: Images, tmp_path: Path, every: int) -> None:
        straight = trained(images, "denoising", every)
        resume = tmp_path / "state.resume"
        with pytest.raises(StopError):
            trained(images, "denoising", every, resume, stop_in=4)
        again = trained(images, "denoising", every, resume)
        assert same(straight.model.state_dict(), again.model.state_dict())
        assert straight.curve.equals(again.curve)
        assert list(straight.snapshots) == list(again.snapshots) == {1: [1, 2, 3, 4], 2: [2, 4], 3: [3, 4]}[every]
        assert all(same(straight.snapshots[epoch], again.snapshots[epoch]) for epoch in straight.snapshots)

    def test_keeps_the_snapshots_that_it_will_give(self, images: Images, tmp_path: Path) -> None:
        with pytest.raises(StopError):
            trained(images, "mse", 2, tmp_path / "state.resume", stop_in=4)
        assert [path.name for path in (tmp_path / "state.resume.snapshots").iterdir()] == ["2.pt"]

"""What a training minimizes: the built-in objectives, a user's own, and what becomes of their metrics."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from latent_atlas.data.images import Images
from latent_atlas.errors import ModelError, TrainingError
from latent_atlas.geometry.pca import fit
from latent_atlas.kernels.convolutions import faster
from latent_atlas.models.adapters import adapted
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Progress, Schedule, Trained, train
from latent_atlas.training.objectives import bce, contractive, denoising, isometric, mse, objective, vae

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


def trained(images: Images, objective: Any, snapshot_every: int = 1, resume: Path | None = None,
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
        assert value.item() == pytest.approx(0.4**2 + (0.1 / 2) ** 2, rel=0.01)

    def test_denoising_by_another_amount(self) -> None:
        x = torch.full((500, 1, 10, 10), 0.8)
        value, _ = objective({"denoising": {"noise": 0.4}})(Half(), x, torch.Generator().manual_seed(0))
        assert value.item() == pytest.approx(0.4**2 + 0.2**2, rel=0.02)

    def test_bce(self) -> None:
        x = torch.full((3, 1, 2, 2), 0.8)
        value, metrics = bce.loss(Half(), x, torch.Generator())
        assert value.item() == pytest.approx(-0.8 * math.log(0.4) - 0.2 * math.log(0.6), rel=1e-6)
        assert metrics["reconstruction_mse"].item() == pytest.approx(0.4**2, rel=1e-6)

    def test_bce_refuses_pixels_outside_its_domain(self) -> None:
        says = (
            r"objective 'bce': Half draws pixels from -1 to 0.4, where they must be in \[0, 1\]: end its decoder in a"
        )
        with pytest.raises(TrainingError, match=says):
            bce.loss(Half(), torch.tensor([[[[0.8, -2.0]]]]), torch.Generator())

    def test_noise_is_that_of_the_generator(self) -> None:
        x = torch.full((5, 1, 2, 2), 0.5)
        one, same, other = (
            denoising.loss(Half(), x, torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 2)
        )
        assert one == same != other


class Linear(nn.Module):
    """A linear autoencoder of images 1x3x4; its encoder gives means and log-variances as a pair, or as one tensor.

    Its layers see pixels from a half on, in a unit.
    """

    def __init__(self, k: int, variational: str = "", unit: float = 1.0) -> None:
        super().__init__()
        self.way_in: Any = nn.Linear(12, k)
        self.log_variance = nn.Parameter(torch.zeros(k))
        self.decoder: Any = nn.Sequential(nn.Linear(k, 12), Unit(unit), nn.Unflatten(1, (1, 3, 4)))
        self.variational, self.unit = variational, unit

    def mean(self, x: Tensor) -> Tensor:
        return self.way_in((x.flatten(1) - 0.5) / self.unit)

    def encoder(self, x: Tensor) -> Any:
        mean = self.mean(x)
        pair = mean, self.log_variance.expand_as(mean)
        return {"": mean, "pair": pair, "tensor": torch.cat(pair, dim=1)}[self.variational]

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.mean(x))


class Unit(nn.Module):
    """From a unit around a half to pixels."""

    def __init__(self, unit: float) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, y: Tensor) -> Tensor:
        return 0.5 + self.unit * y


class TestContractive:
    """The Frobenius norm of the encoder's Jacobian."""

    def test_linear_encoder_has_that_of_its_matrix(self) -> None:
        model = Linear(3)
        x = torch.rand(5, 1, 3, 4)
        value, metrics = contractive.loss(model, x, torch.Generator().manual_seed(0), weight=0.5, directions=3)
        expected = model.way_in.weight.square().sum()
        assert metrics["contraction"].item() == pytest.approx(expected.item(), rel=1e-5)
        assert metrics["reconstruction_mse"].item() == pytest.approx(mse.loss(model, x, torch.Generator())[0].item())
        assert value.item() == pytest.approx((metrics["reconstruction_mse"] + 0.5 * expected).item(), rel=1e-5)
        (found,) = torch.autograd.grad(metrics["contraction"], model.way_in.weight)
        torch.testing.assert_close(found, 2 * model.way_in.weight.detach(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("directions", [1, 2])
    def test_estimate_is_unbiased(self, directions: int) -> None:
        model = Linear(3)
        x = torch.rand(1, 1, 3, 4).expand(20_000, -1, -1, -1)
        _, metrics = contractive.loss(model, x, torch.Generator().manual_seed(0), directions=directions)
        assert metrics["contraction"].item() == pytest.approx(model.way_in.weight.square().sum().item(), rel=0.02)
        assert metrics["contraction"].item() != pytest.approx(model.way_in.weight.square().sum().item(), rel=1e-6)

    def test_leaves_the_images_alone(self) -> None:
        x = torch.rand(5, 1, 3, 4)
        contractive.loss(Linear(3), x, torch.Generator())
        assert not x.requires_grad


class TestIsometric:
    """The relaxed distortion."""

    def test_scaled_isometry_has_the_least(self) -> None:
        model = Linear(3)
        with torch.no_grad():
            model.decoder[0].weight.copy_(0.3 * torch.linalg.qr(torch.randn(12, 3)).Q)
        value, metrics = isometric.loss(model, torch.rand(7, 1, 3, 4), torch.Generator(), weight=2.0)
        assert metrics["relaxed_distortion"].item() == pytest.approx(1 / 3, rel=1e-5)
        assert value.item() == pytest.approx(metrics["reconstruction_mse"].item() + 2 / 3, rel=1e-5)

    def test_estimates_that_of_the_metric(self) -> None:
        model = Linear(3)
        metric = model.decoder[0].weight.T @ model.decoder[0].weight
        expected = (metric @ metric).trace() / metric.trace() ** 2
        _, metrics = isometric.loss(model, torch.rand(20_000, 1, 3, 4), torch.Generator().manual_seed(0))
        assert metrics["relaxed_distortion"].item() == pytest.approx(expected.item(), rel=0.01)
        assert expected > 0.34  # the model is no isometry

    @pytest.mark.parametrize("layer", ["GRU", "attention"])
    def test_operations_without_forward_mode(self, layer: str) -> None:
        """Their derivative in the direction v, by differences."""
        torch.manual_seed(0)
        part: Any = nn.GRU(2, 2) if layer == "GRU" else nn.MultiheadAttention(2, 1)
        part = part.double()

        def decode(z: Tensor) -> Tensor:
            return part(z)[0] if layer == "GRU" else part(z, z, z)[0]

        z = torch.randn(4, 5, 2, dtype=torch.float64, requires_grad=True)
        v = torch.randn_like(z)
        pushed, pulled = isometric._pushed_and_pulled(decode, z, v)
        step = 1e-6
        torch.testing.assert_close(
            pushed, (decode(z + step * v) - decode(z - step * v)) / (2 * step), rtol=0, atol=1e-8
        )
        (expected,) = torch.autograd.grad(decode(z), z, pushed.detach())
        torch.testing.assert_close(pulled, expected, rtol=0, atol=1e-12)

    def test_running_statistics_see_each_batch_once(self) -> None:
        one, other = (build("fully_connected", (1, 4, 4), 2) for _ in range(2))
        other.load_state_dict(one.state_dict())
        x = torch.rand(9, 1, 4, 4)
        mse.loss(one, x, torch.Generator())
        isometric.loss(other, x, torch.Generator())
        assert same(one.state_dict(), other.state_dict())


class TestDerivativesByTheFasterKernels:
    """Penalties and their gradients are those of torch's own layers."""

    @pytest.mark.parametrize("penalty", [contractive.loss, isometric.loss])
    @pytest.mark.parametrize("side", [8, 9])
    @pytest.mark.parametrize(
        ("architecture", "options"),
        [("fully_connected", {}), ("convolutional", {"kernel": 3}), ("convolutional", {"kernel": 3, "widths": [9, 5]})],
    )
    def test_same(self, architecture: str, options: dict[str, Any], side: int, penalty: Any) -> None:
        torch.manual_seed(0)
        model = build(architecture, (1, side, side), 3, options).double()
        x = torch.rand(6, 1, side, side, dtype=torch.float64)
        found = []
        for kernels in (nullcontext(), faster(model)):
            with kernels:
                value, _ = penalty(model, x, torch.Generator().manual_seed(1), weight=10.0)
                found.append([value, *torch.autograd.grad(value, list(model.parameters()))])
        for own, theirs in zip(*found, strict=True):
            torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)  # sums are in float32


class TestVAE:
    """The variational bound."""

    @pytest.mark.parametrize("way", ["pair", "tensor"])
    def test_in_closed_form(self, way: str) -> None:
        model = Linear(3, way)
        with torch.no_grad():
            model.log_variance.copy_(torch.tensor([-40.0, -40.0, -40.0]))  # so that codes are their means
        x = torch.rand(5, 1, 3, 4)
        mean = model.mean(x)
        value, metrics = vae.loss(model, x, torch.Generator(), beta=3.0)
        divergence = (mean.square().sum(1).mean().item() + 3 * (40 - 1)) / 2
        error = mse.loss(model, x, torch.Generator())[0].item()
        assert metrics["kl_nats"].item() == pytest.approx(divergence, rel=1e-6)
        assert metrics["reconstruction_mse"].item() == pytest.approx(error, rel=1e-6)
        assert value.item() == pytest.approx(math.log(error) / 2 + 3 * divergence / 12, rel=1e-6)

    @pytest.mark.parametrize("kind", [tuple, lambda pair: SimpleNamespace(mu=pair[0], log_var=pair[1])])
    def test_of_a_network_behind_an_adapter(self, kind: Callable[[tuple[Tensor, Tensor]], Any]) -> None:
        """The adapter reads the mean alone; the objective needs the log-variance too."""
        model = Linear(3, "pair")
        network: Any = nn.ModuleList([model])
        network.encode, network.decode = lambda x: kind(model.encoder(x)), model.decoder
        behind = adapted(network, "vae", (1, 3, 4), 3)
        x = torch.rand(5, 1, 3, 4)
        losses = [vae.loss(each, x, torch.Generator().manual_seed(1))[0].item() for each in (model, behind)]
        assert losses[0] == losses[1]

    def test_divergence_is_torchs(self) -> None:
        model = Linear(3, "pair")
        with torch.no_grad():
            model.log_variance.copy_(torch.tensor([-1.0, 0.0, 0.5]))
        x = torch.rand(5, 1, 3, 4)
        mean, log_variance = model.encoder(x)
        one, other = Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros(3), torch.ones(3))
        expected = kl_divergence(one, other).sum(1).mean().item()
        assert vae.loss(model, x, torch.Generator())[1]["kl_nats"].item() == pytest.approx(expected, rel=1e-5)

    def test_linear_one_is_probabilistic_pca(self) -> None:
        """With its most likely noise: Tipping & Bishop (1999), Lucas et al. (2019)."""
        torch.manual_seed(0)
        axes = torch.linalg.qr(torch.randn(12, 12)).Q
        scales = torch.tensor([0.15, 0.12, 0.1, *[0.04] * 9])
        pixels = (255 * (0.5 + (torch.randn(2000, 12) * scales) @ axes.T).clamp(0, 1)).round().to(torch.uint8)
        pixels, labels = pixels.view(-1, 1, 3, 4), torch.zeros(2000, dtype=torch.int64)
        images = Images("normal", pixels, labels, pixels, labels, ("normal",))
        schedule = Schedule(None, 500, 0.02, "float32", 0, "vae", steps=800)
        model: Any
        model, curve, _ = train(lambda: Linear(3, "pair", 0.1), images, schedule, torch.device("cpu"))
        found = 0.1 * model.decoder[0].weight.detach().double().numpy()
        pca = fit(pixels)
        angles = scipy.linalg.subspace_angles(found, pca.components[:3].T.numpy())
        assert np.rad2deg(angles).max() < 0.5
        noise = pca.variance[3:].mean().item()
        np.testing.assert_allclose(scipy.linalg.svdvals(found) ** 2, pca.variance[:3] - noise, rtol=0.05)
        assert curve["reconstruction_mse"].iloc[-1] == pytest.approx(noise, rel=0.03)
        assert curve["kl_nats"].iloc[-1] == pytest.approx((pca.variance[:3] / noise).log().sum().item() / 2, rel=0.03)

    @pytest.mark.parametrize("architecture", ["fully_connected", "convolutional"])
    def test_built_in_architectures(self, architecture: str) -> None:
        options = {"variational": True} | ({"kernel": 3} if architecture == "convolutional" else {})
        model: Any = build(architecture, (1, 8, 8), 2, options)
        x = torch.rand(5, 1, 8, 8)
        vae.loss(model, x, torch.Generator())[0].backward()
        assert all(weight.grad is not None for weight in model.parameters())
        model.eval()
        mean, log_variance = model.posterior(x)
        assert mean.shape == log_variance.shape == (5, 2)
        assert torch.equal(model.encoder(x), mean)  # of which the mean is measured
        plain = build(architecture, (1, 8, 8), 2, options | {"variational": False})
        assert set(model.state_dict()) - set(plain.state_dict()) == {"encoder.elogvar.weight", "encoder.elogvar.bias"}
        with pytest.raises(ModelError, match="has no variances, which the objective vae needs: give it the option"):
            vae.loss(plain, x, torch.Generator())

    def test_encoder_that_gives_codes_alone(self) -> None:
        with pytest.raises(
            TrainingError, match="'vae': the decoder of Linear does not take the 2 numbers of the first"
        ):
            vae.loss(Linear(4), torch.rand(5, 1, 3, 4), torch.Generator())
        with pytest.raises(TrainingError, match=r"'vae': Linear gives \(5, 2\) and \(5, 1\), where means and log-"):
            vae.loss(Linear(3), torch.rand(5, 1, 3, 4), torch.Generator())


class TestByName:
    """How an objective is named."""

    def test_file_of_the_package(self) -> None:
        assert objective("mse") is mse.loss
        assert objective("denoising") is denoising.loss

    def test_unknown(self) -> None:
        with pytest.raises(
            TrainingError,
            match=r"'mae' is no objective, did you mean 'vae'\? choose one of bce, contractive, denoising, isometric, "
            "mse, vae, or name a",
        ):
            objective("mae")
        with pytest.raises(TrainingError, match="objective 'nowhere_at_all:loss': no module named 'nowhere_at_all'"):
            objective("nowhere_at_all:loss")

    def test_unknown_option(self) -> None:
        with pytest.raises(TrainingError, match="objective 'vae' has no option 'gamma': it has beta"):
            objective({"vae": {"beta": 1.0, "gamma": 2.0}})
        with pytest.raises(TrainingError, match="objective 'mse' has no option 'beta': it has none"):
            objective({"mse": {"beta": 1.0}})

    def test_option_of_the_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "optional_for_a_test.py").write_text(
            "def loss(model, x, generator, *, factor=1.0):\n    return factor * (model(x) - x).abs().mean(), {}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        x = torch.full((3, 1, 2, 2), 0.8)
        assert objective({"optional_for_a_test:loss": {"factor": 5.0}})(Half(), x, torch.Generator())[
            0
        ].item() == pytest.approx(2)
        with pytest.raises(TrainingError, match="has no option 'factr': it has factor"):
            objective({"optional_for_a_test:loss": {"factr": 5.0}})

    @pytest.mark.parametrize("name", ["bce", "contractive", "isometric", {"vae": {"beta": 0.5}}])
    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_training_by_each(self, images: Images, name: Any, precision: str) -> None:
        schedule = Schedule(3, 20, 5e-3, precision, 3, name)
        options = {"variational": True} if isinstance(name, dict) else {}
        curve = train(
            lambda: build("fully_connected", (1, 4, 4), 2, options), images, schedule, torch.device("cpu")
        ).curve
        metrics = {"contractive": ["contraction"], "isometric": ["relaxed_distortion"], "bce": []}
        expected = (
            ["reconstruction_mse", *metrics[name]] if isinstance(name, str) else ["reconstruction_mse", "kl_nats"]
        )
        assert list(curve.columns)[4:-2] == expected
        assert curve["reconstruction_mse"].is_monotonic_decreasing

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

    def test_options_are_part_of_what_a_state_belongs_to(self, images: Images, tmp_path: Path) -> None:
        resume = tmp_path / "state.resume"
        with pytest.raises(StopError):
            trained(images, {"denoising": {"noise": 0.1}}, 1, resume, stop_in=4)
        stored = resume.read_bytes()
        with pytest.raises(StopError):
            trained(images, {"denoising": {"noise": 0.2}}, 1, resume, stop_in=1)  # begins anew
        assert resume.read_bytes() == stored

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

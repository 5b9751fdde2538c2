"""Manifolds: charts and Jacobians, against closed forms and finite differences."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import shake_statistics
from surfaces import central_differences
from torch import Tensor, nn

from latent_atlas.errors import CheckpointError, DataError
from latent_atlas.files import write_safetensors
from latent_atlas.geometry import manifold
from latent_atlas.geometry.manifold import Autoencoder, Manifold, PixelSpace, PrincipalSubspace, load_manifold
from latent_atlas.kernels.convolutions import faster
from latent_atlas.models.adapters import of_functions
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.registry import build


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal_rows(count: int, length: int) -> Tensor:
    """So many orthonormal vectors."""
    return torch.linalg.qr(random(length, count))[0].T.contiguous()


def network(architecture: str, latent_dim: int, shape: tuple[int, int, int]) -> nn.Module:
    """An architecture with weights and BatchNorm statistics that are all at work."""
    torch.manual_seed(0)
    model = build(architecture, shape, latent_dim, {"kernel": 3} if architecture == "convolutional" else {})
    shake_statistics(model)
    return model.double()


class Linear(nn.Module):
    """The autoencoder whose decoder is a matrix."""

    def __init__(self, shape: tuple[int, int, int], latent_dim: int) -> None:
        super().__init__()
        pixels = math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, shape))


class Skip(nn.Module):
    """A decoder that is no chain: its input is added to its output again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 12), nn.Linear(4, 12)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.first(z)) + self.second(z)


class Clamped(nn.Sequential):
    """A decoder that ends in a function, not in a layer."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z).clamp(-0.8, 0.8)


def autoencoder(decoder: nn.Module, shape: tuple[int, int, int]) -> Autoencoder:
    """A decoder with some encoder before it."""
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 4), nn.Tanh())
    model.decoder = decoder
    return Autoencoder(model.double(), 4, shape)


def manifolds() -> dict[str, Manifold]:
    """One of each kind, of images of 12 to 100 numbers; all but the last have 4 dimensions."""
    torch.manual_seed(0)
    deep = nn.Sequential(
        nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(inplace=True),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip
    return {
        "convolutional": Autoencoder(network("convolutional", 4, (1, 10, 10)), 4, (1, 10, 10)),
        "fully connected": Autoencoder(network("fully_connected", 4, (3, 4, 5)), 4, (3, 4, 5)),
        "skip": autoencoder(Skip(), (1, 3, 4)),
        "functional clamp": autoencoder(Clamped(nn.Linear(4, 30), nn.ELU(), nn.Linear(30, 12)), (1, 3, 4)),
        "GroupNorm and upsampling": autoencoder(deep, (2, 6, 6)),
        "PCA": PrincipalSubspace(orthonormal_rows(4, 18), random(18, seed=2), (2, 3, 3)),
        "uncentred PCA": PrincipalSubspace(orthonormal_rows(4, 18), torch.zeros(18).double(), (2, 3, 3)),
        "pixels": PixelSpace((1, 3, 4)),
    }


@pytest.mark.parametrize("kind", manifolds())
class TestContract:
    """What every manifold keeps, whichever way its derivatives are computed."""

    @pytest.mark.parametrize("count", [0, 1, 5])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_shapes_dtype_and_device(self, kind: str, dtype: torch.dtype, count: int) -> None:
        surface = manifolds()[kind].to(dtype)
        p, k = surface.pixel_count, surface.latent_dim
        x, z = random(count, *surface.image_shape).sigmoid().to(dtype), random(count, k).to(dtype)
        v, w = random(count, 3, k, seed=1).to(dtype), random(count, 3, p, seed=2).to(dtype)
        given = [part.clone() for part in (x, z, v, w)]
        found = {
            "encode": (surface.encode(x), (count, k)),
            "decode": (surface.decode(z), (count, *surface.image_shape)),
            "pushforward": (surface.pushforward(z, v), (count, 3, p)),
            "pullback": (surface.pullback(z, w), (count, 3, k)),
            "jacobian": (surface.jacobian(z), (count, p, k)),
            "metric": (surface.metric(z), (count, k, k)),
        }
        for name, (result, shape) in found.items():
            assert result.shape == shape, name
            assert (result.dtype, result.device.type, result.requires_grad) == (dtype, "cpu", False), name
        assert all(torch.equal(now, before) for now, before in zip((x, z, v, w), given, strict=True))

    def test_derivatives_agree_with_central_differences(self, kind: str) -> None:
        surface = manifolds()[kind]
        z = 0.3 * random(3, surface.latent_dim, seed=1)
        found = surface.jacobian(z)
        for code, jacobian in zip(z, found, strict=True):
            expected = central_differences(surface, code)
            torch.testing.assert_close(jacobian, expected, rtol=0, atol=1e-7 * float(expected.abs().max()))

    def test_products_are_those_of_the_jacobian(self, kind: str) -> None:
        surface = manifolds()[kind]
        z = random(5, surface.latent_dim, seed=1)
        v, w = random(5, 3, surface.latent_dim, seed=2), random(5, 3, surface.pixel_count, seed=3)
        jacobian = surface.jacobian(z)  # N x P x k
        near: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}
        torch.testing.assert_close(surface.pushforward(z, v), v @ jacobian.mT, **near)
        torch.testing.assert_close(surface.pullback(z, w), w @ jacobian, **near)
        torch.testing.assert_close(surface.pullback(z, w[:, :1]), w[:, :1] @ jacobian, **near)
        torch.testing.assert_close(surface.metric(z), jacobian.mT @ jacobian, **near)

    def test_jacobian_and_metric_in_blocks_of_columns(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        surface = manifolds()[kind]
        z = random(3, surface.latent_dim, seed=1)
        jacobian, whole = surface.jacobian(z), surface.metric(z)
        monkeypatch.setattr(manifold, "JACOBIAN_MEMORY", 3 * 32 * 8 * surface.pixel_count)
        torch.testing.assert_close(surface.metric(z), whole, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(surface.jacobian(z), jacobian, rtol=1e-11, atol=1e-12)

    def test_one_image_alone_equals_it_in_a_batch(self, kind: str) -> None:
        surface = manifolds()[kind]
        z = random(5, surface.latent_dim, seed=1)
        x = random(5, *surface.image_shape).sigmoid()
        v, w = random(5, 3, surface.latent_dim, seed=2), random(5, 3, surface.pixel_count, seed=3)
        calls: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
            (surface.encode, (x,)), (surface.decode, (z,)), (surface.jacobian, (z,)), (surface.metric, (z,)),
            (surface.pushforward, (z, v)), (surface.pullback, (z, w)),
        ]  # fmt: skip
        for call, given in calls:
            alone = torch.cat([call(*(part[i : i + 1] for part in given)) for i in range(5)])
            torch.testing.assert_close(call(*given), alone, rtol=1e-11, atol=1e-12)

    def test_says_what_it_is(self, kind: str) -> None:
        surface = manifolds()[kind]
        assert repr(surface).startswith(f"<{type(surface).__name__} {surface.family}: {surface.latent_dim} dimensions")
        assert repr(surface).endswith(", float64>")


class TestJacobian:
    """The derivative of the decoder."""

    def test_of_a_principal_subspace_is_its_matrix(self) -> None:
        components = orthonormal_rows(3, 12)
        surface = PrincipalSubspace(components, random(12), (1, 3, 4))
        found = surface.jacobian(random(5, 3))
        assert found.shape == (5, 12, 3)
        assert all(torch.equal(matrix, components.T) for matrix in found)

    def test_of_a_linear_decoder_is_its_matrix(self) -> None:
        torch.manual_seed(0)
        model = Linear((2, 3, 3), 4).double()
        found = Autoencoder(model, 4, (2, 3, 3)).jacobian(random(6, 4))
        assert found.shape == (6, 18, 4)
        weight = model.decoder[0].weight
        assert isinstance(weight, Tensor)
        torch.testing.assert_close(found, weight.detach().expand(6, -1, -1), rtol=0, atol=1e-14)

    def test_of_more_codes_than_are_taken_at_once(self) -> None:
        surface = Autoencoder(network("fully_connected", 128, (1, 28, 28)), 128, (1, 28, 28))
        codes = random(23, 128)
        found = surface.jacobian(codes)
        assert found.shape == (23, 784, 128)
        torch.testing.assert_close(found[[0, 11, 22]], surface.jacobian(codes[[0, 11, 22]]), rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("architecture", ["fully_connected", "convolutional"])
    def test_in_float32_is_close_to_that_in_float64(self, architecture: str) -> None:
        surface = Autoencoder(network(architecture, 6, (1, 10, 10)), 6, (1, 10, 10))
        codes = random(4, 6)
        single = surface.to(torch.float32).jacobian(codes.float())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), surface.jacobian(codes), rtol=0, atol=2e-6)


class TestAutoencoder:
    """A network as a manifold."""

    def test_maps_each_image_on_its_own(self) -> None:
        model = network("convolutional", 4, (1, 10, 10)).train()
        surface = Autoencoder(model, 4, (1, 10, 10))
        x = random(6, 1, 10, 10).sigmoid()
        z = surface.encode(x)
        assert z.shape == (6, 4)
        assert surface.decode(z).shape == x.shape
        torch.testing.assert_close(z[2:3], surface.encode(x[2:3]), rtol=1e-12, atol=1e-14)
        assert torch.equal(surface.reconstruct(x), surface.decode(z))

    def test_asks_for_no_gradient(self) -> None:
        surface = Autoencoder(network("fully_connected", 4, (1, 5, 5)), 4, (1, 5, 5))
        assert not surface.reconstruct(random(2, 1, 5, 5)).requires_grad
        assert not surface.jacobian(random(2, 4)).requires_grad

    def test_in_another_precision_is_another_object(self) -> None:
        surface = Autoencoder(network("fully_connected", 4, (1, 5, 5)), 4, (1, 5, 5), "mine")
        single = surface.to(torch.float32)
        assert (single.dtype, surface.dtype) == (torch.float32, torch.float64)
        assert (single.family, single.latent_dim, single.image_shape) == ("mine", 4, (1, 5, 5))
        x = random(3, 1, 5, 5)
        assert surface.reconstruct(x).dtype == torch.float64
        torch.testing.assert_close(single.reconstruct(x.float()).double(), surface.reconstruct(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("worst", [math.nan, math.inf, 255.0])
def test_what_is_no_image_gives_no_codes(worst: float) -> None:
    x = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    x[1, 0, 2, 3] = worst
    surfaces = (
        Autoencoder(network("fully_connected", 4, (1, 5, 5)), 4, (1, 5, 5)),
        PrincipalSubspace(orthonormal_rows(4, 25), torch.zeros(25, dtype=torch.float64), (1, 5, 5)),
        PixelSpace((1, 5, 5)),
    )
    for surface in surfaces:
        with pytest.raises(DataError, match=r"\[0, 1\]"):
            surface.encode(x)


class TestPrincipalSubspace:
    """An affine subspace as a manifold."""

    @pytest.fixture
    def surface(self) -> PrincipalSubspace:
        """Four dimensions among images of 18 numbers."""
        return PrincipalSubspace(orthonormal_rows(4, 18), random(18, seed=2), (2, 3, 3))

    def test_projects_orthogonally(self, surface: PrincipalSubspace) -> None:
        x = random(5, 2, 3, 3, seed=3)
        y = surface.reconstruct(x)
        assert y.shape == x.shape
        torch.testing.assert_close(surface.reconstruct(y), y, rtol=0, atol=1e-13)
        rest = (x - y).flatten(1)
        torch.testing.assert_close(rest @ surface.components.T, torch.zeros(5, 4).double(), rtol=0, atol=1e-13)

    def test_passes_through_its_mean(self, surface: PrincipalSubspace) -> None:
        assert torch.equal(surface.decode(torch.zeros(1, 4).double()).flatten(), surface.mean)

    def test_keeps_codes(self, surface: PrincipalSubspace) -> None:
        z = random(5, 4, seed=4)
        torch.testing.assert_close(surface.encode(surface.decode(z)), z, rtol=0, atol=1e-13)


class TestFiles:
    """What :func:`load_manifold` reads, and what it refuses."""

    def test_autoencoder(self, tmp_path: Path) -> None:
        model = network("convolutional", 4, (1, 10, 10)).float().eval()
        Checkpoint(model, "convolutional", (1, 10, 10), 4, {"kernel": 3}).save(tmp_path / "a.safetensors")
        surface = load_manifold(tmp_path / "a.safetensors")
        assert isinstance(surface, Autoencoder)
        assert (surface.family, surface.latent_dim, surface.image_shape) == ("convolutional", 4, (1, 10, 10))
        x = random(3, 1, 10, 10).float()
        with faster(model):
            assert torch.equal(surface.reconstruct(x), model(x))

    def test_principal_subspace(self, tmp_path: Path) -> None:
        surface = PrincipalSubspace(orthonormal_rows(4, 18), random(18), (2, 3, 3), "pca_uncentred")
        surface.save(tmp_path / "p.safetensors")
        loaded: Manifold = load_manifold(tmp_path / "p.safetensors")
        assert isinstance(loaded, PrincipalSubspace)
        assert (loaded.family, loaded.latent_dim, loaded.image_shape) == ("pca_uncentred", 4, (2, 3, 3))
        assert loaded.dtype == torch.float64
        assert torch.equal(loaded.components, surface.components)
        assert torch.equal(loaded.mean, surface.mean)

    @pytest.mark.parametrize("kind", ["principal_components", None])
    def test_refuses_other_safetensors(self, tmp_path: Path, kind: str | None) -> None:
        path = tmp_path / "other.safetensors"
        write_safetensors(path, {"mean": torch.zeros(3)}, {"kind": kind} if kind else {})
        with pytest.raises(CheckpointError, match=rf"other\.safetensors holds no manifold \(its kind is {kind!r}"):
            load_manifold(path)

    def test_refuses_what_is_not_safetensors(self, tmp_path: Path) -> None:
        path = tmp_path / "text.safetensors"
        path.write_text("not a file of tensors")
        with pytest.raises(CheckpointError, match=r"text\.safetensors is not a readable safetensors file"):
            load_manifold(path)
        with pytest.raises(CheckpointError, match=r"absent\.safetensors is not a readable safetensors file"):
            load_manifold(tmp_path / "absent.safetensors")

    def test_names_the_layers_that_do_not_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "mixed.safetensors"
        state = build("fully_connected", (1, 10, 10), 4).state_dict()
        metadata = {"latent_dim": "4", "input_shape": json.dumps([1, 10, 10]), "options": "{}"}
        write_safetensors(path, state, metadata | {"kind": "autoencoder", "architecture": "convolutional"})
        with pytest.raises(CheckpointError) as caught:
            load_manifold(path)
        message = str(caught.value)
        assert str(path) in message
        assert "convolutional, latent dimension 4" in message
        assert "lacks encoder.econv1.weight" in message
        assert "more" in message

    @pytest.mark.parametrize("name", ["components", "mean"])
    def test_names_tensors_of_pca_that_are_no_numbers(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "pca.safetensors"
        tensors = {"components": torch.eye(3, 9), "mean": torch.zeros(9)}
        tensors[name] = tensors[name] * float("nan")
        PrincipalSubspace(tensors["components"], tensors["mean"], (1, 3, 3)).save(path)
        with pytest.raises(CheckpointError, match=rf"pca\.safetensors: {name} has NaN or Inf at \d+ of"):
            load_manifold(path)


class TestFromFunctions:
    """An autoencoder of two functions."""

    SHAPE = (2, 3, 5)

    def network(self) -> Any:
        """Codes of shape (2, 1, 3) and images of 2 x 3 x 5."""
        torch.manual_seed(3)
        model = nn.Module()
        model.into, model.out = nn.Linear(30, 6), nn.Sequential(nn.Linear(6, 30), nn.Tanh())
        return model

    def surface(self) -> tuple[Autoencoder, Any]:
        """The surface of a network whose functions get it as their first argument."""
        model = self.network()
        surface = Autoencoder.from_functions(
            lambda net, x: net.into(x.flatten(1)).reshape(-1, 2, 1, 3),
            lambda net, z: net.out(z.flatten(1)),
            (2, 1, 3),
            self.SHAPE,
            model=model,
        )
        return surface, model

    def test_of_a_model_is_converted_with_it(self) -> None:
        surface, model = self.surface()
        x = torch.rand(4, *self.SHAPE)
        assert (surface.latent_dim, surface.dtype) == (6, torch.float32)
        z = surface.encode(x)
        assert torch.equal(z, model.into(x.flatten(1)).detach())
        assert surface.decode(z).shape == (4, *self.SHAPE)
        wide = surface.to(torch.float64)
        assert (wide.dtype, surface.dtype) == (torch.float64, torch.float32)
        z = wide.encode(x.double())
        torch.testing.assert_close(wide.jacobian(z)[2], central_differences(wide, z[2]), rtol=0, atol=1e-9)

    def test_of_modules_is_converted_with_them(self) -> None:
        encode, decode = nn.Sequential(nn.Flatten(), nn.Linear(30, 6)), nn.Linear(6, 30)
        surface = Autoencoder.from_functions(encode, decode, (6,), self.SHAPE).to(torch.float64)
        z = surface.encode(torch.rand(2, *self.SHAPE, dtype=torch.float64))
        torch.testing.assert_close(surface.jacobian(z)[0], decode.weight.detach().double(), rtol=0, atol=1e-12)

    def test_of_plain_functions_computes_in_what_is_asked_for(self, caplog: pytest.LogCaptureFixture) -> None:
        surface = Autoencoder.from_functions(
            lambda x: x.flatten(1)[:, :6], lambda z: torch.cat([z.sin()] * 5, dim=1), (6,), self.SHAPE
        ).to(torch.float64)
        z = torch.rand(3, 6, dtype=torch.float64)
        right = torch.cat([torch.diag_embed(z.cos())] * 5, dim=1)
        torch.testing.assert_close(surface.jacobian(z), right, rtol=0, atol=1e-14)
        assert surface.encode(torch.rand(3, *self.SHAPE, dtype=torch.float64)).dtype == torch.float64
        assert not caplog.records

    def test_of_functions_that_hold_a_network_gets_its_precision(self, caplog: pytest.LogCaptureFixture) -> None:
        model = self.network()
        functions = (lambda x: model.into(x.flatten(1)), lambda z: model.out(z))
        surface = Autoencoder.from_functions(*functions, (6,), self.SHAPE).to(torch.float64)
        z = surface.encode(torch.rand(2, *self.SHAPE, dtype=torch.float64))
        jacobian = surface.jacobian(z)
        assert (z.dtype, jacobian.dtype) == (torch.float64, torch.float64)
        exact = self.surface()[0].to(torch.float64).jacobian(z)
        torch.testing.assert_close(jacobian, exact, rtol=0, atol=1e-5)
        caplog.clear()
        network = of_functions(*functions, (6,))
        for _ in range(2):
            image = network.decoder(z)
        assert image.dtype == torch.float64
        assert torch.equal(image.float(), model.out(z.float()))
        (record,) = caplog.records  # said once
        assert "the functions compute in torch.float32, not in torch.float64 as asked" in record.message

    def test_without_an_encoder_codes_are_those_of_closest_points(self) -> None:
        model = self.network()
        surface = Autoencoder.from_functions(None, lambda net, z: net.out(z), (6,), self.SHAPE, model=model)
        z = 0.5 * torch.randn(3, 6)
        torch.testing.assert_close(surface.encode(surface.decode(z)), z, rtol=0, atol=1e-4)

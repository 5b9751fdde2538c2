"""Adapters: somebody's network as an encoder and a decoder, each against the network's own methods."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from surfaces import central_differences
from torch import Tensor, nn

from latent_atlas.errors import CheckpointError, ModelError
from latent_atlas.geometry.manifold import Autoencoder, load_manifold
from latent_atlas.imports import ADAPTERS
from latent_atlas.models.adapters import Adapted, adapted, functions, pair_of
from latent_atlas.models.checkpoints import Checkpoint

SHAPE = (3, 6, 4)  # in colour, and no square
K = 5
PIXELS = math.prod(SHAPE)


class VAE(nn.Module):
    """A variational autoencoder with methods, as in many tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, 8)
        self.mean, self.log_variance = nn.Linear(8, K), nn.Linear(8, K)
        self.out = nn.Sequential(nn.Linear(K, 8), nn.ELU(), nn.Linear(8, PIXELS), nn.Sigmoid())

    def encode(self, x: Tensor) -> Any:
        h = self.hidden(x.flatten(1)).relu()
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor) -> Any:
        return self.out(z).view(-1, *SHAPE)

    def forward(self, x: Tensor) -> Any:
        mean, log_variance = self.encode(x)
        return self.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp()), mean, log_variance


class Normal(VAE):
    """It gives a distribution and a mapping."""

    def encode(self, x: Tensor) -> Any:
        mean, log_variance = super().encode(x)
        return torch.distributions.Normal(mean, log_variance.exp())

    def decode(self, z: Tensor) -> Any:
        return {"reconstruction": super().decode(z), "loss": torch.zeros(())}


@dataclass
class Output:
    """What Hugging Face's models give."""

    sample: Tensor


class Latents(NamedTuple):
    """A tuple with names, whose first entry is not the mean."""

    z: Tensor
    mu: Tensor


class Objects(VAE):
    """It gives a dataclass and a tuple with names."""

    def encode(self, x: Tensor) -> Any:
        mean, _ = super().encode(x)
        return Latents(mean + 1, mean)

    def decode(self, z: Tensor) -> Any:
        return Output(super().decode(z))


class Parts(nn.Module):
    """An encoder and a decoder, whose codes have a shape of their own."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


class Squeezed(nn.Module):
    """An encoder whose axes of length one are gone, that of the batch too."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, k, SHAPE[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).squeeze()


class Pair(nn.Module):
    """An encoder that gives a mean and a log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_variance = nn.Linear(PIXELS, K), nn.Linear(PIXELS, K)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x.flatten(1)), self.log_variance(x.flatten(1))


def linear(k: int = K) -> nn.Module:
    """A decoder of codes (N, k)."""
    return nn.Sequential(nn.Linear(k, PIXELS), nn.Sigmoid(), nn.Unflatten(1, SHAPE))


def images(count: int = 4) -> Tensor:
    """Images (N, 3, 6, 4)."""
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(5))


def surface_of(model: nn.Module, adapter: str | None, k: int = K) -> Autoencoder:
    """The surface of a network behind an adapter."""
    return Autoencoder(adapted(model, adapter, SHAPE, k), k, SHAPE)


def assert_derivatives_are_right(surface: Autoencoder) -> None:
    """The Jacobian in float64 agrees with differences."""
    wide = surface.to(torch.float64)
    z = wide.encode(images(2).double())
    assert z.dtype == torch.float64
    torch.testing.assert_close(wide.jacobian(z)[1], central_differences(wide, z[1]), rtol=0, atol=1e-8)


class TestVAE:
    """The adapter of tuples and outputs with names."""

    @pytest.mark.parametrize("kind", [VAE, Normal, Objects])
    def test_codes_are_means_and_images_reconstructions(self, kind: type[VAE]) -> None:
        model, x = kind().eval(), images()
        surface = surface_of(model, "vae")
        with torch.no_grad():
            mean, _ = VAE.encode(model, x)
            assert torch.equal(surface.encode(x), mean)
            assert torch.equal(surface.decode(mean), VAE.decode(model, mean))
            assert torch.equal(surface.model(x), surface.reconstruct(x))
        assert_derivatives_are_right(surface)

    def test_a_plain_decoder_keeps_the_fast_way(self) -> None:
        assert surface_of(VAE(), "vae").chain() is not None

    def test_what_has_no_such_entry_is_told(self) -> None:
        class Odd(VAE):
            def encode(self, x: Tensor) -> Any:
                return {"features": x}

        with pytest.raises(ModelError, match=r"gives a dict without latent_dist, .* or z: write two functions of your"):
            surface_of(Odd(), "vae")
        with pytest.raises(ModelError, match="Linear has no encode and no encoder: choose an adapter that fits"):
            surface_of(nn.Linear(2, 2), "vae")


class TestWithoutAnAdapter:
    """What is wrapped by itself: codes of another shape, and pairs of mean and log-variance."""

    def test_a_network_that_needs_none_is_left_as_it_is(self) -> None:
        model = Parts(nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, K)), linear())
        assert adapted(model, None, SHAPE, K) is model

    @pytest.mark.parametrize("k", [1, K])
    def test_squeezed_codes_are_those_of_one_image_too(self, k: int) -> None:
        model, x = Parts(Squeezed(k), linear(k)).eval(), images()
        surface = surface_of(model, None, k)
        with torch.no_grad():
            right = model.encoder.conv(x).flatten(1)  # type: ignore[operator]
        torch.testing.assert_close(surface.encode(x), right)
        torch.testing.assert_close(surface.encode(x[:1]), right[:1])
        assert_derivatives_are_right(surface)

    @pytest.mark.parametrize("name", [None, "plain"])
    def test_codes_with_a_shape_are_flattened_and_remembered(self, name: str | None) -> None:
        encoder = nn.Conv2d(3, 2, 3, stride=(3, 2), padding=(0, 1))  # 2 x 2 x 2
        decoder = nn.Sequential(nn.ConvTranspose2d(2, 3, (3, 2), stride=(3, 2)), nn.Sigmoid())
        surface, x = surface_of(Parts(encoder, decoder), name, 8), images()
        assert isinstance(surface.model, Adapted)
        assert surface.model.latent_shape == (2, 2, 2)
        with torch.no_grad():
            assert torch.equal(surface.encode(x), encoder(x).flatten(1))
            assert torch.equal(surface.reconstruct(x), decoder(encoder(x)))
        assert surface.chain() is not None
        assert_derivatives_are_right(surface)

    def test_codes_with_a_shape_for_a_decoder_of_flat_ones(self) -> None:
        encoder = nn.Conv2d(3, K, SHAPE[1:])  # 5 x 1 x 1
        surface, x = surface_of(Parts(encoder, linear()), None), images()
        with torch.no_grad():
            torch.testing.assert_close(surface.encode(x), encoder(x).flatten(1))
            torch.testing.assert_close(surface.reconstruct(x), surface.decoder(encoder(x).flatten(1)))
        assert_derivatives_are_right(surface)

    def test_layers_that_wait_for_an_image_have_their_shapes_from_the_start(self) -> None:
        class Lazy(Parts):
            def forward(self, x: Tensor) -> Tensor:
                return self.decoder(self.encoder(x))

        decoder = nn.Sequential(nn.LazyLinear(PIXELS), nn.Unflatten(1, SHAPE))
        model = Lazy(nn.Sequential(nn.Flatten(), nn.LazyLinear(K), nn.LazyBatchNorm1d()), decoder)
        network = adapted(model, None, SHAPE, K)
        assert {name: tuple(t.shape) for name, t in network.state_dict().items() if name.endswith("weight")} == {
            "encoder.1.weight": (K, PIXELS), "encoder.2.weight": (K,), "decoder.0.weight": (PIXELS, K),
        }  # fmt: skip

    def test_of_mean_and_log_variance_the_mean_is_taken(self, caplog: pytest.LogCaptureFixture) -> None:
        model, x = Parts(Pair(), linear()), images()
        with caplog.at_level("INFO", logger="latent_atlas"):
            surface = surface_of(model, None)
        assert "it is read through the adapter vae" in caplog.text
        with torch.no_grad():
            assert torch.equal(surface.encode(x), model.encoder(x)[0])

    def test_what_is_ambiguous_is_left_to_who_uses_it(self) -> None:
        class Three(Pair):
            def forward(self, x: Tensor) -> Any:
                return *super().forward(x), x

        class Breaks(Pair):
            def forward(self, x: Tensor) -> Any:
                raise RuntimeError("broken")

        for encoder in (Three(), Breaks(), nn.Flatten()):
            model = Parts(encoder, linear())
            assert adapted(model, None, SHAPE, K) is model


class TestDecoderOnly:
    """Codes by the closest point."""

    def test_images_on_the_surface_come_back(self) -> None:
        torch.manual_seed(3)
        decoder = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, PIXELS), nn.Unflatten(1, SHAPE))
        surface = surface_of(decoder, "decoder_only", 2).to(torch.float64)
        z = torch.randn(5, 2, dtype=torch.float64)
        torch.testing.assert_close(surface.encode(surface.decode(z)), z, rtol=0, atol=1e-6)
        narrow = surface.to(torch.float32)
        assert narrow.encode(surface.decode(z).float()).dtype == torch.float32
        torch.testing.assert_close(narrow.encode(surface.decode(z).float()).double(), z, rtol=0, atol=1e-4)
        assert_derivatives_are_right(surface)

    def test_a_generator_may_want_codes_as_pixels(self) -> None:
        class GAN(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.generator = nn.Sequential(nn.ConvTranspose2d(2, 3, SHAPE[1:]), nn.BatchNorm2d(3), nn.Tanh())
                self.critic = nn.Linear(PIXELS, 1)

        surface = surface_of(GAN(), "decoder_only", 2)
        assert isinstance(surface.model, Adapted)
        assert surface.model.latent_shape == (2, 1, 1)
        assert surface.decode(torch.zeros(3, 2)).shape == (3, *SHAPE)


class TestOwnAdapter:
    """Two functions in a module of the user's."""

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A module with a network, and with adapters for it."""
        (tmp_path / "my_adapters.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def __init__(self, shape, k):\n"
            "        super().__init__()\n"
            "        self.into, self.out, self.shape = nn.Linear(72, k), nn.Linear(k, 72), shape\n"
            "class Halved:\n"
            "    @staticmethod\n"
            "    def encode(model, x): return model.into(x.flatten(1)) / 2\n"
            "    @staticmethod\n"
            "    def decode(model, z): return model.out(2 * z).reshape(-1, *model.shape)\n"
            "class Half:\n"
            "    decode = None\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return "my_adapters"

    def test_is_kept_in_the_checkpoint_under_the_networks_names(self, module: str, tmp_path: Path) -> None:
        from latent_atlas.models.registry import build

        path, x = tmp_path / "m.safetensors", images()
        model = build(f"{module}:Net", SHAPE, K, {}, f"{module}:Halved").eval()
        assert sorted(model.state_dict()) == ["into.bias", "into.weight", "out.bias", "out.weight"]
        Checkpoint(model, f"{module}:Net", SHAPE, K, adapter=f"{module}:Halved").save(path)
        trust = {f"{module}:Net", f"{module}:Halved"}
        with torch.no_grad():
            assert torch.equal(load_manifold(path, trust).reconstruct(x), model(x))
        assert Checkpoint.load(path, trust).adapter == f"{module}:Halved"
        with pytest.raises(CheckpointError, match=rf"names the adapter '{module}:Halved', whose code would be run"):
            load_manifold(path, {f"{module}:Net"})

    def test_that_is_none_is_refused(self, module: str) -> None:
        with pytest.raises(ModelError, match=r"needs two functions, encode\(model, x\) and decode\(model, z\)"):
            functions(f"{module}:Half")
        with pytest.raises(ModelError, match="has no Absent"):
            functions(f"{module}:Absent")
        with pytest.raises(ModelError, match=r"has no Half1, did you mean 'Half'\?"):
            functions(f"{module}:Half1")
        with pytest.raises(ModelError, match="'nothing' is no adapter; choose one of decoder_only, diffusers, plain"):
            functions("nothing")


def test_every_adapter_has_its_two_functions() -> None:
    for name in ADAPTERS.known():
        encode, decode, posterior = functions(name)
        assert callable(decode)
        assert (encode is None) == (name == "decoder_only")
        assert (posterior is None) == (name in ("decoder_only", "plain"))


def test_codes_of_another_dimension_are_told() -> None:
    with pytest.raises(ModelError, match=r"the codes of VAE have 5 = 5 numbers, not 4: set latent_dim: 5"):
        adapted(VAE(), "vae", SHAPE, 4)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ModelError, match=r"adapter 'pythae' does not fit Parts \(AttributeError: .*\): choose another"):
        adapted(Parts(nn.Flatten(), linear()), "pythae", SHAPE, K)


def test_looking_at_a_network_leaves_no_traces() -> None:
    model = Parts(nn.Sequential(nn.Dropout(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), nn.Conv2d(2, 3, 1)).train()
    model.decoder.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    network = adapted(model, None, SHAPE, 48)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.encoder.training
    assert not model.decoder.training
    assert network.encoder.training  # type: ignore[union-attr]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_copies_are_of_their_own() -> None:
    network = adapted(VAE(), "vae", SHAPE, K)
    other = copy.deepcopy(network)
    with torch.no_grad():
        next(other.parameters()).zero_()
    assert not torch.equal(network(images()), other(images()))
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(images()), other(images()))


class TestPackages:
    """Networks of other packages, with random weights, where they are installed."""

    def test_diffusers(self) -> None:
        diffusers = pytest.importorskip("diffusers")
        torch.manual_seed(0)
        model = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(8, 16), norm_num_groups=4, latent_channels=2,
        ).eval()  # fmt: skip
        shape = (3, 8, 12)
        surface = Autoencoder(adapted(model, "diffusers", shape, 48), 48, shape)
        assert surface.model.latent_shape == (2, 4, 6)
        x = torch.rand(2, *shape)
        with torch.no_grad():
            z = model.encode(2 * x - 1).latent_dist.mode()
            torch.testing.assert_close(surface.encode(x), z.flatten(1))
            torch.testing.assert_close(surface.reconstruct(x), (model.decode(z).sample + 1) / 2)
        wide = surface.to(torch.float64)
        z = wide.encode(x[:1].double())
        torch.testing.assert_close(wide.jacobian(z)[0], central_differences(wide, z[0]), rtol=0, atol=1e-7)

    @pytest.mark.parametrize("kind", ["AE", "VAE", "BetaVAE"])
    def test_pythae(self, kind: str) -> None:
        models = pytest.importorskip("pythae.models")
        torch.manual_seed(0)
        config = getattr(models, f"{kind}Config")(input_dim=SHAPE, latent_dim=K)
        model, x = getattr(models, kind)(config).eval(), images()
        surface = surface_of(model, "pythae")
        with torch.no_grad():
            assert torch.equal(surface.encode(x), model.encoder(x).embedding)
            assert torch.equal(surface.decode(surface.encode(x)), model.decoder(surface.encode(x)).reconstruction)
        assert_derivatives_are_right(surface)


class TestPosterior:
    """Means and log-variances, which the objective vae needs."""

    def test_is_of_the_images_as_the_adapter_converts_them(self) -> None:
        network: Any = nn.Identity()
        network.encode = lambda x: SimpleNamespace(latent_dist=SimpleNamespace(mean=2 * x, logvar=3 * x, mode=None))
        _, decode, posterior = functions("diffusers")
        x = torch.rand(2, 1, 3, 3)
        mean, log_variance = Adapted(network, None, decode, (1, 3, 3), posterior).posterior(x)
        torch.testing.assert_close(mean, (2 * (2 * x - 1)).flatten(1))
        torch.testing.assert_close(log_variance, (3 * (2 * x - 1)).flatten(1))

    @pytest.mark.parametrize("output", [torch.zeros(2, 3), (torch.zeros(2, 3),), [torch.zeros(2, 3)]])
    def test_a_mean_alone_is_none(self, output: Any) -> None:
        with pytest.raises(ModelError, match="a mean without a log-variance, which the objective vae needs"):
            pair_of(output)

    def test_adapters_that_know_of_none(self) -> None:
        encode, decode, posterior = functions("plain")
        with pytest.raises(ModelError, match="read through an adapter without variances"):
            Adapted(nn.Identity(), encode, decode, (3,), posterior).posterior(torch.zeros(2, 1, 1, 3))

    def test_a_class_in_place_of_an_instance(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "classy.py").write_text(
            "class Mine:\n    def encode(self, model, x): ...\n    def decode(self, model, z): ...\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModelError, match="'classy:Mine' is a class: name an instance of it"):
            functions("classy:Mine")

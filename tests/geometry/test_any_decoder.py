"""Derivatives of decoders of every kind equal central differences, whichever way they are computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from surfaces import Layered, central_differences, random
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.weight_norm import weight_norm as old_weight_norm
from torch.utils.checkpoint import checkpoint

from latent_atlas.errors import LatentAtlasWarning
from latent_atlas.geometry.manifold import Autoencoder

K, SHAPE = 4, (1, 8, 8)


FREQUENCIES = torch.linspace(0.1, 2, K * 16).reshape(K, 16)


class Model(nn.Module):
    """Some encoder before a decoder."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, K))
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


class Methods(nn.Module):
    """An encoder and a decoder that are methods, not layers."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(64, K), nn.Linear(K, 64)

    def encoder(self, x: Tensor) -> Tensor:
        return self.into(x.flatten(1))

    def decoder(self, z: Tensor) -> Tensor:
        return torch.tanh(self.out(z))


class Decoder(Layered):
    """A function of layers and a code that gives 64 numbers for each code."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(z)).reshape(-1, *SHAPE)


def hidden(**more: nn.Module) -> dict[str, nn.Module]:
    """A first and a last layer, with others."""
    return {"a": nn.Linear(K, 16), "b": nn.Linear(16, 64), **more}


def unet(self: Any, z: Tensor) -> Tensor:
    """Down and up again with skips, all within the decoder."""
    top = functional.silu(self.a(z).view(-1, 1, 4, 4))
    first = functional.silu(self.c1(top))  # N x 4 x 4 x 4
    low = functional.silu(self.down(first))  # N x 4 x 2 x 2
    up = torch.cat([functional.interpolate(low, scale_factor=2), first], dim=1)
    return self.c2(functional.interpolate(up, scale_factor=2, mode="bilinear"))


def canvas(self: Any, z: Tensor) -> Tensor:
    page = torch.zeros(len(z), 64)  # in torch's default type
    page[:, :32] = self.b(torch.tanh(self.a(z)))[:, :32]
    page[:, 32:] = 0.5
    return page


def branch(self: Any, z: Tensor) -> Tensor:
    if z.abs().max().item() > 1e6:
        z = z.clamp(-1e6, 1e6)
    return self.b(torch.tanh(self.a(z)))


def quantised(self: Any, z: Tensor) -> Tensor:
    """Half of the code chooses an entry of a book; the derivative by that half is zero."""
    nearest = torch.cdist(z[:, 2:], self.book.weight).argmin(1)
    return self.b(torch.tanh(self.a(torch.cat([z[:, :2], self.book(nearest)], dim=1))))


def unpooled(self: Any, z: Tensor) -> Tensor:
    i = torch.arange(16).view(4, 4)
    places = (i // 4) * 16 + (i % 4) * 2
    return self.c(self.u(self.a(z).view(-1, 1, 4, 4), places.expand(len(z), 1, 4, 4)))


class Sine(torch.autograd.Function):
    """With a backward pass alone."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * context.saved_tensors[0].cos()


def warped(self: Any, z: Tensor) -> Tensor:
    """A picture moved by a code; its sampling has no forward mode."""
    picture = self.a(z).view(-1, *SHAPE)
    grid = functional.affine_grid(0.3 * self.c(z).view(-1, 2, 3), picture.shape, align_corners=False)
    return functional.grid_sample(picture, grid, align_corners=False)


def mixed(self: Any, z: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = self.b(torch.tanh(self.a(z)))
    return y.float()


def sdpa(self: Any, z: Tensor) -> Tensor:
    q, k, v = self.a(z).view(-1, 1, 4, 4), self.k(z).view(-1, 1, 4, 4), self.v(z).view(-1, 1, 4, 4)
    return self.b(functional.scaled_dot_product_attention(q, k, v).flatten(1))


def mha(self: Any, z: Tensor) -> Tensor:
    tokens = self.a(z).view(-1, 4, 4)
    return self.b(self.m(tokens, tokens, tokens)[0].flatten(1))


def tied() -> nn.Module:
    model, shared = Model(nn.Sequential()), nn.Linear(64, K)
    model.decoder = Decoder(
        lambda self, z: functional.linear(torch.tanh(z @ self.lin.weight), self.lin.weight.T @ self.lin.weight),
        lin=shared,
    )
    model.encoder = nn.Sequential(nn.Flatten(), shared)
    return model


DECODERS: dict[str, Callable[[], Any]] = {
    "chain": lambda: nn.Sequential(nn.Linear(K, 16), nn.ELU(), nn.Linear(16, 64), nn.Sigmoid()),
    "residual": lambda: Decoder(lambda s, z: s.b(s.a(z) + torch.tanh(s.c(s.a(z)))), **hidden(c=nn.Linear(16, 16))),
    "U-net": lambda: Decoder(unet, a=nn.Linear(K, 16), c1=nn.Conv2d(1, 4, 3, padding=1),
                             down=nn.Conv2d(4, 4, 3, 2, 1), c2=nn.Conv2d(8, 1, 3, padding=1)),
    "GroupNorm": lambda: nn.Sequential(nn.Linear(K, 64), nn.Unflatten(1, (4, 4, 4)), nn.GroupNorm(2, 4), nn.SiLU(True),
                                       nn.Flatten()),
    "LayerNorm": lambda: nn.Sequential(nn.Linear(K, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 64)),
    "MultiheadAttention": lambda: Decoder(mha, **hidden(m=nn.MultiheadAttention(4, 2, batch_first=True))),
    "SDPA": lambda: Decoder(sdpa, **hidden(k=nn.Linear(K, 16), v=nn.Linear(K, 16))),
    "transformer layer": lambda: Decoder(lambda s, z: s.b(s.t(s.a(z).view(-1, 2, 8)).flatten(1)),
                                         **hidden(t=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))),
    "transformer decoder": lambda: Decoder(
        lambda s, z: s.b(s.t(s.a(z).view(-1, 2, 8), s.a(z).view(-1, 2, 8)).flatten(1)),
        **hidden(t=nn.TransformerDecoderLayer(8, 2, 16, batch_first=True))),
    "bilinear": lambda: nn.Sequential(nn.Linear(K, 16), nn.Unflatten(1, (1, 4, 4)), nn.Tanh(),
                                      nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3, padding=1)),
    "pixel shuffle": lambda: nn.Sequential(nn.Linear(K, 64), nn.Unflatten(1, (4, 4, 4)), nn.GELU(), nn.PixelShuffle(2)),
    "checkpoint": lambda: Decoder(lambda s, z: s.b(checkpoint(s.e, s.a(z), use_reentrant=False)),
                                  **hidden(e=nn.Sequential(nn.ELU(), nn.Linear(16, 16)))),
    "reentrant checkpoint": lambda: Decoder(lambda s, z: s.b(checkpoint(s.e, s.a(z), use_reentrant=True)),
                                            **hidden(e=nn.Sequential(nn.ELU(), nn.Linear(16, 16)))),
    "compiled": lambda: torch.compile(nn.Sequential(nn.Linear(K, 16), nn.ELU(), nn.Linear(16, 64)), backend="eager"),
    "old weight norm": lambda: nn.Sequential(old_weight_norm(nn.Linear(K, 16)), nn.ELU(), nn.Linear(16, 64)),
    "new weight norm": lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(K, 16)), nn.ELU(),
                                             nn.Linear(16, 64)),
    "spectral norm": lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(K, 16)), nn.ELU(),
                                           nn.Linear(16, 64)),
    "old spectral norm": lambda: nn.Sequential(old_spectral_norm(nn.Linear(K, 16)), nn.ELU(), nn.Linear(16, 64)),
    "tied": tied,
    "GRU": lambda: Decoder(lambda s, z: s.b(s.g(s.a(z).view(-1, 4, 4))[0].flatten(1)),
                           **hidden(g=nn.GRU(4, 4, batch_first=True))),
    "LSTM": lambda: Decoder(lambda s, z: s.b(s.g(s.a(z).view(-1, 4, 4))[0].flatten(1)),
                            **hidden(g=nn.LSTM(4, 4, batch_first=True))),
    "vector quantiser": lambda: Decoder(quantised, **hidden(book=nn.Embedding(5, 2))),
    "MaxUnpool": lambda: Decoder(unpooled, a=nn.Linear(K, 16), u=nn.MaxUnpool2d(2), c=nn.Conv2d(1, 1, 3, padding=1)),
    "filled canvas": lambda: Decoder(canvas, **hidden()),
    "branch": lambda: Decoder(branch, **hidden()),
    "branch and canvas": lambda: Decoder(lambda s, z: branch(s, z) + canvas(s, z), **hidden()),
    "cast to float": lambda: Decoder(lambda s, z: s.b(torch.tanh(s.a(z.float()))), **hidden()),
    "cast to float32": lambda: Decoder(lambda s, z: s.b(torch.tanh(s.a(z.to(dtype=torch.float32)))), **hidden()),
    "tensor that is no buffer": lambda: Decoder(lambda s, z: s.b((z @ FREQUENCIES).sin()), **hidden()),
    "function without forward mode": lambda: Decoder(lambda s, z: s.b(Sine.apply(s.a(z))), **hidden()),
    "Fourier": lambda: Decoder(lambda s, z: torch.fft.irfft(torch.complex(s.a(z), s.c(z)), n=64), a=nn.Linear(K, 33),
                               c=nn.Linear(K, 33)),
    "warped": lambda: Decoder(warped, a=nn.Linear(K, 64), c=nn.Linear(K, 6)),
    "mixed precision": lambda: Decoder(mixed, **hidden()),
    "a method": Methods,
    "script": lambda: torch.jit.script(nn.Sequential(nn.Linear(K, 16), nn.Tanh(), nn.Linear(16, 64))),
    "loop over codes": lambda: Decoder(lambda s, z: torch.stack([s.b(s.a(code).tanh()) for code in z]), **hidden()),
    "in place on the code": lambda: nn.Sequential(nn.ELU(inplace=True), nn.Linear(K, 64), nn.LeakyReLU(inplace=True)),
    "clamped in place": lambda: Decoder(lambda s, z: s.b(torch.sin(s.a(z)).mul_(2)).clamp_(-3, 3), **hidden()),
    "view after convolution": lambda: Decoder(
        lambda s, z: s.b((y := s.c(s.a(z).view(-1, 1, 4, 4))).view(y.size(0), -1)),
        **hidden(c=nn.Conv2d(1, 1, 3, padding=1))),
    "squeezed": lambda: Decoder(lambda s, z: s.b(torch.tanh(s.a(z))).squeeze(), **hidden()),
    "two branches of a module list": lambda: Decoder(
        lambda s, z: sum(layer(z) for layer in s.some), some=nn.ModuleList([nn.Linear(K, 64), nn.Linear(K, 64)])),
}  # fmt: skip


def surface(kind: str) -> Autoencoder:
    torch.manual_seed(0)
    made = DECODERS[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Autoencoder(made if isinstance(made, Model | Methods) else Model(made), K, SHAPE, kind).to(torch.float64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", DECODERS)
def test_all_derivatives_agree_with_central_differences(kind: str) -> None:
    manifold = surface(kind)
    z = 0.3 * random(2, K, seed=1)
    before = z.clone()
    wanted = torch.stack([central_differences(manifold, code) for code in z])  # N x P x k
    near: Any = {"rtol": 0, "atol": 1e-7 * float(wanted.abs().max())}
    v, w = random(2, 3, K, seed=2), random(2, 5, 64, seed=3)
    torch.testing.assert_close(manifold.jacobian(z), wanted, **near)
    torch.testing.assert_close(manifold.pushforward(z, v), v @ wanted.mT, rtol=1e-6, atol=10 * near["atol"])
    torch.testing.assert_close(manifold.pullback(z, w), w @ wanted, rtol=1e-6, atol=10 * near["atol"])
    torch.testing.assert_close(manifold.pullback(z, w[:, :1]), w[:, :1] @ wanted, rtol=1e-6, atol=10 * near["atol"])
    torch.testing.assert_close(manifold.metric(z), wanted.mT @ wanted, rtol=1e-5, atol=10 * near["atol"])
    assert torch.equal(z, before)
    assert not any(weight.grad is not None for weight in manifold.model.parameters())
    assert all(weight.requires_grad for weight in manifold.model.parameters())


@pytest.mark.parametrize(
    ("kind", "able"),
    [
        ("residual", {}),
        ("branch", {"pushforward": 1, "pullback": 1}),
        ("warped", {"pushforward": 2}),
        ("checkpoint", {"pullback": 1}),
    ],
)
def test_a_slower_way_is_remembered_and_said_once(kind: str, able: dict[str, int]) -> None:
    manifold = surface(kind)
    z = random(2, K)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for each in (manifold, manifold, manifold.to(torch.float32)):
            each.jacobian(z.to(each.dtype))
            each.pullback(z.to(each.dtype), random(2, 2, 64).to(each.dtype))
            each.metric(z.to(each.dtype))
    assert manifold._able == able
    assert sum(issubclass(one.category, LatentAtlasWarning) for one in said) == bool(able)


def test_settings_are_as_before() -> None:
    fast, cudnn = torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled
    flash = torch.backends.cuda.flash_sdp_enabled()
    manifold = surface("transformer layer")
    manifold.jacobian(random(2, K))
    with pytest.raises(RuntimeError):
        manifold.jacobian(random(2, K + 1))
    assert torch.get_default_dtype() == torch.float32
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert (torch.backends.cudnn.enabled, torch.backends.cuda.flash_sdp_enabled()) == (cudnn, flash)
    assert all(weight.requires_grad for weight in manifold.model.parameters())


@pytest.mark.parametrize("kind", ["branch", "warped", "filled canvas"])
def test_in_blocks_and_in_inference_mode(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifold = surface(kind)
    z = random(2, K)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, metric = manifold.jacobian(z), manifold.metric(z)
        monkeypatch.setattr("latent_atlas.geometry.manifold.JACOBIAN_MEMORY", 64 * 32 * 8 * 3)  # three vectors
        near: Any = {"rtol": 1e-12, "atol": 1e-13}
        torch.testing.assert_close(manifold.jacobian(z), whole, **near)
        torch.testing.assert_close(manifold.metric(z), metric, **near)
        with torch.inference_mode():
            torch.testing.assert_close(manifold.jacobian(z + 0), whole, **near)
    assert manifold.jacobian(z[:0]).shape == (0, 64, K)

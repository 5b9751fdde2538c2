"""Tangents pushed through layers: equal to automatic differentiation, and used where the structure allows it alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from latent_atlas.geometry import derivatives as pushforward
from latent_atlas.geometry.derivatives import Pushforward
from latent_atlas.geometry.manifold import Autoencoder, Manifold
from latent_atlas.models import registry

SHAPE = (1, 12, 12)


def manifold(decoder: nn.Module, k: int, shape: tuple[int, int, int] = SHAPE) -> Autoencoder:
    torch.manual_seed(0)
    network = nn.Module()
    network.encoder = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), k))
    network.decoder = decoder
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return Autoencoder(network.double(), k, shape)


def codes(count: int, k: int) -> Tensor:
    return torch.randn(count, k, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


DECODERS = {
    "linear": nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 144, bias=False)),
    "one linear map": nn.Linear(3, 144),
    "pointwise first": nn.Sequential(nn.SiLU(), nn.Linear(3, 144), nn.Sigmoid()),
    "BatchNorm and dropout": nn.Sequential(
        nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ELU(), nn.Dropout(0.5), nn.Linear(6, 144), nn.BatchNorm1d(144)
    ),
    "slopes twice in a row": nn.Sequential(nn.Linear(3, 144), nn.Tanh(), nn.Softplus(), nn.BatchNorm1d(144)),
    "strided, padded, grouped": nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)),
        nn.ConvTranspose2d(3, 4, 3),
        nn.LeakyReLU(),
        nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.BatchNorm2d(8, affine=False),
        nn.ELU(),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Conv2d(4, 1, 3, padding="same", dilation=2),
    ),
    "shuffled pixels": nn.Sequential(
        nn.Linear(3, 144), nn.Unflatten(1, (4, 6, 6)), nn.GELU(), nn.PixelShuffle(2), nn.Flatten()
    ),
    "in place": nn.Sequential(nn.Linear(3, 9), nn.ELU(inplace=True), nn.Linear(9, 144), nn.LeakyReLU(inplace=True)),
    "one dimension": nn.Sequential(
        nn.Unflatten(1, (3, 1)), nn.ConvTranspose1d(3, 2, 72), nn.Tanh(), nn.Flatten(), nn.Linear(144, 144)
    ),
}


@pytest.mark.parametrize("decoder", DECODERS.values(), ids=list(DECODERS))
@pytest.mark.parametrize("memory", [1, 20_000, 2**30])
def test_equals_automatic_differentiation(decoder: nn.Module, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushforward, "CPU_MEMORY", memory)
    surface = manifold(decoder, 3)
    assert surface.chain() is not None
    z = codes(5, 3)
    torch.testing.assert_close(surface.jacobian(z), Manifold.jacobian(surface, z), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("architecture", ["convolutional", "fully_connected"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_models_of_the_study(architecture: str, channels: int) -> None:
    shape = (channels, 12, 12)
    torch.manual_seed(0)
    model = registry.build(architecture, shape, 7, {})
    surface = Autoencoder(model.double(), 7, shape)
    assert surface.chain() is not None
    z = codes(4, 7)
    torch.testing.assert_close(surface.jacobian(z), Manifold.jacobian(surface, z), rtol=1e-12, atol=1e-14)
    single = surface.to(torch.float32)
    torch.testing.assert_close(single.jacobian(z.float()).double(), surface.jacobian(z), rtol=1e-4, atol=1e-6)


def test_linear_map_exactly() -> None:
    matrix = torch.randn(144, 3, dtype=torch.float64)
    layer = nn.Linear(3, 144).double()
    layer.weight.data = matrix
    network = nn.Module()
    network.encoder, network.decoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 3).double()), layer
    found = Autoencoder(network, 3, SHAPE).jacobian(codes(2, 3))
    assert torch.equal(found, matrix.expand(2, -1, -1))


def test_no_codes() -> None:
    assert manifold(DECODERS["linear"], 3).jacobian(codes(0, 3)).shape == (0, 144, 3)


class Skip(nn.Module):
    """A layer, and the way around it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 3), nn.Linear(3, 144)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(z + self.inner(z))


class Functional(nn.Module):
    """What no layer shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 144)

    def forward(self, z: Tensor) -> Tensor:
        return self.last(torch.sin(self.first(z)))


class Swish(nn.Module):
    """A layer of a kind that is not known."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Scaled(nn.Linear):
    """Not what its class says."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * super().forward(x)


class Named(nn.Module):
    """A layer called by name."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 144)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(input=z)


UNKNOWN = {
    "another forward": Scaled(3, 144),
    "called by name": Named(),
    "skip": Skip(),
    "functional": Functional(),
    "unknown layer": nn.Sequential(nn.Linear(3, 144), Swish()),
    "normed over the batch": nn.Sequential(nn.Linear(3, 144), nn.LayerNorm(144)),
    "circular": nn.Sequential(
        nn.Linear(3, 144), nn.Unflatten(1, SHAPE), nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")
    ),
}


@pytest.mark.parametrize("decoder", UNKNOWN.values(), ids=list(UNKNOWN))
def test_any_other_network_by_automatic_differentiation(decoder: nn.Module) -> None:
    surface = manifold(decoder, 3)
    assert surface.chain() is None
    z = codes(3, 3)
    wanted = torch.stack([torch.autograd.functional.jacobian(lambda c: decoder(c[None]).flatten(), code) for code in z])
    torch.testing.assert_close(surface.jacobian(z), wanted, rtol=1e-10, atol=1e-12)


class Fork(nn.Module):
    """Not the same for all codes: the layers are found with codes between zero and one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 144)

    def forward(self, z: Tensor) -> Tensor:
        y = self.last(self.first(z))
        return 1e-6 * torch.where((z < 0).any(dim=1, keepdim=True), y.square(), y)


def test_a_network_that_forks_is_noticed() -> None:
    surface = manifold(Fork(), 3)
    inside = codes(4, 3).abs()
    for z in (inside, -inside):
        torch.testing.assert_close(surface.jacobian(z), Manifold.jacobian(surface, z), rtol=1e-12, atol=1e-18)


def test_memory_is_bounded() -> None:
    push = manifold(DECODERS["shuffled pixels"], 3).chain()
    assert push is not None
    sizes = []

    def watch(t: Tensor) -> Tensor:
        sizes.append(t.numel() * t.element_size())
        return nn.functional.pixel_shuffle(t, 2)

    push.memory = 10 * 144 * 8
    push.steps = [
        pushforward._Step(step.layer, watch if isinstance(step.layer, nn.PixelShuffle) else step.push, step.scale)
        for step in push.steps
    ]
    with torch.no_grad():
        push(codes(40, 3), torch.eye(3, dtype=torch.float64).expand(40, -1, -1))
    assert sizes
    assert max(sizes) <= 10 * 144 * 8


def test_weights_that_change_are_seen() -> None:
    surface = manifold(nn.Sequential(nn.Linear(3, 144), nn.BatchNorm1d(144), nn.Tanh()), 3)
    z = codes(2, 3)
    surface.jacobian(z)
    with torch.no_grad():
        surface.decoder[1].weight.mul_(5)  # type: ignore[index]
    torch.testing.assert_close(surface.jacobian(z), Manifold.jacobian(surface, z), rtol=1e-12, atol=1e-13)


def test_says_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="nothing is known here of the derivative of a LayerNorm"):
        Pushforward(UNKNOWN["normed over the batch"].double().eval(), 3, codes(1, 3))

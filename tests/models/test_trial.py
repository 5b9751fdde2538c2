"""The trial of three images: what it refuses and in which words, what it accepts, and that it leaves no trace."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import same_state
from surfaces import Layered
from torch import Tensor, nn
from torch.nn import functional

from latent_atlas.errors import ModelError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import Autoencoder
from latent_atlas.models.registry import build
from latent_atlas.models.surroundings import copied
from latent_atlas.models.trial import trial

K, SHAPE = 3, (1, 8, 8)
ONE = torch.ones(1)


class Base(nn.Module):
    """An autoencoder that is right; parts of it are replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ELU(), nn.Linear(16, K))
        self.decoder: Any = nn.Sequential(nn.Linear(K, 16), nn.ELU(), nn.Linear(16, 64), nn.Sigmoid(),
                                          nn.Unflatten(1, SHAPE))  # fmt: skip

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.encoder(x))


def with_encoder(function: Callable[[Any, Tensor], Any], **layers: nn.Module) -> Base:
    model = Base()
    model.encoder = Layered(function, lin=nn.Linear(64, K), **layers)
    return model


def with_decoder(function: Callable[[Any, Tensor], Any], **layers: nn.Module) -> Base:
    model = Base()
    model.decoder = Layered(function, lin=nn.Linear(K, 64), **layers)
    return model


def with_forward(function: Callable[[Base, Tensor], Any]) -> Base:
    kind = type("Own", (Base,), {"forward": function})
    model: Base = kind()
    return model


def drawn(self: Any, z: Tensor) -> Tensor:
    return self.lin(z).sigmoid().reshape(-1, *SHAPE)


class Through(torch.autograd.Function):
    """Rounded numbers whose gradient is that of the numbers."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return (8 * x).round() / 8

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def nan_weights() -> Base:
    model = Base()
    with torch.no_grad():
        model.decoder[2].bias[5] = math.nan
    return model


def unregistered() -> Base:
    """A layer in a plain list, of which the state dict does not know."""
    model = with_decoder(lambda s, z: (s.lin(z) + s.hidden[0](z)).sigmoid().reshape(-1, *SHAPE))
    model.decoder.hidden = [nn.Linear(K, 64)]
    return model


def batch_statistics() -> Base:
    model = Base()
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    model.decoder = nn.Sequential(nn.Linear(K, 64), nn.Unflatten(1, SHAPE), nn.Conv2d(1, 4, 3, padding=1), norm,
                                  nn.Conv2d(4, 1, 3, padding=1), nn.Sigmoid())  # fmt: skip
    return model


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a tuple": (lambda: with_encoder(lambda s, x: (s.lin(flat(x)), s.lin(flat(x)))),
                "its encoder gave a tuple of 2 for images of 3 x 1 x 8 x 8; needed: one floating tensor of 3 x 3 "),
    "other latent_dim": (lambda: with_encoder(lambda s, x: s.lin(flat(x))[:, :2]), "gave a float32 tensor of 3 x 2"),
    "codes of integers": (lambda: with_encoder(lambda s, x: s.lin(flat(x)).long()), "gave a int64 tensor of 3 x 3"),
    "codes the wrong way round": (lambda: with_encoder(lambda s, x: s.lin(flat(x)).T.reshape(1, 9)),
                                  "float32 tensor of 1 x 9"),
    "two channels": (lambda: with_decoder(lambda s, z: torch.cat([drawn(s, z)] * 2, dim=1)),
                     "its decoder gave a float32 tensor of 3 x 2 x 8 x 8 for 3 codes; needed: 3 times the 64 numbers"),
    "half an image": (lambda: with_decoder(lambda s, z: drawn(s, z)[..., :4]), "a float32 tensor of 3 x 1 x 8 x 4"),
    "one image for all": (lambda: with_decoder(lambda s, z: drawn(s, z)[:1]), "a float32 tensor of 1 x 1 x 8 x 8"),
    "a dictionary": (lambda: with_decoder(lambda s, z: {"sample": drawn(s, z)}), "its decoder gave a dict"),
    "weights of NaN": (nan_weights, "its tensor decoder.2.bias holds numbers that are not finite"),
    "division by zero": (lambda: with_decoder(lambda s, z: drawn(s, z) / 0), "its decoder gave numbers that are not"),
    "noise in the encoder": (lambda: with_encoder(lambda s, x: (m := s.lin(flat(x))) + torch.randn_like(m)),
                             "its encoder gave other numbers for the same input in eval mode, by up to"),
    "noise of numpy": (lambda: with_decoder(lambda s, z: drawn(s, z) * float(np.random.rand())),
                       "its decoder gave other numbers for the same input in eval mode"),
    "functional dropout": (lambda: with_decoder(lambda s, z: functional.dropout(drawn(s, z), 0.3)),
                           "its decoder gave other numbers for the same input"),
    "a counter": (lambda: with_decoder(lambda s, z: drawn(s, z) * _count(s)),
                  "its decoder gave other numbers for the same input"),
    "sigmoid in forward": (lambda: with_forward(lambda s, x: Base.forward(s, x).sigmoid()),
                           r"its forward\(x\) differs from decoder\(encoder\(x\)\), by up to 0\.\d+ where"),
    "input added in forward": (lambda: with_forward(lambda s, x: Base.forward(s, x) + 0.01 * x), "its forward"),
    "no channel": (lambda: with_forward(lambda s, x: Base.forward(s, x)[:, 0]),
                   "its forward gave a float32 tensor of 3 x 8 x 8 for images of 3 x 1 x 8 x 8; needed: "
                   "reconstructions of just that shape, 3 x 1 x 8 x 8"),
    "flat reconstructions": (lambda: with_forward(lambda s, x: Base.forward(s, x).flatten(1)), "tensor of 3 x 64"),
    "NaN in forward": (lambda: with_forward(lambda s, x: (Base.forward(s, x) - 5).log()),
                       "its forward gave numbers that are not finite"),
    "tuple of forward": (lambda: with_forward(lambda s, x: (Base.forward(s, x), 0)), "its forward gave a tuple of 2"),
    "statistics of the batch": (batch_statistics, "its decoder gives other numbers for an input alone than in a batch"),
    "mean of the batch": (lambda: with_encoder(lambda s, x: s.lin(flat(x) - flat(x).mean(0))),
                          "its encoder gives other numbers for an input alone than in a batch"),
    "writes over images": (lambda: with_encoder(lambda s, x: s.lin(flat(x.sub_(0.5)))), "its encoder writes over the"),
    "no gradient": (lambda: with_decoder(lambda s, z: drawn(s, z.detach())), "by automatic differentiation and"),
    "half a gradient": (lambda: with_decoder(lambda s, z: drawn(s, z) + drawn(s, 2 * z).detach()), "by automatic diff"),
    "straight-through": (lambda: with_decoder(lambda s, z: drawn(s, Through.apply(z))), "or straight-through gradient"),
    "numpy": (lambda: with_decoder(lambda s, z: drawn(s, torch.from_numpy(np.tanh(z.numpy())))),
              "its decoder cannot be differentiated in decoder"),
    "an error of its own": (lambda: with_decoder(lambda s, z: [][1]), "its decoder raised IndexError in its layer"),
}  # fmt: skip


def _count(module: Any) -> int:
    module.__dict__["n"] = module.__dict__.get("n", 0) + 1
    return int(module.__dict__["n"])


@pytest.mark.parametrize("kind", REFUSED)
def test_refuses_in_one_sentence(kind: str) -> None:
    make, words = REFUSED[kind]
    with pytest.raises(ModelError, match=words) as caught:
        trial(make(), SHAPE, K, "mine")
    assert str(caught.value).startswith("mine (")
    assert str(caught.value).endswith("(docs/models.md, What is checked)")
    assert "\n" not in str(caught.value)
    assert "; needed: " in str(caught.value)


def test_refuses_what_a_state_dict_does_not_hold() -> None:
    """A buffer that is not kept: another network of the class draws another one."""

    def make() -> Base:
        model = with_decoder(lambda s, z: (s.lin(z) + s.noise).sigmoid().reshape(-1, *SHAPE))
        model.decoder.register_buffer("noise", torch.randn(64), persistent=False)
        return model

    for kind in (make, unregistered):
        trial(kind(), SHAPE, K, "mine")  # nothing shows it without another one
        with pytest.raises(ModelError, match="another network draws other images"):
            trial(kind(), SHAPE, K, "mine", kind)


def test_refuses_a_network_whose_copies_differ() -> None:
    model = with_decoder(lambda s, z: drawn(s, z) + s.seen["z"].mean(1)[:, None, None, None])
    seen: dict[str, Tensor] = {}
    model.decoder.seen = seen
    model.decoder.register_forward_pre_hook(lambda layer, given: seen.update(z=given[0]))
    with pytest.raises(ModelError, match="a copy of it draws other images"):
        trial(model, SHAPE, K, "mine")


def test_refuses_a_network_without_forward_only_as_a_whole() -> None:
    model = nn.Module()
    model.encoder, model.decoder = Base().encoder, Base().decoder
    assert trial(model, SHAPE, K, "mine", whole=False) == []
    with pytest.raises(ModelError, match=r"it has no forward; needed: forward\(x\)"):
        trial(model, SHAPE, K, "mine")


class ReLUs(Base):
    """Kinks at many points."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(
            nn.Linear(K, 500), nn.ReLU(), nn.Linear(500, 64), nn.ReLU(), nn.Unflatten(1, SHAPE)
        )


def float_cast() -> Base:
    return with_decoder(lambda s, z: drawn(s, z.float()))


ACCEPTED: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "plain": (Base, None),
    "kinks": (ReLUs, None),
    "squeezed codes": (lambda: with_encoder(lambda s, x: s.lin(flat(x)).squeeze()), None),
    "flat images": (lambda: with_decoder(lambda s, z: s.lin(z).sigmoid()), "its forward gave"),
    "random in training mode": (lambda: with_encoder(lambda s, x: s.lin(functional.dropout(flat(x), 0.5, s.training))),
                                None),
    "BatchNorm": (lambda: with_decoder(lambda s, z: drawn(s, s.norm(z)), norm=nn.BatchNorm1d(K)), None),
}  # fmt: skip


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepts(kind: str) -> None:
    make, only_parts = ACCEPTED[kind]
    assert trial(make(), SHAPE, K, "mine", whole=only_parts is None) == []


@pytest.mark.parametrize("architecture", ["fully_connected", "convolutional"])
@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 9, 14)])
def test_the_built_in_ones_without_a_remark(architecture: str, shape: tuple[int, int, int]) -> None:
    options = {"kernel": 3} if architecture == "convolutional" else {}

    def make() -> nn.Module:
        return build(architecture, shape, 5, options)

    assert trial(make(), shape, 5, architecture, make) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_in_each_precision(dtype: torch.dtype) -> None:
    assert trial(Base().to(dtype), SHAPE, K, "mine") == []


@pytest.mark.parametrize("cast", [lambda z: z.float(), lambda z: z.to(torch.float32), lambda z: z.type(torch.float32),
                                  lambda z: z.to("cpu", torch.float32), lambda z: z.type_as(torch.ones(1).float()),
                                  lambda z: z.to(ONE)])  # fmt: skip
def test_tells_of_casts(cast: Callable[[Tensor], Tensor]) -> None:
    (remark,) = trial(with_decoder(lambda s, z: drawn(s, cast(z))), SHAPE, K, "mine")
    assert "casts numbers to a narrower type" in remark


def test_tells_of_a_decoder_that_is_constant_in_pieces() -> None:
    model = with_decoder(
        lambda s, z: drawn(s, s.book(torch.cdist(z, s.book.weight).argmin(1))), book=nn.Embedding(5, K)
    )
    (remark,) = trial(model, SHAPE, K, "mine")
    assert "its Jacobian is zero" in remark


def test_leaves_no_trace() -> None:
    model = with_decoder(lambda s, z: drawn(s, s.norm(z)), norm=nn.BatchNorm1d(K)).train()
    model.encoder.eval()
    before = copied(model)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    wanted = torch.rand(3), np.random.rand(), random.random()  # noqa: S311
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    trial(model, SHAPE, K, "mine")
    found = torch.rand(3), np.random.rand(), random.random()  # noqa: S311
    assert torch.equal(found[0], wanted[0])
    assert found[1:] == wanted[1:]
    assert same_state(model, before)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.get_default_dtype() == torch.float32


class Tied(Base):
    """One weight in both parts, and the parts named twice."""

    def __init__(self) -> None:
        super().__init__()
        lin = nn.Linear(64, K)
        self.encoder = nn.Sequential(nn.Flatten(), lin)
        self.decoder = Layered(lambda s, z: functional.linear(z, s.lin.weight.T).sigmoid().reshape(-1, *SHAPE), lin=lin)
        self.net = nn.Sequential(self.encoder, self.decoder)


def test_tied_weights_are_kept_and_come_back_tied(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    assert trial(model, SHAPE, K, "mine", Tied) == []
    write_safetensors(tmp_path / "tied.safetensors", model.state_dict(), {})
    other.load_state_dict(read_safetensors(tmp_path / "tied.safetensors")[1])
    assert same_state(model, other)
    assert other.encoder[1].weight is other.decoder.lin.weight
    double = copied(other).double()
    assert double.encoder[1].weight is double.decoder.lin.weight  # type: ignore[union-attr, index]


class Scaled(Base):
    """A function over its own weights, a lock, and what a call leaves behind."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(64))
        self.stretched = lambda y: y * self.scale.reshape(SHAPE)
        self.lock = threading.Lock()
        self.features: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.features = [self.encoder(x)]
        return self.stretched(self.decoder(self.features[0]))


def test_copies_of_what_cannot_be_copied() -> None:
    model = Scaled().train()
    x = torch.rand(2, *SHAPE)
    before = model(x)
    for other in (copied(model), copied(model, Scaled)):
        assert other is not model
        assert same_state(other, model)
        assert other.training
        torch.testing.assert_close(other(x), before)
    rebuilt = copied(model, Scaled).double()  # the copy's function is still over the weights of the first
    assert rebuilt(x.double()).dtype == torch.float64
    with torch.no_grad():
        rebuilt.scale.zero_()  # type: ignore[operator]
    assert not rebuilt(x.double()).any()
    torch.testing.assert_close(model(x), before)


def test_a_builder_that_gives_the_same_network_again() -> None:
    model = Base()
    before = copied(model)
    assert trial(model, SHAPE, K, "mine", lambda: model) == []
    assert copied(model, lambda: model) is not model
    assert same_state(model, before)


class Cast(nn.Module):
    """A decoder that casts."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(3, 64)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.lin(z.float())).reshape(-1, 1, 8, 8)


class Late(Cast):
    """A decoder that casts at the end."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.lin(z)).reshape(-1, 1, 8, 8).float()


class TestTorchScript:
    """Programs, into which nothing can reach."""

    def test_without_casts_are_as_any_other(self) -> None:
        assert trial(torch.jit.script(Plain()), SHAPE, K, "mine") == []

    @pytest.mark.parametrize("kind", [Cast, Late])
    def test_with_casts_are_told_how_they_can_be_measured(self, kind: type[nn.Module]) -> None:
        model, program = Base(), torch.jit.script(kind())
        model.decoder = program
        with pytest.raises(ModelError, match=r"needed: a TorchScript program without casts to float32; or"):
            trial(model, SHAPE, K, "mine", whole=False)
        functions = (lambda x: x.flatten(1)[:, :K], lambda z: program(z))
        surface = Autoencoder.from_functions(*functions, (K,), SHAPE).to(torch.float64)
        z = torch.rand(2, K, dtype=torch.float64)
        exact = (1 - surface.decode(z).flatten(1)[..., None] ** 2) * program.lin.weight.double()  # of tanh
        torch.testing.assert_close(surface.jacobian(z), exact, rtol=0, atol=1e-6)


class Plain(nn.Module):
    """An autoencoder that TorchScript can compile."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

"""A trial of a network with three images: whether it is an autoencoder of which everything else can be asked.

It costs a few passes of three images, so it comes before anything is trained, imported or measured.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from latent_atlas.errors import ModelError
from latent_atlas.models.surroundings import computing, copied, differentiable, layer_at

PAGE = "docs/models.md, What is checked"
IMAGES = 3
LARGE = 2**16  # numbers of an image above which one of the images is enough in float64
ROUNDINGS = 1000  # of numbers of the largest magnitude: how far apart equal results may lie
STEPS = {torch.float64: 1e-6, torch.float32: 1e-2}  # of differences, relative to the code, by precision
APART = {torch.float64: 1e-4, torch.float32: 5e-2}  # relative difference between them and a derivative
# A program of TorchScript holds its casts, which nothing takes out.
UNCOMPILED = (
    "a TorchScript program without casts to float32; or latent_atlas.Autoencoder.from_functions, with functions that "
    "call the program and model= left out, which measures it in the precision that it has"
)


def trial(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    latent_dim: int,
    name: str,
    build: Callable[[], nn.Module] | None = None,
    *,
    whole: bool = True,
) -> list[str]:
    """Refuse a network that is no autoencoder of images, each mapped on its own, in a way that can be differentiated.

    The network, its mode and all random generators are afterwards as they were.

    Parameters
    ----------
    model : nn.Module
        With ``encoder`` and ``decoder``, on any device, in any floating-point type.
    input_shape : (C, H, W)
        Shape of one image.
    latent_dim : int
        k, the number of latent coordinates.
    name : str
        What messages call it.
    build : callable, optional
        Gives the network with other fresh weights, to see whether its state dict holds all that it is.
    whole : bool
        Whether the network is also called as a whole, as a training does; if not, it may lack ``forward``.

    Returns
    -------
    list of str
        What is worth knowing though it is no error, one sentence each.

    Raises
    ------
    ModelError
        At the first check that fails: what the network gave, and what is needed.
    """
    test = _Trial(model, input_shape, latent_dim, f"{name} ({type(model).__name__})")
    training = [(module, module.training) for module in model.modules()]
    with _random_state_kept(test.device), torch.inference_mode(False), torch.no_grad():
        try:
            model.eval()
            return test.run(build, whole)
        finally:
            for module, mode in training:
                module.training = mode


class _Trial:
    """The checks, in their order, of one network."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, int, int], latent_dim: int, name: str) -> None:
        self.model, self.shape, self.k, self.name = model, tuple(input_shape), latent_dim, name
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        self.device, self.dtype = weight.device, weight.dtype
        draw = torch.Generator().manual_seed(0)
        self.x = torch.rand(IMAGES, *self.shape, generator=draw).to(weight)  # N x C x H x W
        self.few = self.x[:1] if self.p > LARGE else self.x  # in float64, which takes many times the time and memory
        self.draw = draw
        # A decoder alone has codes that are found by an optimization, or none: any will do here.
        alone = getattr(model, "encoder", None) is None or getattr(model, "encode", model) is None
        self.parts = ("decoder",) if alone else ("encoder", "decoder")

    def run(self, build: Callable[[], nn.Module] | None, whole: bool) -> list[str]:
        z, y = self.shapes(self.model, whole)
        self.same_again(z, y, whole)
        self.each_alone(z, y)
        self.kept(y, build)
        precise, remarks = self.in_float64(build)
        return remarks + self.differentiated(precise)

    def shapes(self, model: nn.Module, whole: bool) -> tuple[Tensor, Tensor]:
        """Codes (N, k) and images (N, CHW) of the right shapes; finite; and those of the whole network."""
        x = self.x.clone()
        z = self.codes(model, x)
        if not isinstance(z, Tensor) or not z.is_floating_point() or z.shape != (IMAGES, self.k):
            self.refuse(f"its encoder gave {_what(z)} for {self.given}",
                        f"one floating tensor of {IMAGES} x {self.k} codes (latent_dim is {self.k}); an adapter "
                        f"can make codes of other outputs")  # fmt: skip
        if not torch.equal(x, self.x):
            self.refuse(
                "its encoder writes over the images that it is given", "an encoder that leaves them as they are"
            )
        y = self.call(model, "decoder", z.clone())
        if not isinstance(y, Tensor) or not y.is_floating_point() or y.shape[:1] != (IMAGES,) or y[0].numel() != self.p:
            self.refuse(f"its decoder gave {_what(y)} for {IMAGES} codes",
                        f"{IMAGES} times the {self.p} numbers of an image {_times(self.shape)}; an adapter can take "
                        f"them out of other outputs")  # fmt: skip
        for part, result in {"encoder": z, "decoder": y}.items():
            if not bool(result.isfinite().all()):
                bad = [n for n, t in model.state_dict().items() if isinstance(t, Tensor) and not t.isfinite().all()]
                whose = f"its tensor {bad[0]} holds" if bad else f"its {part} gave"
                self.refuse(f"{whose} numbers that are not finite", "finite numbers")
        if whole and not _has_forward(model):
            self.refuse("it has no forward", "forward(x), equal to decoder(encoder(x))")
        return z, y.flatten(1)

    def same_again(self, z: Tensor, y: Tensor, whole: bool) -> None:
        """The same results from the same input, also by ``forward``."""
        given, found = {"encoder": self.x, "decoder": z}, {"encoder": z, "decoder": y}
        for part in self.parts:
            self.compare(found[part], self.call(self.model, part, given[part].clone()),
                         f"its {part} gave other numbers for the same input in eval mode", "the same each time, "
                         "without random numbers (self.training says whether it is trained)")  # fmt: skip
        if len(self.parts) == 2 and (whole or _has_forward(self.model)):
            out = self.call(self.model, "forward", self.x.clone())
            same = isinstance(out, Tensor) and out.shape == self.x.shape
            if whole and not same:
                self.refuse(f"its forward gave {_what(out)} for {self.given}",
                            f"reconstructions of just that shape, {_times(self.x.shape)}")  # fmt: skip
            if same and not bool(out.isfinite().all()):
                self.refuse("its forward gave numbers that are not finite", "finite numbers")
            if same or (isinstance(out, Tensor) and out.shape[:1] == (IMAGES,) and out.numel() == y.numel()):
                self.compare(y, out, "its forward(x) differs from decoder(encoder(x))", "one and the same surface")

    def each_alone(self, z: Tensor, y: Tensor) -> None:
        """An image alone equals itself in a batch."""
        given, found = {"encoder": self.x, "decoder": z}, {"encoder": z, "decoder": y}
        for part in self.parts:
            alone, batch = self.call(self.model, part, given[part][:1].clone()), found[part]
            if not isinstance(alone, Tensor) or alone.numel() != batch[0].numel():
                self.refuse(f"its {part} gave {_what(alone)} for a single input", f"1 x {batch[0].numel()} numbers")
            self.compare(batch[:1], alone, f"its {part} gives other numbers for an input alone than in a batch",
                         "each mapped on its own (BatchNorm with track_running_stats)")  # fmt: skip

    def in_float64(self, build: Callable[[], nn.Module] | None) -> tuple[nn.Module, list[str]]:
        """The network in float64, and whether that takes help."""
        try:
            precise = copied(self.model, build).double()
        except Exception as error:
            self.refuse(f"it cannot be copied ({_first(error)})", "a network that copy.deepcopy copies")
        with computing(precise, torch.float64) as widened:
            z = self.codes(precise, self.few.double(), "in float64 ")
            y = self.call(precise, "decoder", z.clone(), "in float64 ")
        if (z.dtype, y.dtype) != (torch.float64, torch.float64):
            needed = UNCOMPILED if _is_compiled(precise) else "float64 throughout"
            self.refuse(f"in float64 it gave {z.dtype} codes and {y.dtype} images", needed)
        if widened is None or not widened.met:
            return precise, []
        remark = f"{self.name}: it casts numbers to a narrower type; where float64 is asked for, these casts do nothing"
        return precise, [remark]

    def kept(self, y: Tensor, build: Callable[[], nn.Module] | None) -> None:
        """The state dict, saved and read back, is all that the network is."""
        state = self.model.state_dict()
        if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            self.refuse(f"its state dict holds {strange[0]}, which is no tensor", "tensors only")
        other = self.model if build is None else build()
        fresh = other is not self.model
        other = other.eval().to(self.device, self.dtype) if fresh else copied(self.model)
        try:
            for value in () if fresh else other.state_dict().values():
                value.copy_(value.bernoulli(0.5) if value.is_floating_point() else value)
            apart = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}  # tied weights too
            other.load_state_dict(load(save(apart)))
            again = self.call(other, "decoder", self.codes(other, self.x.clone()))
        except ModelError:
            raise
        except Exception as error:
            self.refuse(f"its state dict cannot be saved and read back ({_first(error)})", "a state dict of tensors")
        who, needed = "a copy of it", "no hook or function that is bound to the first network, or build="
        if fresh:
            who, needed = "another network", "all that it learns or draws at random as parameters or buffers"
        self.compare(y, again, f"with the weights of its state dict {who} draws other images", needed)

    def differentiated(self, model: nn.Module) -> list[str]:
        """Derivatives along a direction, by reverse mode, equal central differences at most points."""
        with computing(model, torch.float64):
            z = self.codes(model, self.few.double())  # n x k
            y = self.call(model, "decoder", z.clone())
        precision = torch.float32 if torch.equal(y.float().double(), y) else torch.float64  # of its own
        with computing(model, torch.float64):
            v, w = (torch.randn(n, generator=self.draw, dtype=torch.float64).to(z) for n in (self.k, self.p))
            size = float(z.abs().mean()) + 1e-3
            step = STEPS[precision] * size * v / v.norm()  # k
            with differentiable(model):
                ahead, behind = (self.call(model, "decoder", z + by).flatten(1) for by in (step, -step))
                differences = (ahead - behind) / (2 * step.norm())  # n x CHW
                code = z.clone().requires_grad_()
                try:
                    with torch.enable_grad():
                        image = model.decoder(code.clone()).flatten(1)  # type: ignore[operator]
                        if image.requires_grad:
                            (image * w).sum().backward()  # of a number, which loads no sympy as that of a tensor does
                except Exception as error:
                    place = f" in {at}" if (at := layer_at(error, model)) else ""
                    self.refuse(f"its decoder cannot be differentiated{place} ({_first(error)})", "a Jacobian")
        gradient = torch.zeros_like(z) if code.grad is None else code.grad
        found, wanted = gradient @ (v / v.norm()), differences @ w  # n each
        rounding = torch.finfo(precision).eps * float(ahead.abs().max()) / float(step.norm())
        allowed = (APART[precision] * differences.norm(dim=1) + ROUNDINGS * rounding) * w.norm()
        if int(((found - wanted).abs() <= allowed).sum()) * 2 < len(z):  # a point may lie on a kink
            self.refuse(f"the derivative of its decoder is {float(found[0]):.4g} by automatic differentiation and "
                        f"{float(wanted[0]):.4g} by differences, along one direction", "the derivative of what it "
                        "draws (no detach, no_grad, numpy or straight-through gradient)")  # fmt: skip
        if not bool(gradient.any()):
            return [f"{self.name}: its decoder draws the same image around each code, so its Jacobian is zero"]
        return []

    def codes(self, model: nn.Module, x: Tensor, where: str = "") -> Tensor:
        """Codes (N, k) of images, or any if there is no encoder."""
        if "encoder" not in self.parts:
            draw = torch.Generator().manual_seed(0)
            return torch.randn(IMAGES, self.k, generator=draw, dtype=x.dtype).to(x)[: len(x)]
        z = self.call(model, "encoder", x, where)
        return z[:, None] if isinstance(z, Tensor) and self.k == 1 and z.shape == (IMAGES,) else z

    def call(self, model: nn.Module, part: str, given: Tensor, where: str = "") -> Tensor:
        """What a part gives; an error of its own is shown with the layer."""
        if part != "forward" and not callable(getattr(model, part, None)):
            self.refuse(f"it has no {part}", f"an attribute {part} that can be called")
        try:
            return model(given) if part == "forward" else getattr(model, part)(given)
        except Exception as error:
            at = layer_at(error, model)
            place = f" in its layer {at}" if at else ""
            needed = UNCOMPILED if where and _is_compiled(model) else f"a result for an input of {_times(given.shape)}"
            return self.refuse(f"{where}its {part} raised {type(error).__name__}{place} ({_first(error)})", needed)

    def compare(self, one: Tensor, other: Tensor, fault: str, needed: str) -> None:
        """Refuse numbers that differ by more than rounding; NaN is refused too."""
        largest, apart = float(one.abs().max()), float((one.flatten() - other.flatten()).abs().max())
        eps = min(ROUNDINGS * torch.finfo(one.dtype).eps, 0.05)
        if not apart <= eps * max(largest, float(other.abs().max())):
            self.refuse(f"{fault}, by up to {apart:.3g} where the largest is {largest:.3g}", needed)

    def refuse(self, fault: str, needed: str) -> NoReturn:
        raise ModelError(f"{self.name}: {fault}; needed: {needed} ({PAGE})")

    @property
    def p(self) -> int:
        """Numbers of an image."""
        return math.prod(self.shape)

    @property
    def given(self) -> str:
        """What the encoder was given, in words."""
        return f"images of {_times(self.x.shape)}"


def _has_forward(model: nn.Module) -> bool:
    return getattr(type(model), "forward", None) is not nn.Module.forward or "forward" in vars(model)


def _is_compiled(model: nn.Module) -> bool:
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def _what(thing: object) -> str:
    """A result in words."""
    if isinstance(thing, Tensor):
        return f"a {str(thing.dtype).removeprefix('torch.')} tensor of {_times(thing.shape) or 'no dimension'}"
    if isinstance(thing, (tuple, list)):
        return f"a {type(thing).__name__} of {len(thing)}"
    return f"a {type(thing).__name__}"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _first(error: Exception) -> str:
    """The first and the last line of an error's text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(dict.fromkeys([lines[0], lines[-1]]))


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave the generators of Python, numpy and torch as they are."""
    here, theirs = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(here)
        np.random.set_state(theirs)

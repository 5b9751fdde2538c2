"""Tangents of many points, pushed through the layers of a network as one batch.

The derivative of a chain of layers is the product of their derivatives: linear layers push a tangent forward as
they map a point, without their bias, and pointwise ones multiply it by their slope at the point. All k tangents of many
points go through each linear layer as one batch, factors of pointwise layers and of BatchNorm are gathered until
the next linear layer, and what is the same for all points is computed once. This is forward-mode differentiation
(Griewank & Walther, "Evaluating Derivatives", chapter 3) with the layers known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from latent_atlas.geometry.chain import trace
from latent_atlas.kernels.convolutions import conv_transpose2d_valid, faster, is_plain

POINTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.LogSigmoid, nn.Mish,
    nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softsign, nn.Tanh, nn.Tanhshrink,
)  # fmt: skip
REARRANGING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.PixelShuffle, nn.PixelUnshuffle)
SILENT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)  # in eval mode
CPU_MEMORY, GPU_MEMORY = 16 * 2**20, 256 * 2**20  # bytes of a chunk's tangents in the widest layer: what stays in cache

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Step:
    """A layer: how it maps points, and what it does to tangents there."""

    layer: nn.Module
    push: Map | None = None  # a linear map of tangents (M, ...); None for a pointwise layer
    scale: Tensor | None = None  # what a layer multiplies tangents by at every point, (1, ...) against (M, ...)


class Pushforward:
    """The derivative of a chain of layers at many points.

    Parameters
    ----------
    part : nn.Module
        The network, in eval mode, from points (N, k) to any shape.
    k : int
        Dimension of the points.
    like : tensor
        Anything of the dtype and on the device of the network.

    Raises
    ------
    ValueError
        If the network is no chain, or one of its layers is none of the known kinds: linear, convolution,
        transposed convolution, BatchNorm with running statistics, pointwise, or one that rearranges.
    """

    def __init__(self, part: nn.Module, k: int, like: Tensor) -> None:
        if part.training:
            raise ValueError("in training mode an image's derivative depends on the other images")
        # Random numbers, since an example of zeros would hide what is added to the input or multiplied by it.
        example = torch.rand(1, k, generator=torch.Generator().manual_seed(0)).to(like)
        calls = trace(part, example)
        self.part, self.k = part, k
        self.steps = [_step(call.layer, call.given) for call in calls]
        self.widest = max(call.out.numel() for call in calls)
        self.memory = GPU_MEMORY if like.is_cuda else CPU_MEMORY

    def __call__(self, z: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Points (N, k) to their images (N, ...), and vectors (N, s, k) there to (N, s, P), P numbers an image."""
        values, tangents = [], z.new_empty(0)
        same = vectors.stride(0) == 0  # at all points: they are pushed once, until the first slope
        begun, at = _Pushed(vectors), slice(0)
        for start, stop, columns in self._chunks(len(z), vectors.shape[1], z.element_size()):
            if columns.start == 0:
                with faster(self.part):
                    y, slopes = self._forward(z[start:stop])
                values.append(y)
                if not len(tangents):
                    tangents = z.new_empty(len(z), vectors.shape[1], y[0].numel())
            if not same:
                begun = _Pushed(vectors[start:stop, columns])
            elif columns != at:
                begun, at = self._push(slopes, _Pushed(vectors[:1, columns]), until_slope=True), columns
            tangents[start:stop, columns] = self._push(slopes, begun).tangents.flatten(2)  # n x s x P
        return torch.cat(values), tangents

    def _chunks(self, points: int, vectors: int, bytes_each: int) -> Iterator[tuple[int, int, slice]]:
        """Points and columns that are pushed together."""
        together = max(1, self.memory // (self.widest * bytes_each))
        columns = min(vectors, together)
        columns = math.ceil(vectors / math.ceil(vectors / columns))  # of about equal size
        some = max(1, together // columns)
        for start in range(0, points, some):
            for first in range(0, vectors, columns):
                yield start, min(start + some, points), slice(first, min(first + columns, vectors))

    def _forward(self, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Images of points, and the slope of each pointwise layer on the way there."""
        slopes: list[Tensor | None] = []
        for step in self.steps:
            if step.push is None and step.scale is None:
                with torch.enable_grad():
                    x = x.detach().requires_grad_()
                    y = step.layer(x.clone())  # it may write over what it is given
                    (slope,) = torch.autograd.grad(y.sum(), x)  # each output depends on its own input alone
                slopes.append(slope)
                x = y.detach()
            else:
                slopes.append(None)
                x = step.layer(x)
        return x, slopes

    def _push(self, slopes: list[Tensor | None], begun: _Pushed, until_slope: bool = False) -> _Pushed:
        """Push tangents on through the layers: all that are left, or those before the first slope."""
        tangents, factor, own = begun.tangents, begun.factor, False  # own: not those that were given
        for i, (step, slope) in enumerate(zip(self.steps, slopes, strict=True)):
            if i < begun.steps:
                continue
            if slope is not None and until_slope:
                return _Pushed(tangents, factor, i)
            if step.push is None:
                more = step.scale if slope is None else slope
                factor = more if factor is None or more is None else factor * more
                continue
            tangents, own, factor = _times(tangents, factor, own), own or factor is not None, None
            points, count = tangents.shape[:2]
            tangents = step.push(tangents.flatten(0, 1)).unflatten(0, (points, count))
        return _Pushed(_times(tangents, factor, own), None, len(self.steps))


@dataclass(frozen=True)
class _Pushed:
    """Tangents (1 or n, s, ...) after some of the layers, and factors (1 or n, ...) still to be multiplied by."""

    tangents: Tensor
    factor: Tensor | None = None
    steps: int = 0


def _times(tangents: Tensor, factor: Tensor | None, in_place: bool) -> Tensor:
    """Tangents (1 or n, s, ...) times factors (1 or n, ...)."""
    if factor is None:
        return tangents
    in_place = in_place and len(tangents) >= len(factor)
    return tangents.mul_(factor[:, None]) if in_place else tangents * factor[:, None]


def _step(layer: nn.Module, given: Tensor) -> _Step:
    """What a layer does to tangents, for points like the given one."""
    home = type(layer).forward.__module__
    if not home.startswith("torch.nn.modules.") or layer._forward_hooks:
        raise ValueError(f"nothing is known here of the derivative of a {type(layer).__name__}")
    if (isinstance(layer, nn.Flatten) and layer.start_dim != 1) or (isinstance(layer, nn.Unflatten) and layer.dim == 0):
        raise ValueError("points are mixed with each other")
    if isinstance(layer, nn.Linear):
        return _Step(layer, lambda t: linear(t, layer.weight))
    if isinstance(layer, nn.ConvTranspose2d) and is_plain(layer):
        return _Step(layer, lambda t: conv_transpose2d_valid(t, layer.weight))
    if isinstance(layer, _ConvNd) and layer.padding_mode == "zeros":
        return _Step(layer, _without_bias(layer))
    if isinstance(layer, _BatchNorm) and layer.running_var is not None:
        scale = (layer.running_var + layer.eps).rsqrt()
        scale = scale if layer.weight is None else scale * layer.weight.detach()
        return _Step(layer, scale=scale.view(1, -1, *[1] * (given.dim() - 2)))
    if isinstance(layer, REARRANGING) or (isinstance(layer, SILENT) and not layer.training):
        return _Step(layer, layer)
    if isinstance(layer, POINTWISE):
        return _Step(layer)
    raise ValueError(f"nothing is known here of the derivative of a {type(layer).__name__}")


def _without_bias(layer: _ConvNd) -> Map:
    """A convolution of any kind without its bias."""
    name = f"conv{'_transpose' if isinstance(layer, _ConvTransposeNd) else ''}{layer.weight.dim() - 2}d"
    function = getattr(torch.nn.functional, name)
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
    if isinstance(layer, _ConvTransposeNd):
        options["output_padding"] = layer.output_padding
    return lambda t: function(t, layer.weight, **options)

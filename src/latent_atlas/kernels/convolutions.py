"""Convolutions of small images between few channels, for which the kernels of libraries are slow.

A convolution without padding computes each pixel from a patch of its input. A transposed one adds a multiple of its
kernel, a patch, for each pixel. With one kernel the two are adjoint: each is the backward pass of the other. Training
also needs the gradient of the kernel. Each of the three is computed here by the algorithm that is fastest for the
sizes. Libraries optimize for many channels. The vector units of a CPU hold 16 of them, so with 8 channels half of each
unit is unused, and with one channel fifteen sixteenths. The results agree up to rounding.

Networks are built from torch's own layers. :func:`faster` replaces the layers of a network during a computation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import conv2d, conv_transpose2d, fold, pad
from torch.nn.grad import conv2d_weight

THIN = 4  # the most channels for which products and sums are faster than a library's convolution, on a CPU
CACHE = 4 * 2**20  # bytes of the matrices that are multiplied at once: what stays in a core's cache
CAPABILITY = torch.backends.cpu.get_cpu_capability()
LANES = 16 if CAPABILITY == "AVX512" else 8  # numbers that it multiplies at once
# How a CPU computes transposed convolutions to many channels in float32. It follows from the processor alone, so that a
# machine always gives the same bytes. The figures are in benchmarks/convolutions.csv. With AVX2 oneDNN has no direct
# convolution with so wide a margin, and copies all patches of the image. Other processors have not been measured.
WAYS = {"AVX512": "margin", "AVX2": "library"}
OTHERWISE = "library"


def is_plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether a layer has no padding, stride 1, no dilation and one group."""
    return (layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups, layer.padding_mode) == (
        (1, 1), (0, 0), (0, 0), (1, 1), 1, "zeros",
    )  # fmt: skip


def conv2d_valid(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution.

    Parameters
    ----------
    x : tensor
        (N, I, H, W)
    weight : tensor
        (O, I, K, L)

    Returns
    -------
    tensor
        (N, O, H-K+1, W-L+1)
    """
    if x.shape[-2:] == weight.shape[-2:]:
        return (_rows(x, weight) @ _rows(weight, weight).T)[:, :, None, None]
    if not _pairs(x, weight):
        return conv2d(x, weight)
    y = conv2d(x, _paired(weight), stride=(1, 2))  # N x 2·O x H' x W'/2
    return y.permute(0, 2, 3, 1).unflatten(3, (2, -1)).flatten(2, 3).permute(0, 3, 1, 2)  # N x O x H' x W'


def conv_transpose2d_valid(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution.

    Parameters
    ----------
    x : tensor
        (N, O, H, W)
    weight : tensor
        (O, I, K, L)

    Returns
    -------
    tensor
        (N, I, H+K-1, W+L-1)
    """
    if x.shape[-2:] == (1, 1):
        return _from_one_pixel(x, weight)
    if weight.shape[1] > THIN or weight.is_cuda:
        return _by_rows(x, weight) if x.dtype == torch.float64 and not x.is_cuda else _to_many(x, weight)
    kernel_h, kernel_w = weight.shape[2:]
    height, width = x.shape[2:]
    patches = _patches(x, weight)  # N x I x K x L x H x W
    y = x.new_zeros(len(x), weight.shape[1], height + kernel_h - 1, width + kernel_w - 1)
    for i in range(kernel_h):
        for j in range(kernel_w):
            y[:, :, i : i + height, j : j + width] += patches[:, :, i, j]
    return y


def kernel_gradient(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """The gradient by the kernel of the sum of ``y * conv2d_valid(x, weight)``.

    It is also that of the sum of ``x * conv_transpose2d_valid(y, weight)``.

    Parameters
    ----------
    x : tensor
        (N, I, H, W)
    y : tensor
        (N, O, H-K+1, W-L+1)
    weight : tensor
        (O, I, K, L), of which only shape and layout count.

    Returns
    -------
    tensor
        (O, I, K, L)
    """
    out, channels, kernel_h, kernel_w = weight.shape
    if channels <= THIN and not x.is_cuda:
        windows = x.unfold(2, kernel_h, 1).unfold(3, kernel_w, 1)  # N x I x H' x W' x K x L
        windows = windows.permute(1, 4, 5, 0, 2, 3).flatten(3).flatten(0, 2)  # I·K·L x N·H'·W'
        return (windows @ y.permute(0, 2, 3, 1).flatten(0, 2)).T.reshape(weight.shape)
    if not _pairs(x, weight):
        return conv2d_weight(x, weight.shape, y)
    both = y.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).flatten(3).permute(0, 3, 1, 2)  # N x 2·O x H' x W'/2
    left, shifted = conv2d_weight(x, (2 * out, channels, kernel_h, kernel_w + 1), both, stride=(1, 2)).chunk(2)
    return left[..., :-1] + shifted[..., 1:]


class Conv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d`, faster onto one pixel and, on a CPU, for small images."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_plain(self) or x.dim() != 4:
            return super().forward(x)
        if x.shape[-2:] == self.kernel_size:
            return _laid_out(_biased(conv2d_valid(x, self.weight), self.bias), x, self.weight)
        if not _is_tuned_for(x, self.weight):
            return super().forward(x)
        own = self.training and not _has_tangent(x)
        y = _Conv2dValid.apply(x, self.weight) if own else conv2d_valid(x, self.weight)
        return _laid_out(_biased(y, self.bias), x, self.weight)


class ConvTranspose2d(nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d`, faster from one pixel and, on a CPU, for small images."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or not is_plain(self) or x.dim() != 4:
            return super().forward(x, output_size)
        if x.shape[-2:] == (1, 1):
            return _laid_out(_biased(_from_one_pixel(x, self.weight), self.bias), x, self.weight)
        if not _is_tuned_for(x, self.weight):
            return super().forward(x)
        if self.training and not _has_tangent(x):
            y = _ConvTranspose2dValid.apply(x, self.weight)
        else:  # these support every kind of differentiation
            y = _folded(x, self.weight) if self.out_channels <= THIN else _to_many(x, self.weight)
        return _laid_out(_biased(y, self.bias), x, self.weight)


FASTER: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}


@contextmanager
def faster(model: nn.Module) -> Iterator[None]:
    """Compute the convolutions of a network by the functions of this module within the block.

    Only layers whose class is exactly one of torch's are replaced, not those of a derived class. Weights, hooks and
    names do not change. After the block, also when it fails, the layers are torch's again.

    In training mode the layers support several backward passes and forward mode by :mod:`torch.autograd.forward_ad`;
    ``torch.func`` can transform them in eval mode only.
    """
    compiled = {id(part) for m in model.modules() if _is_compiled(m) for part in m.modules()}
    layers = [(x, type(x)) for x in model.modules() if type(x) in FASTER and id(x) not in compiled]
    try:
        for layer, kind in layers:
            layer.__class__ = FASTER[kind]
        yield
    finally:
        for layer, kind in layers:
            layer.__class__ = kind


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch.compile has taken over a module, with the layers that it found there."""
    return type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None


class _Conv2dValid(torch.autograd.Function):
    """:func:`conv2d_valid`, and its backward pass."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return conv2d_valid(x, weight)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = context.saved_tensors
        to_x = conv_transpose2d_valid(gradients[0], weight) if context.needs_input_grad[0] else None
        to_weight = kernel_gradient(x, gradients[0], weight) if context.needs_input_grad[1] else None
        return to_x, to_weight


class _ConvTranspose2dValid(torch.autograd.Function):
    """:func:`conv_transpose2d_valid`, and its backward pass."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        context.save_for_backward(x, weight)
        return conv_transpose2d_valid(x, weight)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = context.saved_tensors
        to_x = conv2d_valid(gradients[0], weight) if context.needs_input_grad[0] else None
        to_weight = kernel_gradient(gradients[0], x, weight) if context.needs_input_grad[1] else None
        return to_x, to_weight


def _is_tuned_for(x: Tensor, weight: Tensor) -> bool:
    """Whether a CPU computes in full precision, for which this module is tuned."""
    full = x.dtype == weight.dtype in (torch.float32, torch.float64)
    return full and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _has_tangent(x: Tensor) -> bool:
    """Whether a tensor is a dual number of forward mode, for which the functions with an own backward pass are not."""
    return unpack_dual(x).tangent is not None


def _biased(y: Tensor, bias: Tensor | None) -> Tensor:
    return y if bias is None else y + bias.to(y.dtype)[:, None, None]  # autocast does not convert the bias


def _laid_out(y: Tensor, *given: Tensor) -> Tensor:
    """A result in the memory order that torch's own layer gives: ``view`` may follow a convolution."""
    last = any(t.stride(1) == 1 and t.shape[2:] != (1, 1) for t in given)  # also of a single channel
    return y if last else y.contiguous()


def _rows(images: Tensor, like: Tensor) -> Tensor:
    """Images (N, C, H, W) as rows, in the memory order of ``like``."""
    last = like.is_contiguous(memory_format=torch.channels_last)
    return images.permute(0, 2, 3, 1).flatten(1) if last else images.flatten(1)


def _from_one_pixel(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution of one pixel: a matrix product. The result has the memory order of the kernel."""
    channels, kernel_h, kernel_w = weight.shape[1:]
    y = x.flatten(1) @ _rows(weight, weight)  # N x I·K·L
    if weight.is_contiguous(memory_format=torch.channels_last):
        return y.view(len(x), kernel_h, kernel_w, channels).permute(0, 3, 1, 2)  # N x I x K x L
    return y.view(len(x), channels, kernel_h, kernel_w)


def _to_many(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution to many channels, by operations that support every kind of differentiation."""
    by_library = x.device.type == "cpu" and x.dtype != torch.float64 and WAYS.get(CAPABILITY, OTHERWISE) == "library"
    return conv_transpose2d(x, weight) if by_library else _with_margin(x, weight)


def _with_margin(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution as a convolution of the image with a margin.

    For small images this takes half as many operations again, but with AVX-512 and in float64 it is faster.
    """
    kernel_h, kernel_w = weight.shape[2:]
    return conv2d(x, weight.flip(2, 3).transpose(0, 1).contiguous(), padding=(kernel_h - 1, kernel_w - 1))


def _by_rows(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution as matrix products: one for each row of the kernel, added where that row falls.

    Libraries have fast convolutions for float32 alone; in float64 this is two to ten times as fast on a CPU.
    """
    channels, _, kernel_h, kernel_w = weight.shape
    height, width = x.shape[2] + kernel_h - 1, x.shape[3] + kernel_w - 1  # of the result
    rows = weight.flip(3).permute(2, 1, 0, 3).flatten(2)  # K x I x O·L
    y = x.new_zeros(len(x), weight.shape[1], height * width)
    each = (channels * kernel_w * x.shape[2] * width + y.shape[1:].numel()) * x.element_size()
    together = max(1, CACHE // each)
    for start in range(0, len(x), together):
        some, into = x[start : start + together], y[start : start + together]
        windows = pad(some, (kernel_w - 1, kernel_w - 1)).unfold(3, width, 1)  # n x O x H x L x W'
        windows = windows.transpose(2, 3).flatten(3).flatten(1, 2)  # n x O·L x H·W'
        for i, row in enumerate(rows):
            into[:, :, i * width : (i + x.shape[2]) * width].baddbmm_(row.expand(len(some), -1, -1), windows)
    return y.unflatten(2, (height, width))  # N x I x H+K-1 x W+L-1


def _patches(x: Tensor, weight: Tensor) -> Tensor:
    """The patch that each pixel adds to the result: (N, I, K, L, H, W)."""
    out, channels, kernel_h, kernel_w = weight.shape
    kernels = weight.reshape(out, -1).T.expand(len(x), -1, -1)  # N x I·K·L x O
    return torch.bmm(kernels, x.flatten(2)).view(len(x), channels, kernel_h, kernel_w, *x.shape[2:])


def _folded(x: Tensor, weight: Tensor) -> Tensor:
    """:func:`conv_transpose2d_valid` to few channels, without in-place operations, for ``torch.func``."""
    kernel_h, kernel_w = weight.shape[2:]
    height, width = x.shape[2:]
    patches = _patches(x, weight).flatten(1, 3).flatten(2)  # N x I·K·L x H·W
    return fold(patches, (height + kernel_h - 1, width + kernel_w - 1), (kernel_h, kernel_w))


def _pairs(x: Tensor, weight: Tensor) -> bool:
    """Whether it is faster to compute two columns as one with twice the channels."""
    columns = x.shape[3] - weight.shape[3] + 1
    return x.device.type == "cpu" and THIN < len(weight) <= LANES // 2 and columns % 2 == 0


def _paired(weight: Tensor) -> Tensor:
    """A kernel (O, I, K, L) for every other column, which gives that column and the next: (2·O, I, K, L+1)."""
    both = torch.cat([pad(weight, (0, 1)), pad(weight, (1, 0))])
    return both.to(memory_format=torch.channels_last)

"""Transposed convolutions at the two ends of a decoder, where the usual kernels are slow.

Libraries tune them for many channels and large images. The first layer of a decoder sees one pixel, where a transposed
convolution is a matrix product; the last one draws one channel, where most of a kernel's width lies idle. What is
computed is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold

THIN = 4  # output channels up to which the products and sums here are faster on a CPU


def plain(layer: nn.ConvTranspose2d) -> bool:
    """Whether each pixel spreads one whole patch, a pixel apart."""
    return (layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups) == (
        (1, 1), (0, 0), (0, 0), (1, 1), 1,
    )  # fmt: skip


def as_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A plain transposed convolution as a convolution of the image with a margin.

    Half as much work again for small images, at a rate that is several times higher.
    """
    down, right = weight.shape[2:]
    return conv2d(x, weight.flip(2, 3).transpose(0, 1).contiguous(), bias, padding=(down - 1, right - 1))


def as_patches(x: Tensor, weight: Tensor) -> Tensor:
    """A plain transposed convolution as one product, which makes the patches of all pixels, and their sum."""
    channels, _, down, right = weight.shape
    height, width = x.shape[-2:]
    patches = weight.reshape(channels, -1).T @ x.flatten(2)  # N x (O·K·L) x (H·W)
    return fold(patches, (height + down - 1, width + right - 1), (down, right))


class ConvTranspose2d(nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d`, faster from one pixel and, on a CPU, for small images."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is not None or x.dim() != 4 or not plain(self):
            return super().forward(x, output_size)
        if x.shape[-2:] == (1, 1):
            return self._from_one_pixel(x)
        thin = self.out_channels <= THIN and self.bias is None
        if x.device.type == "cpu":
            if self.training and thin:
                return _ToFewChannels.apply(x, self.weight)
            if not self.training:
                return as_patches(x, self.weight) if thin else as_convolution(x, self.weight, self.bias)
        return super().forward(x, output_size)

    def _from_one_pixel(self, x: Tensor) -> Tensor:
        y = x.flatten(-3) @ self.weight.flatten(1)  # N x (O·K·K)
        y = y.unflatten(-1, (self.out_channels, *self.kernel_size))  # N x O x K x K
        return y if self.bias is None else y + self.bias[:, None, None]


class _ToFewChannels(torch.autograd.Function):
    """Every pixel spreads a K x K patch: one product for all patches, then K·K shifted sums of whole planes."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor) -> Tensor:
        images, channels, height, width = x.shape
        _, out, down, right = weight.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)  # (N·H·W) x I
        patches = (weight.reshape(channels, -1).T @ rows.T).view(out, down, right, images, height, width)
        y = x.new_zeros(out, images, height + down - 1, width + right - 1)
        for i in range(down):
            for j in range(right):
                y[:, :, i : i + height, j : j + width] += patches[:, i, j]
        context.save_for_backward(rows, weight)
        context.shape = x.shape
        return y.transpose(0, 1)  # N x O x (H+K-1) x (W+K-1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, weight = context.saved_tensors
        images, channels, height, width = context.shape
        _, out, down, right = weight.shape
        gradient = gradients[0].transpose(0, 1).contiguous()  # O x N x (H+K-1) x (W+K-1)
        patches = gradient.new_empty(out, down, right, images, height, width)
        for i in range(down):
            for j in range(right):
                patches[:, i, j] = gradient[:, :, i : i + height, j : j + width]
        flat = patches.view(out * down * right, -1)  # (O·K·K) x (N·H·W)
        to_x = (flat.T @ weight.reshape(channels, -1).T).view(images, height, width, channels).permute(0, 3, 1, 2)
        return to_x, (flat @ rows).T.reshape(weight.shape)

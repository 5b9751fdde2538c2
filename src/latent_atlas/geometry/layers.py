"""What the weights of a network can tell of its geometry, layer by layer.

A stack of layers is a composition of maps. Where every map in it has an injective derivative at each point, the
whole is an immersion; where every one has a surjective derivative, it is a submersion; and the rank of the
whole never exceeds the rank of any of its maps. That decides many networks from their weights alone, and leaves
the others open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from latent_atlas.geometry.chain import trace
from latent_atlas.geometry.spectra import Spectrum, rank_tolerance, spectrum
from latent_atlas.kernels.convolutions import is_plain
from latent_atlas.models.surroundings import copied

STRICTLY_INCREASING = (nn.CELU, nn.SELU, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign)
REARRANGING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.PixelShuffle, nn.PixelUnshuffle)
CHUNK = 64 * 2**20  # bytes that a chunk of an operator's columns may take
LARGEST = 6144  # dimensions of the smaller side of an operator up to which its singular values are computed
SMALL = 2**20  # entries of an operator up to which its matrix is decomposed


@dataclass(frozen=True)
class Layer:
    """One layer of a network, as a map between spaces of numbers.

    Attributes
    ----------
    name : str
        Name in the network, without the part's prefix.
    kind : str
        Class of the layer, such as ``Linear``.
    input_shape, output_shape : tuple of int
        For one image.
    parameters : int
    spectrum : Spectrum or None
        Of its linear map in float64; None for layers that are not linear, or too large (see :data:`LARGEST`).
    bijective : bool or None
        For a layer that is not linear: whether its derivative is invertible everywhere; None if unknown.
    bound : int
        What the rank cannot exceed, by the dimensions and by weights that are exactly zero: free of rounding.
    """

    name: str
    kind: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    spectrum: Spectrum | None
    bijective: bool | None
    bound: int

    @property
    def inputs(self) -> int:
        """Dimension of the space that it maps from."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """Dimension of the space that it maps to."""
        return math.prod(self.output_shape)

    @property
    def rank(self) -> int | None:
        """Largest rank of its derivative, for a linear map to rounding; None if unknown."""
        if self.spectrum is not None:
            return self.spectrum.rank
        return self.inputs if self.bijective else None

    @property
    def immersive(self) -> bool | None:
        """Whether its derivative is injective everywhere; None if unknown."""
        return self.bijective if self.spectrum is None else self.spectrum.rank == self.inputs

    @property
    def submersive(self) -> bool | None:
        """Whether its derivative is surjective everywhere; None if unknown."""
        return self.bijective if self.spectrum is None else self.spectrum.rank == self.outputs


@dataclass(frozen=True)
class Verdict:
    """What the layers say of a part of a network: ``yes``, ``no`` or ``undetermined``, and why."""

    property: str
    verdict: str
    reason: str


@torch.no_grad()
def layers(part: nn.Module, example: Tensor) -> list[Layer]:
    """The layers of a network in the order in which they are called, with the spectrum of each linear map.

    Parameters
    ----------
    part : nn.Module
        An encoder or a decoder; a copy of it is taken, in float64 and eval mode.
    example : tensor (1, ...)
        An input; only its shape counts.

    Raises
    ------
    ValueError
        If the layers do not form one chain, each fed with the output of the one before.
    """
    part = copied(part).double().eval()
    # Random numbers, since an example of zeros would hide what is added to the input or multiplied by it.
    example = torch.rand(example.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return [_layer(name, module, given, out) for name, module, given, out in trace(part, example)]


def _layer(name: str, module: nn.Module, given: Tensor, out: Tensor) -> Layer:
    values, bijective = None, None
    if isinstance(module, nn.Linear):
        values = spectrum(module.weight) if min(module.weight.shape) <= LARGEST else None
    elif isinstance(module, _ConvNd):
        values = operator_spectrum(module, given.shape[1:], out.shape[1:])
    elif isinstance(module, _BatchNorm) and module.running_var is not None:
        values = _scales(module, given)
    elif isinstance(module, STRICTLY_INCREASING):
        bijective = True
    elif isinstance(module, nn.ELU):
        bijective = module.alpha > 0
    elif isinstance(module, nn.LeakyReLU):
        bijective = module.negative_slope > 0
    elif isinstance(module, REARRANGING):
        bijective = True
    elif isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Threshold)):
        bijective = False
    parameters = sum(parameter.numel() for parameter in module.parameters())
    bound = _bound(module, given[0], out[0], values)
    return Layer(
        name, type(module).__name__, tuple(given.shape[1:]), tuple(out.shape[1:]), parameters, values, bijective, bound
    )


def _bound(module: nn.Module, given: Tensor, out: Tensor, values: Spectrum | None) -> int:
    """What the rank cannot exceed: the dimensions without those that weights of exactly zero cut off."""
    inputs, outputs = given.numel(), out.numel()
    if isinstance(module, _BatchNorm) and values is not None:
        return inputs - int((values.values == 0).sum())
    if isinstance(module, (nn.Linear, _ConvNd)):
        used = module.weight != 0  # channels x channels of a group x ...
        first, second = int(used.flatten(1).any(1).sum()), int(used.transpose(0, 1).flatten(1).any(1).sum())
        transposed = isinstance(module, _ConvTransposeNd)
        first_size, second_size = (inputs, outputs) if transposed else (outputs, inputs)
        by_second = second * second_size // len(used[0]) if getattr(module, "groups", 1) == 1 else second_size
        return min(first * first_size // len(used), by_second)
    return min(inputs, outputs)


def _scales(module: _BatchNorm, given: Tensor) -> Spectrum:
    """BatchNorm in eval mode multiplies each channel by γ / √(variance + ε): a diagonal map."""
    assert module.running_var is not None
    scales = (module.running_var + module.eps).rsqrt()  # channels
    if module.weight is not None:
        scales = scales * module.weight
    per_channel = math.prod(given.shape[2:])
    values = scales.abs().repeat_interleave(per_channel).sort(descending=True).values
    return Spectrum(values, tolerance=0.0)


@torch.no_grad()
def operator_spectrum(layer: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Spectrum | None:
    """Singular values of a layer without its bias, as a linear map between its input and output spaces.

    In float64. A plain convolution of kernels 1 x 1 or as large as the image is the matrix of its kernels, once for
    each pixel; other small operators are written down as matrices. Large ones go through the Gram matrix of the smaller
    side, A Aᵀ or Aᵀ A, written down where a plain convolution's is known, else applied to the columns of the identity
    a chunk at a time. Squaring costs half of the digits: singular values below about √(n ε) · σ max count as zero.
    None where both sides exceed :data:`LARGEST`.
    """
    inputs, outputs = math.prod(input_shape), math.prod(output_shape)
    small = input_shape if isinstance(layer, nn.ConvTranspose2d) else output_shape
    weight = layer.weight if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and is_plain(layer) else None
    pixels = math.prod(small[1:])
    if weight is not None and (pixels == 1 or weight.shape[2:] == (1, 1)):
        kernels = spectrum(weight.flatten(1))
        return Spectrum(kernels.values.repeat_interleave(pixels), kernels.tolerance)
    if min(inputs, outputs) > LARGEST:
        return None
    zero = torch.zeros(1, *input_shape, dtype=torch.float64)
    offset = layer(zero)

    def forward(x: Tensor) -> Tensor:
        return layer(x) - offset

    def adjoint(y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = zero.expand(len(y), *input_shape).clone().requires_grad_()
            (gradient,) = torch.autograd.grad(layer(x), x, y)
        return gradient

    if inputs * outputs <= SMALL:
        return spectrum(_rows(inputs, input_shape, forward, outputs))
    if weight is not None and math.prod(small) == min(inputs, outputs):
        gram = _patch_gram(weight, *small[1:])
    elif inputs <= outputs:
        gram = _rows(inputs, input_shape, lambda x: adjoint(forward(x)), outputs)
    else:
        gram = _rows(outputs, output_shape, lambda y: forward(adjoint(y)), inputs)
    squares = torch.linalg.eigvalsh((gram + gram.T) / 2).flip(0).clamp(min=0)
    return Spectrum(squares.sqrt(), math.sqrt(rank_tolerance(squares, gram.shape)))


def _patch_gram(weight: Tensor, height: int, width: int) -> Tensor:
    """Gram matrix A Aᵀ of a plain convolution A with so many patches, whose side it is the smaller one.

    Two patches at p and p' overlap as p - p' says, so that the entry for channels v, v' there is the correlation of
    their kernels at that offset: Σ K[v, c, u] K[v', c, u + p - p'] over c and u.

    Parameters
    ----------
    weight : tensor (V, C, K, K)
        Kernels of the channels on the side of the patches, in float64.

    Returns
    -------
    tensor (V·height·width, V·height·width)
    """
    channels, _, down, right = weight.shape
    near_y, near_x = min(down, height) - 1, min(right, width) - 1  # the furthest that overlapping patches can lie apart
    overlaps = conv2d(weight, weight, padding=(near_y, near_x)).transpose(0, 1)  # V x V x (2·near_y+1) x (2·near_x+1)
    far_y, far_x = height - 1 - near_y, width - 1 - near_x
    overlaps = pad(overlaps, (far_x, far_x, far_y, far_y))  # V x V x (2·height-1) x (2·width-1)
    rows = torch.arange(height)[:, None] - torch.arange(height) + height - 1  # height x height
    columns = torch.arange(width)[:, None] - torch.arange(width) + width - 1  # width x width
    entries = overlaps[
        :, :, rows[:, None, :, None], columns[None, :, None, :]
    ]  # V x V x height x width x height x width
    size = channels * height * width
    return entries.permute(0, 2, 3, 1, 4, 5).reshape(size, size)


def _rows(size: int, shape: tuple[int, ...], apply: Callable[[Tensor], Tensor], other: int) -> Tensor:
    """The transposed matrix (size, ...) of an operator on R^size, given by its action on batches."""
    chunk = max(1, CHUNK // (8 * max(size, other)))
    rows = []
    for start in range(0, size, chunk):
        count = min(chunk, size - start)
        basis = torch.zeros(count, size, dtype=torch.float64)
        basis[torch.arange(count), start + torch.arange(count)] = 1
        rows.append(apply(basis.reshape(count, *shape)).flatten(1))
    return torch.cat(rows)


def submersion(stack: list[Layer]) -> Verdict:
    """Whether a stack of layers is a submersion: its derivative surjective at every point."""
    return _verdict(stack, "submersion", "onto", stack[-1].outputs, lambda layer: layer.submersive)


def immersion(stack: list[Layer]) -> Verdict:
    """Whether a stack of layers is an immersion: its derivative injective at every point."""
    return _verdict(stack, "immersion", "one-to-one", stack[0].inputs, lambda layer: layer.immersive)


def _verdict(stack: list[Layer], name: str, word: str, needed: int, good: Callable[[Layer], bool | None]) -> Verdict:
    for layer in stack:
        if layer.bound < needed:
            article = "an" if name[0] in "aeiou" else "a"
            reason = (
                f"The rank of {layer.name} ({layer.kind}, {layer.inputs} to {layer.outputs}) is at most "
                f"{layer.bound}, so the rank of the whole cannot reach the {needed} that {article} {name} needs."
            )
            return Verdict(name, "no", reason)
    for layer in stack:
        if good(layer) is None:
            large = layer.kind.startswith(("Conv", "Linear"))
            why = f", {layer.inputs} to {layer.outputs}: too large for its singular values" if large else ""
            reason = f"Nothing is known here of the derivative of {layer.name} ({layer.kind}{why})."
            return Verdict(name, "undetermined", reason)
        if not good(layer):
            return Verdict(name, "undetermined", _open(layer, word))
    norms = [layer for layer in stack if layer.kind.startswith("BatchNorm")]
    linear = [layer for layer in stack if layer.spectrum is not None and layer not in norms]
    reasons = []
    if linear:
        weakest, sigma = _weakest(linear)
        ranks = ", ".join(f"{layer.name} {layer.rank}" for layer in linear)
        reasons.append(f"the ranks are full ({ranks}; smallest singular value {sigma:.3g}, of {weakest})")
    if norms:
        weakest, sigma = _weakest(norms)
        reasons.append(f"no BatchNorm scale is zero (smallest {sigma:.3g}, of {weakest})")
    reasons.append("the activations increase strictly")
    return Verdict(name, "yes", f"Every layer's derivative is {word}: {', '.join(reasons)}.")


def _weakest(stack: list[Layer]) -> tuple[str, float]:
    """Name and smallest singular value of the layer that comes closest to losing rank."""
    sigmas = {layer.name: layer.spectrum.sigma_min for layer in stack if layer.spectrum is not None}
    name = min(sigmas, key=lambda key: sigmas[key])
    return name, sigmas[name]


def _open(layer: Layer, word: str) -> str:
    if layer.spectrum is None:
        return (
            f"The derivative of {layer.name} ({layer.kind}) vanishes in places, so that the weights alone cannot tell."
        )
    values = layer.spectrum
    if layer.rank != layer.bound:
        return (
            f"The rank of {layer.name} ({layer.kind}, {layer.inputs} to {layer.outputs}) is {layer.rank} to rounding: "
            f"its smallest singular value, {values.sigma_min:.3g}, does not exceed the tolerance, "
            f"{values.tolerance:.3g}, so that the weights alone cannot tell."
        )
    return (
        f"{layer.name} ({layer.kind}) maps {layer.inputs} dimensions to {layer.outputs} with rank {layer.rank}, "
        f"which is not {word}; the whole may be all the same, so that the weights alone cannot tell."
    )

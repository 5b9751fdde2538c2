"""A manifold: a surface in pixel space that is drawn by a decoder.

Everything that Latent Atlas measures, it measures on this interface, so an autoencoder, PCA and a model
of your own pass through the same code.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import textwrap
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import jvp, vjp, vmap
from torch.nn.functional import one_hot

from latent_atlas.data.images import as_float, as_images
from latent_atlas.errors import CheckpointError, DataError, LatentAtlasWarning
from latent_atlas.files import check_tensors, read_safetensors, write_safetensors
from latent_atlas.geometry.derivatives import Pushforward
from latent_atlas.kernels.convolutions import faster
from latent_atlas.models.adapters import of_functions
from latent_atlas.models.checkpoints import KIND as AUTOENCODER
from latent_atlas.models.checkpoints import Checkpoint, check_name, check_numbers, image_shape
from latent_atlas.models.surroundings import computing, copied, differentiable, is_known
from latent_atlas.models.trial import trial

PCA = "pca"
FARTHEST = 10.0  # magnitude of a pixel that no reconstruction reaches, but the bytes of an image do
LARGE = 4096  # numbers of an image above which the widest layer is looked up
BATCH = 2**20  # numbers of the images that are decoded at once
JACOBIAN_MEMORY = 256 * 2**20  # bytes that the vectors that are pushed at once may take
WAYS = {
    "_push_by_copies": "column by column in forward mode", "_push_by_rows": "row by row in reverse mode",
    "_pull_by_copies": "row by row in reverse mode",
}  # fmt: skip
Way = Callable[[Tensor, Tensor], Tensor]


class Manifold(ABC):
    """A k-dimensional surface among images of C x H x W pixels, with its chart.

    Attributes
    ----------
    family : str
        What kind of surface it is (``convolutional``, ``fully_connected``, ``pca``, ...).
    latent_dim : int
        k, the number of latent coordinates.
    image_shape : (C, H, W)
    dtype : torch.dtype
        The floating-point type that it computes in; inputs are expected in it.
    """

    family: str
    latent_dim: int
    image_shape: tuple[int, int, int]
    dtype: torch.dtype

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W), floats in [0, 1] or uint8, to codes (N, k)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Codes (N, k) to images (N, C, H, W)."""

    @abstractmethod
    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Manifold:
        """The same manifold, computing in another floating-point type, and on another device if one is given."""

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        """The decoder's Jacobians times vectors: codes (N, k) and vectors (N, s, k) to (N, s, C·H·W)."""
        return self._by_first_that_can(
            "pushforward", (self._push_by_vmap, self._push_by_copies, self._push_by_rows), z, v
        )

    def pullback(self, z: Tensor, w: Tensor) -> Tensor:
        """The transposed Jacobians times vectors: codes (N, k) and vectors (N, s, C·H·W) to (N, s, k)."""
        return self._by_first_that_can("pullback", (self._pull_by_vmap, self._pull_by_copies), z, w)

    def jacobian(self, z: Tensor) -> Tensor:
        """Derivative of the decoder: codes (N, k) to matrices (N, C·H·W, k)."""
        axes = torch.eye(self.latent_dim, dtype=z.dtype, device=z.device)
        return self.pushforward(z, axes.expand(len(z), -1, -1)).mT  # N x CHW x k

    def metric(self, z: Tensor) -> Tensor:
        """The metric that pixel space induces in the codes, JᵀJ: codes (N, k) to matrices (N, k, k)."""
        k, columns = self.latent_dim, self._together(1)
        if k <= columns or not len(z):
            parts = [jacobian.mT @ jacobian for jacobian in map(self.jacobian, z.split(self._together(k)))]
            return torch.cat(parts)  # N x k x k
        blocks = torch.eye(k, dtype=z.dtype, device=z.device)[None].split(columns, dim=1)  # 1 x s x k each
        rows = [[self.pullback(code, self.pushforward(code, block)) for block in blocks] for code in z.split(1)]
        return torch.cat([torch.cat(row, dim=1) for row in rows])  # N x k x k

    def _decode_flat(self, z: Tensor) -> Tensor:
        """Codes (N, k) to the numbers (N, C·H·W) of their images, as an operation that can be differentiated."""
        return self.decode(z).flatten(1)

    def _decode_one(self, code: Tensor) -> Tensor:
        """A code (k,) to the numbers (C·H·W,) of its image, as an operation that can be differentiated."""
        return self._decode_flat(code[None])[0]

    def _differentiable(self) -> AbstractContextManager[Any]:
        """What surrounds every differentiation."""
        return nullcontext()

    def _together(self, vectors: int) -> int:
        """For how many codes so many vectors are pushed at once, so that those of the widest layer stay small."""
        return max(1, JACOBIAN_MEMORY // (self._widest() * max(vectors, 1) * torch.finfo(self.dtype).bits // 8))

    def _widest(self) -> int:
        """Numbers of one vector in the widest layer, as far as is known."""
        return 32 * self.pixel_count

    def _by_first_that_can(self, what: str, ways: tuple[Way, ...], z: Tensor, vectors: Tensor) -> Tensor:
        """Products of Jacobians and vectors by the first of several ways that this decoder allows.

        Transformations of ``torch.func`` refuse networks that branch on numbers or fill tensors of their own. What
        was found is remembered; the first way but one is said once.
        """
        first: Exception | None = None
        able = vars(self).setdefault("_able", {})  # the first way that can, by product
        for number in range(able.get(what, 0), len(ways)):
            try:
                with torch.no_grad(), self._differentiable():  # of the codes alone: the weights' graph is large
                    found = ways[number](z, vectors).detach()
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # whatever a network raises where it is differentiated so
                first = first or error
                continue
            if first is not None:
                if not able:
                    warnings.warn(
                        f"derivatives of this {self.family} decoder are computed {WAYS[ways[number].__name__]}, which "
                        f"is slower: torch.func.vmap cannot follow it ({textwrap.shorten(str(first), 120)})",
                        LatentAtlasWarning,
                        stacklevel=3,
                    )
                able[what] = number
            return found
        assert first is not None
        raise first

    def _push_by_vmap(self, z: Tensor, v: Tensor) -> Tensor:
        def one(code: Tensor, vectors: Tensor) -> Tensor:
            return vmap(lambda vector: jvp(self._decode_one, (code,), (vector,))[1])(vectors)  # s x CHW

        return self._in_chunks(one, z, v, v.new_empty(0, v.shape[1], self.pixel_count))

    def _pull_by_vmap(self, z: Tensor, w: Tensor) -> Tensor:
        def one(code: Tensor, vectors: Tensor) -> Tensor:
            pull = vjp(self._decode_one, code)[1]
            return vmap(lambda vector: pull(vector)[0])(vectors)  # s x k

        return self._in_chunks(one, z, w, w.new_empty(0, w.shape[1], self.latent_dim))

    def _in_chunks(self, one: Callable[[Tensor, Tensor], Tensor], z: Tensor, vectors: Tensor, none: Tensor) -> Tensor:
        size, columns = self._together(vectors.shape[1]), self._together(1)
        parts = [
            torch.cat([vmap(one)(codes, block).detach() for block in several.split(columns, dim=1)], dim=1)
            for codes, several in zip(z.split(size), vectors.split(size), strict=True)
            if len(z)
        ]
        return torch.cat([none, *parts])

    def _push_by_copies(self, z: Tensor, v: Tensor) -> Tensor:
        """Forward mode with one copy of a code for each of its vectors, as one batch."""

        def push(code: Tensor, vectors: Tensor) -> Tensor | None:
            with forward_ad.dual_level():
                return forward_ad.unpack_dual(self._decode_flat(forward_ad.make_dual(code, vectors))).tangent

        return self._copies(push, z, v, self.pixel_count)

    def _pull_by_copies(self, z: Tensor, w: Tensor) -> Tensor:
        """Reverse mode with one copy of a code for each of its vectors, as one batch."""

        def pull(code: Tensor, vectors: Tensor) -> Tensor | None:
            image = self._decode_flat(code.requires_grad_())
            if image.requires_grad:
                image.backward(vectors)  # torch.autograd.grad refuses checkpoints
            return code.grad

        weights = [weight for weight in self._weights() if weight.requires_grad]
        try:
            for weight in weights:
                weight.requires_grad_(False)
            return self._copies(pull, z, w, self.latent_dim)
        finally:
            for weight in weights:
                weight.requires_grad_()

    def _copies(self, one: Callable[[Tensor, Tensor], Tensor | None], z: Tensor, given: Tensor, width: int) -> Tensor:
        """Products (N, s, width) from copies (s, k) of each code and vectors (s, ...); None where all is zero."""
        size = self._together(1)
        with torch.inference_mode(False), torch.enable_grad():
            out = given.new_zeros(*given.shape[:2], width)
            for i, start in itertools.product(range(len(z)), range(0, given.shape[1], size)):
                vectors = given[i, start : start + size].clone()
                found = one(z[i].expand(len(vectors), -1).clone(), vectors)
                if found is not None:  # else the image does not depend on the code
                    out[i, start : start + size] = found.detach()
        return out

    def _push_by_rows(self, z: Tensor, v: Tensor) -> Tensor:
        """The Jacobian by reverse mode, some rows at a time, times vectors."""
        axes, pushed = torch.arange(self.pixel_count, device=z.device), []
        for rows in axes.split(self._together(1)):
            units = one_hot(rows, self.pixel_count).to(z)  # r x CHW
            pulled = self._pull_by_copies(z, units.expand(len(z), -1, -1))  # N x r x k
            pushed.append(v @ pulled.mT)  # N x s x r
        return torch.cat(pushed, dim=2)

    def __repr__(self) -> str:
        parameters = sum(weight.numel() for weight in self._weights())
        return (
            f"<{type(self).__name__} {self.family}: {self.latent_dim} dimensions among images of "
            f"{'x'.join(map(str, self.image_shape))}, {parameters:,} parameters, "
            f"{str(self.dtype).removeprefix('torch.')}>"
        )

    def _weights(self) -> Iterable[Tensor]:
        """The parameters that were learned or fitted."""
        return ()

    @property
    def pixel_count(self) -> int:
        """C·H·W, the dimension of the space that the surface lies in."""
        return math.prod(self.image_shape)

    def checked(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) as floats, uint8 divided by 255; DataError if they are others, or far outside [0, 1]."""
        if x.dtype == torch.uint8:
            x = as_float(x, self.dtype)
        if x.shape[1:] != self.image_shape or not x.is_floating_point():
            raise DataError(
                f"images must be floats in [0, 1] of shape N x {' x '.join(map(str, self.image_shape))} for this "
                f"manifold, not {x.dtype} of shape {' x '.join(map(str, x.shape))}"
            )
        if x.numel() and not float(x.abs().max()) <= FARTHEST:  # a NaN is refused too
            raise DataError(f"images must be floats in [0, 1]; these reach {float(x.abs().max()):g}: divide by 255?")
        return x

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) sent to the surface and back: decode(encode(x))."""
        return self.decode(self.encode(x))


class Autoencoder(Manifold):
    """The surface of a trained autoencoder: any module with ``encoder`` and ``decoder``.

    The network is put into eval mode: BatchNorm uses its running statistics, so that each image is
    mapped on its own. It is tried with three images first (:func:`latent_atlas.models.trial.trial`).

    Parameters
    ----------
    model : nn.Module
        With ``encoder`` and ``decoder``.
    latent_dim : int
    image_shape : (C, H, W)
    family : str, optional
    build : callable, optional
        Gives a network of the same architecture, for copies in other precisions; without it the network is copied.

    Raises
    ------
    ModelError
        If it is no autoencoder of such images, or cannot be measured.
    """

    def __init__(
        self,
        model: nn.Module,
        latent_dim: int,
        image_shape: tuple[int, int, int],
        family: str = "autoencoder",
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        if not is_known(model):
            for remark in trial(model, image_shape, latent_dim, family, build, whole=False):
                warnings.warn(remark, LatentAtlasWarning, stacklevel=2)
        self.latent_dim = latent_dim
        self.image_shape = image_shape
        self.family = family
        self._build = None if is_known(model) else build
        self._able: dict[str, int] = {}  # shared with its copies in other precisions
        self._widths: list[int] = []  # numbers of one code's tensors in all layers; shared as well
        self._take(model)

    def _take(self, model: nn.Module) -> None:
        self.model = model.eval()
        self.encoder: Callable[[Tensor], Tensor] = model.encoder  # type: ignore[assignment]
        self.decoder: nn.Module = model.decoder  # type: ignore[assignment]
        self.dtype = next((p.dtype for p in model.parameters()), torch.float32)

    @classmethod
    def from_functions(
        cls,
        encode: Callable[..., Tensor] | None,
        decode: Callable[..., Tensor],
        latent_shape: tuple[int, ...],
        image_shape: tuple[int, int, int],
        model: nn.Module | None = None,
        codes: tuple[Tensor | np.ndarray, Tensor | np.ndarray] | None = None,
    ) -> Autoencoder:
        """The surface that two functions draw.

        Parameters
        ----------
        encode : callable or None
            Images (N, C, H, W) in [0, 1] to codes (N, *latent_shape). None: the code of an image is that of the closest
            point of the surface (:func:`latent_atlas.models.closest.closest`).
        decode : callable
            Codes (N, *latent_shape) to N images of C·H·W numbers, in any shape.
        latent_shape : tuple of int
            Of one code; codes are flattened to (N, k).
        image_shape : (C, H, W)
        model : nn.Module, optional
            If it is given, it is the first argument of both functions, and :meth:`to` converts it. Functions without it
            compute in the precision that they can, which is said where it is not the one asked for.
        codes : (images, codes), optional
            uint8 images (N, C, H, W) and the codes (N, *latent_shape) that are given for them, where ``encode`` is
            None. They are recognized by their content; other images get the code of the closest point.
        """
        given = None if codes is None else (as_images(codes[0], image_shape), codes[1])
        return cls(of_functions(encode, decode, latent_shape, model, given), math.prod(latent_shape), image_shape)

    def chain(self) -> Pushforward | None:
        """The fast way to this decoder's derivatives, with its weights of now, if it is a chain of known layers."""
        weight = next(self.model.parameters(), None)
        if weight is None or not isinstance(self.decoder, nn.Module):
            return None
        try:
            return Pushforward(self.decoder, self.latent_dim, weight)
        except ValueError:
            return None

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        """The decoder's Jacobians times vectors: codes (N, k) and vectors (N, s, k) to (N, s, C·H·W).

        Where the decoder is a chain of known layers, by pushing all vectors through them as one batch; otherwise as
        for any manifold. The ways agree to rounding.
        """
        with torch.no_grad():
            chain = self.chain() if len(z) and v.shape[1] and not torch.is_inference_mode_enabled() else None
            if chain is not None:
                with computing(self.model, self.dtype):
                    found, pushed = chain(z, v)
                images = self.decode(z).flatten(1)  # N x CHW
                # A network may take another way for some codes than for the one that its layers were found with.
                rounding = 100 * torch.finfo(images.dtype).eps * float(images.abs().max())
                if found.numel() == images.numel() and torch.allclose(
                    found.reshape(images.shape), images, rtol=0, atol=rounding
                ):
                    return pushed  # N x s x CHW
        return super().pushforward(z, v)

    def pullback(self, z: Tensor, w: Tensor) -> Tensor:
        """The transposed Jacobians times vectors: codes (N, k) and vectors (N, s, C·H·W) to (N, s, k).

        One vector at each code is pulled through a chain of known layers by one backward pass of a batch; otherwise as
        for any manifold.
        """
        if w.shape[1] == 1 and len(z) and not torch.is_inference_mode_enabled() and self.chain() is not None:
            with suppress(RuntimeError):  # re-entrant checkpoints refuse it
                parts = [
                    self._pulled(*part) for part in zip(*(t.split(self._together(1)) for t in (z, w)), strict=True)
                ]
                return torch.cat(parts)  # N x 1 x k
        return super().pullback(z, w)

    def _pulled(self, z: Tensor, w: Tensor) -> Tensor:
        """Codes (n, k) and one vector at each (n, 1, C·H·W) to (n, 1, k)."""
        with torch.enable_grad(), faster(self.model), computing(self.model, self.dtype):
            codes = z.detach().clone().requires_grad_()
            return torch.autograd.grad(self._decode_flat(codes), codes, w[:, 0])[0][:, None]

    def _decode_flat(self, z: Tensor) -> Tensor:
        with computing(self.model, self.dtype):
            return self.decoder(z.clone()).reshape(len(z), -1)  # it may write over what it is given

    def _differentiable(self) -> AbstractContextManager[Any]:
        return differentiable(self.model)

    def _widest(self) -> int:
        if self.pixel_count > LARGE and not self._widths and isinstance(self.decoder, nn.Module):

            def note(layer: nn.Module, given: Any, out: Any) -> None:
                self._widths.append(out.numel() if isinstance(out, Tensor) else 0)

            handles = [layer.register_forward_hook(note) for layer in self.decoder.modules()]
            try:
                self.decode(next(self.model.parameters(), torch.empty(0)).new_zeros(1, self.latent_dim))
            finally:
                for handle in handles:
                    handle.remove()
        return max([super()._widest(), *self._widths])

    def _weights(self) -> Iterable[Tensor]:
        return self.model.parameters()

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        x = self.checked(x)
        with faster(self.model), computing(self.model, self.dtype):
            codes = self.encoder(x if is_known(self.model) else x.clone())  # it may write over what it is given
        return codes.reshape(len(x), self.latent_dim)  # a network may squeeze the code of one image

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        with faster(self.model), computing(self.model, self.dtype):
            return self.decoder(z.clone()).reshape(len(z), *self.image_shape)  # N x C x H x W

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Autoencoder:
        other = copy.copy(self)
        other._take(copied(self.model, self._build).to(device, dtype))
        return other


class PrincipalSubspace(Manifold):
    """The affine subspace of PCA in pixel space.

    Parameters
    ----------
    components : tensor (k, C·H·W)
        Orthonormal rows, strongest first.
    mean : tensor (C·H·W,)
        The point that the subspace passes through. The mean image gives PCA proper; zero gives the
        uncentred variant, which projects images on the same directions without subtracting the mean.
    image_shape : (C, H, W)
    """

    def __init__(self, components: Tensor, mean: Tensor, image_shape: tuple[int, int, int], family: str = PCA) -> None:
        self.components = components
        self.mean = mean
        self.latent_dim = len(components)
        self.image_shape = image_shape
        self.family = family
        self.dtype = components.dtype

    def _weights(self) -> Iterable[Tensor]:
        return (self.components, self.mean)

    def encode(self, x: Tensor) -> Tensor:
        x = self.checked(x)
        return (x.flatten(1) - self.mean) @ self.components.T  # N x k

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.components + self.mean).reshape(-1, *self.image_shape)  # N x C x H x W

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        return v @ self.components  # N x s x CHW

    def pullback(self, z: Tensor, w: Tensor) -> Tensor:
        return w @ self.components.T  # N x s x k

    def jacobian(self, z: Tensor) -> Tensor:
        return self.components.T.expand(len(z), -1, -1)  # N x CHW x k

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> PrincipalSubspace:
        components, mean = self.components.to(device, dtype), self.mean.to(device, dtype)
        return PrincipalSubspace(components, mean, self.image_shape, self.family)

    def save(self, path: Path, record: Mapping[str, str] | None = None) -> None:
        """Write it and what is known of it to one safetensors file, which :func:`load_manifold` reads."""
        metadata = dict(record or {}) | {
            "kind": PCA,
            "family": self.family,
            "image_shape": json.dumps(self.image_shape),
        }
        write_safetensors(path, {"components": self.components, "mean": self.mean}, metadata)


class PixelSpace(Manifold):
    """All of pixel space as a manifold: the straight line between two images lies in it."""

    def __init__(self, image_shape: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> None:
        self.family = "pixels"
        self.image_shape = image_shape
        self.latent_dim = self.pixel_count
        self.dtype = dtype

    def encode(self, x: Tensor) -> Tensor:
        x = self.checked(x)
        return x.flatten(1)  # N x CHW

    def decode(self, z: Tensor) -> Tensor:
        return z.reshape(-1, *self.image_shape)  # N x C x H x W

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        return v.clone()  # N x s x CHW

    def pullback(self, z: Tensor, w: Tensor) -> Tensor:
        return w.clone()  # N x s x k

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> PixelSpace:
        return PixelSpace(self.image_shape, dtype)


def load_manifold(path: Path, trust: Collection[str] = (), name: str | None = None) -> Manifold:
    """The manifold that a safetensors file holds, in the precision that it was stored in.

    ``trust`` names the architectures and adapters (``module:name``) outside this package whose code may be run.
    ``name`` is that of the manifold that a file of a study must hold; a file that names none is taken.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, holds no manifold or another one, or names an architecture that is not trusted.
    """
    metadata, tensors = read_safetensors(path, CheckpointError)
    kind = metadata.get("kind")
    check_name(path, metadata, name)
    if kind == AUTOENCODER:
        checkpoint = Checkpoint.load(path, trust)
        family = checkpoint.architecture.rpartition(":")[2]
        return Autoencoder(checkpoint.model, checkpoint.latent_dim, checkpoint.input_shape, family, checkpoint.build)
    if kind == PCA:
        try:
            shape = image_shape(metadata["image_shape"])
            pixels = math.prod(shape)
            needed = {"components": f"*float* [1-9]* {pixels}", "mean": f"*float* {pixels}"}
            check_tensors(path, tensors, needed, CheckpointError)
            check_numbers(tensors, str(path))
            components, mean = tensors["components"], tensors["mean"]
            if len(components) > pixels or mean.dtype != components.dtype:
                raise ValueError(
                    f"{len(components)} components of {components.dtype} for {pixels} pixels and a mean of {mean.dtype}"
                )
            return PrincipalSubspace(components, mean, shape, metadata["family"])
        except (KeyError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): delete it and run the workflow again") from error
    raise CheckpointError(f"{path} holds no manifold (its kind is {kind!r}, not {AUTOENCODER!r} or {PCA!r})")


def batches(pixels: Tensor, dtype: torch.dtype, size: int = 200) -> Iterator[Tensor]:
    """uint8 images (N, C, H, W) as batches of floats in [0, 1], of ``size`` images, or of :data:`BATCH` numbers."""
    for part in pixels.split(max(1, min(size, BATCH // max(1, pixels[:1].numel())))):
        yield part.to(dtype).div_(255)  # size x C x H x W

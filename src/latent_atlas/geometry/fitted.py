"""Surfaces of fitted transformers, in the words of scikit-learn: ``transform`` and ``inverse_transform`` of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_atlas.errors import ModelError
from latent_atlas.geometry.manifold import Manifold

STEP = float(np.finfo(np.float64).eps ** (1 / 3))  # of central differences, against the size of a code


class FittedTransformer(Manifold):
    """The surface that ``inverse_transform`` draws: PCA, KernelPCA(fit_inverse_transform=True), NMF, ...

    The transformer is given float64, whatever ``dtype`` tensors have. The derivatives are central differences,
    (f(z + hv) - f(z - hv)) / 2h along a vector v. The largest entry of hv is that of the code (1 if that is smaller)
    times the cube root of float64's epsilon. The relative error is about 1e-10 where the third derivatives are no
    larger than the first.

    Parameters
    ----------
    transformer : object
        Fitted to images as rows (N, C·H·W) in [0, 1]; with ``transform`` to (N, k) and ``inverse_transform`` back.
    image_shape : (C, H, W)

    Raises
    ------
    ModelError
        If it lacks one of the two, or was not fitted to images of this shape.
    """

    def __init__(self, transformer: Any, image_shape: tuple[int, int, int], dtype: torch.dtype = torch.float64) -> None:
        self.transformer, self.image_shape, self.dtype = transformer, image_shape, dtype
        self.family = type(transformer).__name__
        try:
            code = transformer.transform(np.zeros((1, self.pixel_count)))
            image = transformer.inverse_transform(code)
        except (AttributeError, ValueError) as error:
            raise ModelError(
                f"{self.family} does not transform images of {'x'.join(map(str, image_shape))} to codes and back "
                f"({error}): fit it to images as rows of {self.pixel_count} numbers, with an inverse transform"
            ) from error
        if image.size != self.pixel_count:
            raise ModelError(f"{self.family} gives {image.size} numbers back of {self.pixel_count}: fit it to images")
        self.latent_dim = code.shape[1]

    def encode(self, x: Tensor) -> Tensor:
        x = self.checked(x)
        if not len(x):
            return x.new_empty(0, self.latent_dim)
        return torch.from_numpy(self.transformer.transform(x.flatten(1).double().cpu().numpy())).to(x)  # N x k

    def decode(self, z: Tensor) -> Tensor:
        return self._drawn(z.double().cpu()).to(z).reshape(-1, *self.image_shape)  # N x C x H x W

    def _drawn(self, z: Tensor) -> Tensor:
        """Codes (N, k) to images (N, C·H·W), both in float64."""
        if not len(z):
            return z.new_empty(0, self.pixel_count)
        return torch.from_numpy(np.asarray(self.transformer.inverse_transform(z.numpy()), dtype=np.float64))

    def pushforward(self, z: Tensor, v: Tensor) -> Tensor:
        codes, vectors = z.double().cpu()[:, None], v.double().cpu()  # N x 1 x k, N x s x k
        size = vectors.abs().amax(2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)  # N x s x 1
        h = STEP * codes.abs().amax(2, keepdim=True).clamp_min(1) / size  # N x s x 1
        ends = torch.stack([codes + h * vectors, codes - h * vectors])  # 2 x N x s x k
        ahead, behind = self._drawn(ends.flatten(0, 2)).reshape(*ends.shape[:3], self.pixel_count)
        return ((ahead - behind) / (2 * h)).to(z)  # N x s x CHW

    def pullback(self, z: Tensor, w: Tensor) -> Tensor:
        parts = [vectors @ self.jacobian(code[None])[0] for code, vectors in zip(z, w, strict=True)]  # s x k each
        return torch.stack(parts) if parts else w.new_empty(0, w.shape[1], self.latent_dim)

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> FittedTransformer:
        return FittedTransformer(self.transformer, self.image_shape, dtype)

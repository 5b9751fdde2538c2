"""Principal component analysis of images: the linear baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latent_atlas.errors import ModelError
from latent_atlas.files import write_safetensors
from latent_atlas.geometry.bases import with_fixed_signs
from latent_atlas.geometry.manifold import PrincipalSubspace

EXACT_ROWS = 2**24 // 255**2  # images whose products of pixels add up within the whole numbers of float32
LARGEST = 4096  # side of the largest matrix whose eigenvectors are all computed
STORED = 2**24  # numbers of the components up to which all of them are found
BLOCK = 2**22  # numbers of the images that are taken in float64 at once


@dataclass(frozen=True)
class PrincipalComponents:
    """The strongest principal components of a set of images, or all of them, in float64.

    Attributes
    ----------
    components : tensor (n, P)
        Orthonormal rows, strongest first; the largest entry of each row in absolute value is positive.
    variance : tensor (n,)
        Variance of the images along each component.
    mean : tensor (P,)
        The mean image.
    image_shape : (C, H, W)
        With P = C·H·W.
    total_variance : float
        Of the images along all directions.
    """

    components: Tensor
    variance: Tensor
    mean: Tensor
    image_shape: tuple[int, int, int]
    total_variance: float

    def subspace(self, k: int, centred: bool = True) -> PrincipalSubspace:
        """The surface of the first k components, through the mean image or through zero.

        Raises
        ------
        ModelError
            If k exceeds the number of components.
        """
        if not 1 <= k <= len(self.components):
            raise ModelError(
                f"PCA of {len(self.mean)} pixels has no {k} components: choose 1 to {len(self.components)}"
            )
        mean = self.mean if centred else torch.zeros_like(self.mean)
        return PrincipalSubspace(
            self.components[:k], mean, self.image_shape, family="pca" if centred else "pca_uncentred"
        )

    def save(self, path: Path) -> None:
        """Write components, variances and mean to one safetensors file."""
        tensors = {"components": self.components, "variance": self.variance, "mean": self.mean}
        write_safetensors(path, tensors, {"kind": "principal_components"})


def fit(pixels: Tensor, k: int = 1) -> PrincipalComponents:
    """Principal components of uint8 images (N, C, H, W), taken as rows of floats in [0, 1].

    All min(N, P) of them, where their P x min(N, P) numbers are at most :data:`STORED`; else the k strongest.

    Eigenvectors in float64 of whichever matrix fits: the P x P covariance, as exact here as a full SVD and far cheaper
    where N is above P; the N x N Gram matrix of the centred images, whose eigenvectors are mapped to pixels; or, where
    both N and P exceed :data:`LARGEST`, Lanczos iterations (ARPACK) to full precision, which multiply vectors by a
    block of images at a time.
    """
    rows = pixels.flatten(1)  # N x P
    images, size = rows.shape
    count = min(images, size) if min(images, size) * size <= STORED else min(k, images, size)
    total, squares = torch.zeros(size, dtype=torch.float64), 0.0  # whole numbers, exact
    for part in rows.split(max(1, BLOCK // size)):
        part = part.double()  # n x P
        total, squares = total + part.sum(0), squares + float(part.square().sum())
    mean, scale = total / (255 * images), 255**2 * images * max(images - 1, 1)
    if size <= min(images, LARGEST):
        variance, vectors = torch.linalg.eigh(_covariance(rows, total, scale))  # P, P x P
        vectors = vectors.flip(1)[:, :count]
    elif images <= LARGEST:
        variance, weights = torch.linalg.eigh(_gram(rows, mean))  # N, N x N
        parts = [part.T @ weights.flip(1)[:, :count] for part in _centred(rows, mean, dim=1)]  # p x count each
        vectors = torch.linalg.qr(torch.cat(parts)).Q  # P x count, orthonormal also where the variance is zero
    else:
        variance, vectors = _strongest(rows, mean, count)
        vectors = vectors.flip(1)
    variance = variance.flip(0)[:count].clamp(min=0).contiguous()
    components = with_fixed_signs(vectors).T.contiguous()  # count x P
    everything = (images * squares - float(total @ total)) / scale
    channels, height, width = pixels.shape[1:]
    return PrincipalComponents(
        components,
        variance,
        mean,
        (channels, height, width),
        float(variance.sum()) if count == min(images, size) else everything,
    )


def _covariance(rows: Tensor, total: Tensor, scale: int) -> Tensor:
    """Covariance matrix (P, P) of N rows of bytes over 255, exact up to its last rounding.

    Pixels are whole numbers: so are all sums of their products, which are taken over as many images at once as float32
    holds without rounding.
    """
    gram = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in rows.split(EXACT_ROWS):
        part = part.float()  # n x P
        gram += part.T @ part
    return (len(rows) * gram - torch.outer(total, total)) / scale  # whole numbers below 2^53 up to 370,000 images


def _gram(rows: Tensor, mean: Tensor) -> Tensor:
    """Gram matrix (N, N) of the centred images over N - 1, which has the eigenvalues of their covariance."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for part in _centred(rows, mean, dim=1):
        gram += part @ part.T
    return gram / max(len(rows) - 1, 1)


def _strongest(rows: Tensor, mean: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues of the covariance, ascending, and their eigenvectors (P, k)."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    def covariance(vector: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(vector).reshape(-1)  # P
        products = torch.zeros_like(mean)
        for part in _centred(rows, mean):
            products += part.T @ (part @ x)
        return products.numpy() / (len(rows) - 1)

    operator = LinearOperator((len(mean), len(mean)), covariance, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(mean))
    values, vectors = eigsh(operator, k, v0=start)
    return torch.from_numpy(values), torch.from_numpy(vectors)


def _centred(rows: Tensor, mean: Tensor, dim: int = 0) -> Iterator[Tensor]:
    """Blocks of rows (dim 0) or columns (dim 1) of the images as floats in [0, 1] minus their mean, in float64."""
    size = max(1, BLOCK // rows.shape[1 - dim])
    for part, middle in zip(rows.split(size, dim), mean.expand(rows.shape).split(size, dim), strict=True):
        yield part.double().div_(255).sub_(middle)

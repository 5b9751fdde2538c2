"""Principal component analysis of images: the linear baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from latent_atlas.errors import ModelError
from latent_atlas.files import write_safetensors
from latent_atlas.geometry.manifold import PrincipalSubspace

EXACT_ROWS = 2**24 // 255**2  # images whose products of pixels add up within the whole numbers of float32


@dataclass(frozen=True)
class PrincipalComponents:
    """All principal components of a set of images, in float64.

    Attributes
    ----------
    components : tensor (P, P)
        Orthonormal rows, strongest first; the largest entry of each row in absolute value is positive.
    variance : tensor (P,)
        Variance of the images along each component.
    mean : tensor (P,)
        The mean image.
    image_shape : (C, H, W)
        With P = C·H·W.
    """

    components: Tensor
    variance: Tensor
    mean: Tensor
    image_shape: tuple[int, int, int]

    def subspace(self, k: int, centred: bool = True) -> PrincipalSubspace:
        """The surface of the first k components, through the mean image or through zero.

        Raises
        ------
        ModelError
            If k exceeds the number of pixels.
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


def fit(pixels: Tensor) -> PrincipalComponents:
    """All principal components of uint8 images (N, C, H, W), taken as rows of floats in [0, 1].

    The eigenvectors of the P x P covariance matrix in float64: as exact here as a full SVD and far cheaper where N is
    above P. The covariance itself is exact up to its last rounding, since pixels are whole numbers: so are all sums
    of their products, which are taken over as many images at once as float32 holds without rounding.
    """
    rows = pixels.flatten(1)  # N x P
    images, size = rows.shape
    gram = torch.zeros(size, size, dtype=torch.float64)
    for part in rows.split(EXACT_ROWS):
        part = part.float()  # n x P
        gram += part.T @ part
    total = rows.sum(0, dtype=torch.int64).double()  # P
    scale = 255**2 * images * max(images - 1, 1)
    covariance = (images * gram - torch.outer(total, total)) / scale  # whole numbers below 2^53 up to 370,000 images
    variance, vectors = torch.linalg.eigh(covariance)
    count = min(images, size)
    components = vectors.T.flip(0)[:count]  # count x P
    strongest = components.abs().argmax(dim=1, keepdim=True)
    components = components * components.gather(1, strongest).sign()
    channels, height, width = pixels.shape[1:]
    return PrincipalComponents(
        components.contiguous(),
        variance.flip(0)[:count].clamp(min=0).contiguous(),
        total / (255 * images),
        (channels, height, width),
    )

"""Principal component analysis of images: the flat baseline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from latent_atlas.core.errors import ModelError
from latent_atlas.core.files import write_safetensors
from latent_atlas.core.manifold import PrincipalSubspace


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

    The eigenvectors of the P x P covariance matrix, by scikit-learn's ``covariance_eigh`` solver in
    float64: as exact here as the full SVD and an order of magnitude cheaper where N is far above P.
    """
    rows = pixels.flatten(1).numpy().astype(np.float64) / 255  # N x P
    count = min(rows.shape)
    model = PCA(n_components=count, svd_solver="covariance_eigh").fit(rows)
    components = model.components_  # P x P
    strongest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(count), strongest])[:, None]
    channels, height, width = pixels.shape[1:]
    return PrincipalComponents(
        torch.from_numpy(np.ascontiguousarray(components)),
        torch.from_numpy(model.explained_variance_),
        torch.from_numpy(model.mean_),
        (channels, height, width),
    )

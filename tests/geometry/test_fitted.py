"""Surfaces of scikit-learn's transformers, against closed forms and the project's own PCA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF, PCA, FastICA, KernelPCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import DataError, ModelError
from latent_atlas.geometry.fitted import FittedTransformer
from latent_atlas.statistics.measurements import angles

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def x(digits: Images) -> Tensor:
    """300 digits, in float64."""
    return as_float(digits.train[:300]).double()


def rows(x: Tensor) -> np.ndarray:
    """Images as rows of numbers."""
    return x.flatten(1).numpy()


def test_of_pca_is_the_linear_subspace(x: Tensor) -> None:
    pca = PCA(5, svd_solver="full").fit(rows(x))
    surface = FittedTransformer(pca, SHAPE)
    assert (surface.family, surface.latent_dim, surface.dtype) == ("PCA", 5, torch.float64)
    components = torch.from_numpy(pca.components_)
    z = surface.encode(x[:4])
    torch.testing.assert_close(z, (x[:4].flatten(1) - torch.from_numpy(pca.mean_)) @ components.T)
    torch.testing.assert_close(surface.jacobian(z), components.T.expand(4, -1, -1), rtol=0, atol=1e-9)
    torch.testing.assert_close(
        surface.metric(z), torch.eye(5, dtype=torch.float64).expand(4, -1, -1), rtol=0, atol=1e-9
    )
    w = torch.randn(4, 3, 64, dtype=torch.float64)
    torch.testing.assert_close(surface.pullback(z, w), w @ components.T, rtol=0, atol=1e-8)


def test_of_kernel_pca_is_the_derivative_of_its_kernel(x: Tensor) -> None:
    gamma = 0.05
    fitted = KernelPCA(4, kernel="rbf", gamma=gamma, fit_inverse_transform=True, alpha=1.0).fit(rows(x))
    surface = FittedTransformer(fitted, SHAPE)
    z = surface.encode(x[:3])
    codes, dual = torch.from_numpy(fitted.X_transformed_fit_), torch.from_numpy(fitted.dual_coef_)  # M x k, M x P
    # f(z) = Σ exp(-γ|z - c|²) d, whose derivative is Σ -2γ (z - c) exp(-γ|z - c|²) d
    away = z[:, None] - codes  # N x M x k
    slopes = -2 * gamma * away * torch.exp(-gamma * away.square().sum(2, keepdim=True))
    right = torch.einsum("nmk,mp->npk", slopes, dual)
    torch.testing.assert_close(surface.jacobian(z), right, rtol=0, atol=1e-8 * float(right.abs().max()))
    v = torch.randn(3, 2, 4, dtype=torch.float64) * 1e3
    torch.testing.assert_close(surface.pushforward(z, v), v @ right.mT, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize("kind", [NMF, FastICA])
def test_is_measured_like_any_other(kind: type, x: Tensor) -> None:
    surface = FittedTransformer(kind(4, random_state=0, max_iter=2000, tol=1e-3).fit(rows(x)), SHAPE)
    assert surface.reconstruct(x[:5]).shape == (5, *SHAPE)
    z = surface.encode(x[:2])
    matrix = torch.from_numpy(np.asarray(getattr(surface.transformer, "mixing_", surface.transformer.components_.T)))
    torch.testing.assert_close(surface.jacobian(z)[0], matrix, rtol=0, atol=1e-8)
    table = angles(surface, x[:2], ["rotation"])
    assert bool(table["angle_deg"].between(0, 90).all())


def test_tensors_keep_their_precision(x: Tensor) -> None:
    surface = FittedTransformer(PCA(3).fit(rows(x)), SHAPE).to(torch.float32)
    z = surface.encode(x[:2].float())
    pulled = surface.pullback(z, torch.zeros(2, 1, 64))
    assert {t.dtype for t in (z, surface.decode(z), surface.jacobian(z), pulled)} == {torch.float32}
    assert surface.encode(x[:0].float()).shape == (0, 3)
    assert surface.jacobian(z[:0]).shape == (0, 64, 3)
    assert surface.pullback(z[:0], torch.zeros(0, 2, 64)).shape == (0, 2, 3)
    with pytest.raises(DataError):
        surface.encode(x[:, :, :4])


def test_what_cannot_be_used_is_told(x: Tensor) -> None:
    with pytest.raises(ModelError, match=r"PCA does not transform images of 1x4x4 .*: fit it to images as rows of 16"):
        FittedTransformer(PCA(3).fit(rows(x)), (1, 4, 4))
    with pytest.raises(ModelError, match="KernelPCA does not transform images of 1x8x8"):
        FittedTransformer(KernelPCA(3).fit(rows(x)), SHAPE)
    with pytest.raises(ModelError, match="PCA does not transform"):
        FittedTransformer(PCA(3), SHAPE)
    assert FittedTransformer(StandardScaler().fit(rows(x)), SHAPE).latent_dim == 64

"""Quality of reconstruction: MSE, PSNR and SSIM against closed forms and scikit-image."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from latent_atlas.data.images import Images, as_float
from latent_atlas.geometry import reconstruction as quality
from latent_atlas.geometry.manifold import PrincipalSubspace


def reference_ssim(a: Tensor, b: Tensor) -> list[float]:
    """SSIM of image pairs by scikit-image, set up as Wang et al. describe it."""
    return [
        structural_similarity(
            x.numpy(),
            y.numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for x, y in zip(a, b, strict=True)
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_ssim_is_that_of_scikit_image(fashion_mnist: Images, dtype: torch.dtype, tolerance: float) -> None:
    a = as_float(fashion_mnist.test[:40], dtype)
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    for b in (a.roll(1, dims=3), (a + 0.1 * noise).clamp(0, 1), a.roll(1, dims=0), 1 - a):
        found = quality.ssim(a, b)
        assert found.dtype == dtype
        assert found.tolist() == pytest.approx(reference_ssim(a.double(), b.double()), abs=tolerance)


def test_ssim_in_colour_is_the_mean_over_channels(fashion_mnist: Images) -> None:
    a = as_float(fashion_mnist.test[:30], torch.float64).view(10, 3, 28, 28)
    b = a.roll(1, dims=2)
    assert quality.ssim(a, b).tolist() == pytest.approx(reference_ssim(a, b), abs=1e-9)
    by_channel = quality.ssim(a.view(30, 1, 28, 28), b.view(30, 1, 28, 28)).view(10, 3).mean(1)
    assert quality.ssim(a, b).tolist() == pytest.approx(by_channel.tolist(), abs=1e-12)


@pytest.mark.parametrize("side", [8, 11, 28])
def test_ssim_of_even_images(side: int) -> None:
    a, b = 0.25, 0.75  # variances vanish, so only the means remain
    images = [torch.full((1, 1, side, side), value, dtype=torch.float64) for value in (a, b)]
    expected = (2 * a * b + 0.01**2) / (a**2 + b**2 + 0.01**2)
    assert float(quality.ssim(*images)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("side", [1, 5, 8, 28])
def test_ssim_of_equal_images_is_one(side: int) -> None:
    x = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert quality.ssim(x, x).tolist() == pytest.approx([1, 1, 1], abs=1e-12)


def test_mse_is_the_mean_over_pixels_of_one_image() -> None:
    a = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    b = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0.6]], dtype=torch.float64).view(2, 1, 2, 2)
    assert quality.mse(a, b).tolist() == pytest.approx([0.01, 0.09], abs=1e-15)


def test_psnr() -> None:
    errors = torch.tensor([1, 0.1, 0.001, 0], dtype=torch.float64)
    assert quality.psnr(errors).tolist() == pytest.approx([0, 10, 30, math.inf], abs=1e-12)


def test_errors_of_every_image_across_batches(digits: Images) -> None:
    shape = digits.shape
    still = PrincipalSubspace(torch.zeros(1, 64, dtype=torch.float64), torch.full((64,), 0.5).double(), shape)
    table = quality.errors(still, digits.train)  # reconstructs every image as even grey
    assert list(table.columns) == ["mse", "psnr_db", "ssim"]
    x = as_float(digits.train, torch.float64)
    expected = (x - 0.5).square().flatten(1).mean(1)
    assert table["mse"].tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert table["psnr_db"].tolist() == pytest.approx((10 * torch.log10(1 / expected)).tolist(), rel=1e-12)
    assert quality.summary(still, digits.train)["mse"] == pytest.approx(float(expected.mean()), rel=1e-12)


def test_a_reconstruction_that_is_no_number_is_not_averaged_away(digits: Images) -> None:
    mean = torch.zeros(64)
    mean[5] = math.nan
    with pytest.raises(ValueError, match="not a number"):
        quality.summary(PrincipalSubspace(torch.zeros(1, 64), mean, digits.shape), digits.test)

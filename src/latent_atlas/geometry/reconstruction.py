"""How well a manifold reconstructs images: MSE, PSNR and SSIM, and which part of the error its encoder misses."""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor

from latent_atlas.geometry.closest import TOLERANCE, closest
from latent_atlas.geometry.manifold import Manifold, batches
from latent_atlas.models.closest import ON_SURFACE

SSIM_SIGMA = 1.5  # pixels, the Gaussian window of Wang et al. (2004)
SSIM_RADIUS = 5  # pixels


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error per pixel of image pairs (N, C, H, W): (N,)."""
    return (a - b).square().flatten(1).mean(1)  # N


def psnr(mse_per_image: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1], from their MSE; infinite where it is zero."""
    return -10 * torch.log10(mse_per_image)  # N


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of image pairs (N, C, H, W) with values in [0, 1]: (N,), 1 for equal images.

    Gaussian window of 1.5 pixels and 11 x 11 taps (the largest odd window that fits, for images smaller
    than that), over the positions where it fits whole, averaged over positions and channels.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE Trans. Image Processing 13(4), 2004.
    """
    down, across = (_window(side, a) for side in a.shape[-2:])  # H' x H, W' x W

    def blur(x: Tensor) -> Tensor:
        return down @ (x @ across.T)  # N x C x H' x W'

    c1, c2 = 0.01**2, 0.03**2
    mean_a, mean_b = blur(a), blur(b)
    var_a = blur(a * a) - mean_a**2
    var_b = blur(b * b) - mean_b**2
    cov = blur(a * b) - mean_a * mean_b
    score = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return score.flatten(1).mean(1)  # N


def _window(side: int, like: Tensor) -> Tensor:
    """Matrix (side - 2 radius, side) that slides a normalised Gaussian along one axis."""
    radius = min(SSIM_RADIUS, (side - 1) // 2)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    taps = taps / taps.sum()
    matrix = torch.zeros(side - 2 * radius, side, dtype=torch.float64)
    for row in range(len(matrix)):
        matrix[row, row : row + 2 * radius + 1] = taps
    return matrix.to(like)


def errors(manifold: Manifold, pixels: Tensor) -> pd.DataFrame:
    """Reconstruction error of each of the uint8 images (N, C, H, W).

    Returns
    -------
    DataFrame
        One row an image: ``mse`` per pixel, ``psnr_db``, ``ssim``.
    """
    rows = []
    for x in batches(pixels, manifold.dtype):
        y = manifold.reconstruct(x)
        error = mse(x, y)
        rows.append(torch.stack([error, psnr(error), ssim(x, y)], dim=1).double())  # N x 3
    return pd.DataFrame(torch.cat(rows).numpy(), columns=["mse", "psnr_db", "ssim"])


def gaps(manifold: Manifold, pixels: Tensor) -> pd.DataFrame:
    """Which part of the error of each of the images (N, C, H, W) is missed by the encoder, and which by the surface.

    Returns
    -------
    DataFrame
        One row an image: ``mse_closest``, the error of the closest point that is found from the encoder's code;
        ``encoder_gap``, 1 - mse_closest / mse, null where nothing is wrong; ``steps`` of the search;
        ``residual_angle_deg``, between residual and tangent space at its end, 90 at an optimum, null on the surface or
        where it is not known; ``converged``, whether it is 90 to :data:`latent_atlas.geometry.closest.TOLERANCE`.
    """
    found, start = closest(manifold, pixels)
    least = ON_SURFACE * manifold.pixel_count
    columns = {
        "mse_closest": found.error / manifold.pixel_count,
        "encoder_gap": (1 - found.error / start).masked_fill(start <= least, math.nan),
        "steps": found.steps,
        "residual_angle_deg": found.cosine.clamp(max=1).acos().rad2deg().masked_fill(found.error <= least, math.nan),
        "converged": found.cosine <= TOLERANCE,
    }
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})


def summary(manifold: Manifold, pixels: Tensor) -> dict[str, float]:
    """Over uint8 images (N, C, H, W): mean ``mse`` and ``ssim``, and ``psnr_db`` of the mean error, NaN for none."""
    means = {str(name): float(value) for name, value in errors(manifold, pixels).mean().items()}
    if math.isnan(means["mse"]):
        raise ValueError("a reconstruction is not a number")
    return means | {"psnr_db": -10 * math.log10(means["mse"]) if means["mse"] > 0 else math.nan}

"""Paths between two images: along a straight line of pixels, or along a straight line of codes, decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latent_atlas.data.images import as_float, as_images
from latent_atlas.errors import DataError
from latent_atlas.geometry.manifold import BATCH, Manifold

BLOCK = 2**23  # numbers of the images that are compared at once


@dataclass(frozen=True)
class Path:
    """A path on a manifold in equal steps of the chart.

    Attributes
    ----------
    t : tensor (n + 1,)
        0 to 1, both included.
    images : tensor (n + 1, C, H, W)
    """

    t: Tensor
    images: Tensor

    @property
    def step_lengths(self) -> Tensor:
        """Distance of each image from the one before (n + 1,), the first zero; in units of a pixel's range."""
        steps = (self.images[1:] - self.images[:-1]).flatten(1).norm(dim=1)  # n
        return torch.cat([steps.new_zeros(1), steps])

    @property
    def length(self) -> float:
        """Length of the polygon through the images."""
        return float(self.step_lengths.sum())

    @property
    def straight_distance(self) -> float:
        """Distance between the first image and the last."""
        return float((self.images[-1] - self.images[0]).norm())


def interpolate(manifold: Manifold, start: Tensor | np.ndarray, end: Tensor | np.ndarray, steps: int) -> Path:
    """The decoded straight line between the codes of two images (C, H, W), in ``steps`` equal steps.

    Raises
    ------
    DataError
        If an image does not fit the manifold, or both are the same, so that there is nothing between them.
    """
    given = [as_images(image, manifold.image_shape) for image in (start, end)]
    ends = [x.to(manifold.dtype) if x.is_floating_point() else as_float(x, manifold.dtype) for x in given]
    if not all(bool(x.isfinite().all()) for x in ends):
        raise DataError("an image holds what is not a number: pixels must lie in [0, 1]")
    if torch.equal(*ends):
        raise DataError("an interpolation needs two different images: these are the same, pixel by pixel")
    t = torch.linspace(0, 1, steps + 1, dtype=manifold.dtype)
    first, last = manifold.encode(torch.cat(ends))  # k, k
    codes = torch.lerp(first[None], last[None], t[:, None])  # n + 1 x k
    parts = codes.split(max(1, BATCH // manifold.pixel_count))
    return Path(t, torch.cat([manifold.decode(part) for part in parts]))


def distance_to_nearest(images: Tensor, others: Tensor) -> Tensor:
    """Distance of each float image (n, C, H, W) from the nearest of the uint8 images (N, C, H, W): (n,)."""
    points = images.flatten(1).double()  # n x P
    distance = points.new_full((len(points),), torch.inf)
    for part in others.split(max(1, BLOCK // points.shape[1])):
        rows = part.flatten(1).double().div_(255)  # m x P
        squares = (rows**2).sum(1)[None, :] - 2 * points @ rows.T  # n x m, up to a constant of each point
        nearest = rows[squares.argmin(dim=1)]  # n x P
        distance = torch.minimum(distance, (points - nearest).norm(dim=1))
    return distance

"""Paths between two images: along a straight line of pixels, or of codes, decoded, or from neighbour to neighbour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # which loads a part of it when it is used
import torch
from torch import Tensor

from latent_atlas.data.images import as_float, as_images
from latent_atlas.errors import DataError
from latent_atlas.geometry.manifold import BATCH, Manifold

BLOCK = 2**23  # numbers of the images that are compared at once
NEIGHBOURS = 10


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


def line(start: Tensor, end: Tensor, segments: int) -> Tensor:
    """Points of the straight lines between codes (B, k) and (B, k): (B, segments + 1, k)."""
    t = torch.linspace(0, 1, segments + 1, dtype=start.dtype, device=start.device)[:, None]
    return start[:, None] * (1 - t) + end[:, None] * t


def smooth(codes: Tensor, segments: int) -> Tensor:
    """Points, at equal steps, of the cubic splines through the nodes (B, n + 1, k): (B, segments + 1, k)."""
    t, fine = (np.linspace(0, 1, count) for count in (codes.shape[1], segments + 1))
    return torch.from_numpy(scipy.interpolate.CubicSpline(t, codes.double().cpu().numpy(), axis=1)(fine)).to(codes)


def through_neighbours(manifold: Manifold, codes: Tensor, start: Tensor, end: Tensor, segments: int) -> Tensor:
    """Shortest paths in the graph of nearest neighbours of codes, as Tenenbaum et al., "A Global Geometric Framework
    for Nonlinear Dimensionality Reduction" (2000), where distances are those of the decoded images.

    Parameters
    ----------
    manifold : Manifold
    codes : tensor (N, k)
        What the paths may lead through, such as codes of training images.
    start, end : tensors (B, k)
    segments : int

    Returns
    -------
    tensor (B, segments + 1, k)
        Points at equal steps of length. Where no path leads through neighbours, those of the straight line.
    """
    found = line(start, end, segments)
    points = torch.cat([codes, start, end])  # M x k
    images = torch.cat(
        [manifold.decode(part).flatten(1) for part in points.split(max(1, BATCH // manifold.pixel_count))]
    )
    nearest = (
        torch.cdist(images, images).fill_diagonal_(torch.inf).topk(min(NEIGHBOURS, len(points) - 1), largest=False)
    )
    graph = scipy.sparse.csr_array(
        (
            nearest.values.clamp(min=torch.finfo(images.dtype).tiny).flatten().cpu().numpy(),
            nearest.indices.flatten().cpu().numpy(),
            np.arange(len(points) + 1) * nearest.indices.shape[1],
        ),
        shape=(len(points), len(points)),
    )
    first, last = len(codes), len(codes) + len(start)
    distances, before = scipy.sparse.csgraph.dijkstra(
        graph, directed=False, indices=range(first, last), return_predecessors=True
    )
    for pair in range(len(start)):
        places = [last + pair]
        while before[pair, places[-1]] >= 0:
            places.append(int(before[pair, places[-1]]))
        if places[-1] == first + pair and len(places) > 2:
            along = distances[pair, places[::-1]]
            equal = np.linspace(0, along[-1], segments + 1)
            passed = points[places[::-1]].double().cpu().numpy()
            columns = [np.interp(equal, along, column) for column in passed.T]
            found[pair, 1:-1] = torch.from_numpy(np.stack(columns, axis=1)[1:-1]).to(found)
    return found

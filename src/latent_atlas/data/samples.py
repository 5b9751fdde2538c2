"""Samples: which images of a split are measured."""

from __future__ import annotations

import torch
from torch import Tensor

from latent_atlas.errors import DataError, counted

TIES = 0x5EED  # sets the draw among equal remainders apart from that of the images


def pairs(images: int, count: int, seed: int) -> Tensor:
    """Random pairs of images, no image twice.

    Parameters
    ----------
    images : int
        How many there are.
    count : int
        How many pairs.
    seed : int

    Returns
    -------
    tensor (count, 2)
        Indices.

    Raises
    ------
    DataError
        If there are too few images.
    """
    if 2 * count > images:
        raise DataError(
            f"geodesics.pairs: for {counted(count, 'pair')} {2 * count} images are needed, not {images}; "
            f"choose at most {images // 2}"
        )
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed))[: 2 * count].reshape(count, 2)


def stratified(labels: Tensor, size: int, seed: int) -> Tensor:
    """Indices of a random sample without repeats in which each label has its share of the images.

    Each label gets its share rounded down. What is left over goes to the labels with the largest remainders, by lot
    among equal ones.

    Parameters
    ----------
    labels : tensor (N,)
    size : int
        How many images.
    seed : int

    Returns
    -------
    tensor (size,)
        In ascending order.

    Raises
    ------
    DataError
        If there are fewer images than that.
    """
    if not 1 <= size <= len(labels):
        raise DataError(
            f"sample.size: {counted(size, 'image')} cannot be drawn of {len(labels)}; choose 1 to {len(labels)}"
        )
    draw = torch.Generator().manual_seed(seed)
    _, inverse, counts = labels.unique(return_inverse=True, return_counts=True)
    quotas = counts * size // len(labels)  # labels
    remainders = counts * size % len(labels)
    ties = torch.rand(len(counts), generator=torch.Generator().manual_seed(seed ^ TIES), dtype=torch.float64)  # labels
    quotas[(remainders + ties).argsort(descending=True)[: size - int(quotas.sum())]] += 1
    order = torch.randperm(len(labels), generator=draw)
    chosen = [order[inverse[order] == label][:quota] for label, quota in enumerate(quotas.tolist())]
    return torch.cat(chosen).sort().values

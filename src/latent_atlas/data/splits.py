"""Splits of a dataset that has none of its own, written part by part so that it need not fit in memory."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.data.samples import stratified
from latent_atlas.data.sources import SEED, TEST_SHARE
from latent_atlas.errors import DataError, OutputError, counted
from latent_atlas.files import PART_BYTES

Part = Callable[[np.ndarray], np.ndarray]  # indices (n,) to their uint8 pixels (n, C, H, W)


def divided(
    name: str,
    part: Part,
    count: int,
    shape: Sequence[int],
    labels: Tensor | None,
    classes: Sequence[str],
    scratch: Path,
    made: Mapping[str, Any],
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """A dataset divided at random: each label has its share in both splits, and each split is in random order.

    Parameters
    ----------
    name : str
    part : callable
        Gives the pixels at some indices.
    count : int
        Number of images.
    shape : (C, H, W)
    labels : int64 tensor (count,) or None
    classes : sequence of str
    scratch : Path
        A folder for the pixels, which are mapped into memory from there.
    made : mapping
        See :class:`Images`; the split is added.
    test_share : float, optional
        Share of the images for testing.
    seed : int, optional

    Raises
    ------
    DataError
        If a split would be empty.
    """
    share, seed = TEST_SHARE if test_share is None else test_share, SEED if seed is None else seed
    tests = round(count * share)
    if not 1 <= tests < count:
        raise DataError(
            f"{name}: of {counted(count, 'image')}, dataset.test_share: {share:g} leaves {count - tests} for training "
            f"and {tests} for testing; each split needs one, so change test_share or add images"
        )
    labels = torch.zeros(count, dtype=torch.int64) if labels is None else labels
    test = stratified(labels, tests, seed)
    rest = torch.ones(count, dtype=torch.bool).index_fill(0, test, False).nonzero().flatten()
    draw = torch.Generator().manual_seed(seed)
    splits = [index[torch.randperm(len(index), generator=draw)] for index in (rest, test)]
    train_pixels, test_pixels = (gathered(part, index.numpy(), shape, scratch) for index in splits)
    return Images(
        name,
        train_pixels,
        labels[splits[0]],
        test_pixels,
        labels[splits[1]],
        tuple(classes),
        {**made, "test_share": share, "seed": seed},
    )


def gathered(part: Part, index: np.ndarray, shape: Sequence[int], scratch: Path) -> Tensor:
    """The pixels (n, C, H, W) at these indices, in a file in ``scratch`` that is mapped into memory."""
    pixels = space((len(index), *shape), scratch)
    rows = max(1, PART_BYTES // math.prod(shape))
    for start in range(0, len(index), rows):
        pixels[start : start + rows] = part(index[start : start + rows])
    return torch.from_numpy(pixels)


def space(shape: Sequence[int], folder: Path) -> np.ndarray:
    """Room for bytes on disk, as an array; it is given back when the array goes."""
    size = max(1, math.prod(shape))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is found now, not while the array is filled
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=np.uint8, mode="w+", shape=tuple(shape))
    except OSError as error:
        raise OutputError(f"no room for {size / 1e6:.0f} MB of pixels in {folder}: {error.strerror}") from error

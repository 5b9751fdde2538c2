"""Images in memory: both splits of a dataset as uint8 tensors, and the one file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latent_atlas.data.stored import SPLITS, Splits, read_into
from latent_atlas.errors import DataError
from latent_atlas.files import read_safetensors, write_safetensors

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)


@dataclass(frozen=True)
class Images(Splits[Tensor]):
    """A dataset of small pictures, held as bytes; those of a file are read from it as they are used.

    Attributes
    ----------
    name : str
        The dataset's name, such as ``FashionMNIST``.
    train, test : uint8 tensors (N, C, H, W)
        Pixel values 0 to 255.
    train_labels, test_labels : int64 tensors (N,)
        Index into ``classes``.
    classes : tuple of str
        What the labels stand for.
    made : mapping of str to plain values
        How the dataset was made: its source, its split, what was skipped.
    train_factors, test_factors : float64 tensors (N, f) or None
        The factors of drawn figures: see :mod:`latent_atlas.data.figures`.
    """

    def examples(self, named: Mapping[str, str], dtype: torch.dtype) -> Tensor:
        """Named images as floats (n, C, H, W) in [0, 1], in the order of ``named``.

        Parameters
        ----------
        named : mapping of str to str
            A name, and a split and an index in it, such as ``train/5``.
        dtype : torch.dtype

        Raises
        ------
        DataError
            If an index lies outside its split.
        """
        return as_float(torch.stack([self.pixels(s)[i] for s, i in self.places(named)]), dtype)  # n x C x H x W

    def take(self, limit: int | None) -> Images:
        """The first ``limit`` images of each split (all of them for ``None``)."""
        keys = [f"{split}{what}" for split in SPLITS for what in ("", "_labels", "_factors")]
        parts = {key: getattr(self, key)[:limit] for key in keys if getattr(self, key) is not None}
        return replace(self, **parts)

    def save(self, path: Path) -> None:
        """Write both splits to one safetensors file, some rows at a time; equal images give equal bytes."""
        keys = ("train", "train_labels", "train_factors", "test", "test_labels", "test_factors")
        tensors = {key: tensor for key in keys if (tensor := getattr(self, key)) is not None}
        metadata = {"classes": json.dumps(self.classes), "made": json.dumps(self.made, sort_keys=True)}
        write_safetensors(path, tensors, metadata | {"name": self.name})

    @classmethod
    def load(cls, path: Path) -> Images:
        """Read what :meth:`save` wrote. The pixels stay in the file, which is mapped into memory.

        Raises
        ------
        DataError
            If the file is missing, damaged, or not a file of images.
        """
        return read_into(cls, path, *read_safetensors(path, DataError))


def as_float(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images as floats in [0, 1], the same shape: uint8 pixels divided by 255, floats as they are.

    Raises
    ------
    DataError
        If the images are of another type, or floats outside [0, 1].
    """
    if pixels.dtype == torch.uint8:
        return pixels.to(dtype).div_(255)
    if not pixels.is_floating_point():
        raise DataError(f"images must be uint8, or floats in [0, 1], not {pixels.dtype}")
    if pixels.numel() and not (pixels.min() >= 0 and pixels.max() <= 1):  # a NaN fails too
        low, high = float(pixels.min()), float(pixels.max())
        raise DataError(f"images as floats must lie in [0, 1]; these go from {low:g} to {high:g}: divide by 255?")
    return pixels.to(dtype)


def in_grey(pixels: Tensor) -> Tensor:
    """uint8 RGB images (N, 3, H, W) in grey (N, 1, H, W)."""
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8)


def as_images(images: Tensor | np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Images as a tensor (N, C, H, W) of the same type, if they fit a model of images of this shape.

    Parameters
    ----------
    images : tensor or array (N, C, H, W), (C, H, W), or (N, H, W) for one channel
    shape : (C, H, W)

    Raises
    ------
    DataError
        If they are neither a tensor nor an array, or of another shape.
    """
    needed = "a torch tensor or a numpy array of shape N x " + " x ".join(map(str, shape))
    try:
        found = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    except TypeError as error:
        raise DataError(f"images must be {needed}, not {type(images).__name__} ({error})") from error
    given = " x ".join(map(str, found.shape))
    if found.ndim == 3:
        found = found[None] if found.shape == shape else found[:, None]
    if found.ndim != 4 or found.shape[1:] != shape:
        raise DataError(f"images of shape {given} do not fit this manifold: it needs {needed}")
    return found

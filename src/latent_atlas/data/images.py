"""Images in memory: both splits of a dataset as uint8 tensors, and the one file that holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_atlas.errors import DataError
from latent_atlas.files import parts, read_safetensors, write_safetensors

SPLITS = ("train", "test")
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)


@dataclass(frozen=True)
class Images:
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

    name: str
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    train_factors: Tensor | None = None
    test_factors: Tensor | None = None

    def __post_init__(self) -> None:
        for split in SPLITS:
            pixels, labels = self.pixels(split), getattr(self, f"{split}_labels")
            if pixels.dtype != torch.uint8 or pixels.ndim != 4:
                raise DataError(
                    f"the {split} images of {self.name} must be uint8 of shape (N, C, H, W), "
                    f"not {pixels.dtype} of shape {tuple(pixels.shape)}"
                )
            if labels.shape != (len(pixels),):
                raise DataError(f"{self.name} has {len(pixels)} {split} images but {len(labels)} labels")
            if labels.dtype != torch.int64:
                raise DataError(f"the {split} labels of {self.name} must be int64, not {labels.dtype}")
            if (factors := getattr(self, f"{split}_factors")) is None:
                continue
            if factors.ndim != 2 or factors.dtype != torch.float64:
                raise DataError(f"the {split} factors of {self.name} must be float64 of shape (N, f)")
            if len(factors) != len(pixels):
                raise DataError(f"{self.name} has {len(pixels)} {split} images but factors of {len(factors)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def checksum(self) -> str:
        """SHA-256 over the pixels and labels of both splits, in hexadecimal."""
        digest = hashlib.sha256()
        for tensor in (self.train, self.train_labels, self.test, self.test_labels):
            for part in parts(tensor):
                digest.update(part)
        return digest.hexdigest()

    def pixels(self, split: str) -> Tensor:
        """The uint8 images (N, C, H, W) of ``train`` or ``test``."""
        if split not in SPLITS:
            raise ValueError(f"split must be 'train' or 'test', not {split!r}")
        return self.train if split == "train" else self.test

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

    def places(self, named: Mapping[str, str]) -> list[tuple[str, int]]:
        """Split and index of named images; see :meth:`examples`."""
        found = []
        for name, place in named.items():
            split, _, number = place.partition("/")
            count = len(self.pixels(split))
            if int(number) >= count:
                raise DataError(
                    f"example {name}: there is no image {place}; {self.name} as stored here has {count} {split} "
                    f"images, so choose an index from 0 to {count - 1}"
                )
            found.append((split, int(number)))
        return found

    def labels(self, split: str) -> Tensor:
        """The labels (N,) of ``train`` or ``test``."""
        return self.train_labels if split == "train" else self.test_labels

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
        metadata, tensors = read_safetensors(path, DataError)
        try:
            classes, made = json.loads(metadata["classes"]), json.loads(metadata["made"])
            if not (isinstance(classes, list) and all(isinstance(word, str) for word in classes)):
                raise ValueError("its classes are no words")
            if not isinstance(made, dict):
                raise ValueError("it does not say how it was made")
            found = cls(name=metadata["name"], classes=tuple(classes), made=made, **tensors)
            for split in SPLITS:
                labels = found.labels(split)
                if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
                    raise ValueError(f"its {split} labels are not those of {len(classes)} classes")
            return found
        except (KeyError, TypeError, ValueError, RecursionError, DataError) as error:
            raise DataError(
                f"{path} is not a file of images ({error}): delete it and fetch the dataset again"
            ) from error


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

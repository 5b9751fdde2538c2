"""Both splits of a dataset, as tensors or as arrays, and its file as arrays: what shows images needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from latent_atlas.errors import DataError, counted
from latent_atlas.files import parts, read_arrays

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "test")
A = TypeVar("A", "Tensor", np.ndarray)


@dataclass(frozen=True)
class Splits(Generic[A]):
    """A dataset of small pictures, held as bytes.

    The attributes are those of :class:`latent_atlas.data.images.Images`, tensors or arrays.
    """

    name: str
    train: A
    train_labels: A
    test: A
    test_labels: A
    classes: tuple[str, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    train_factors: A | None = None
    test_factors: A | None = None

    def __post_init__(self) -> None:
        for split in SPLITS:
            pixels, labels = self.pixels(split), self.labels(split)
            if kind(pixels) != "uint8" or pixels.ndim != 4:
                raise DataError(
                    f"the {split} images of {self.name} must be uint8 of shape (N, C, H, W), "
                    f"not {pixels.dtype} of shape {tuple(pixels.shape)}"
                )
            if labels.shape != (len(pixels),):
                raise DataError(
                    f"{self.name} has {counted(len(pixels), f'{split} image')} but {counted(len(labels), 'label')}"
                )
            if kind(labels) != "int64":
                raise DataError(f"the {split} labels of {self.name} must be int64, not {labels.dtype}")
            if (factors := self.train_factors if split == "train" else self.test_factors) is None:
                continue
            if factors.ndim != 2 or kind(factors) != "float64":
                raise DataError(f"the {split} factors of {self.name} must be float64 of shape (N, f)")
            if len(factors) != len(pixels):
                raise DataError(
                    f"{self.name} has {counted(len(pixels), f'{split} image')} but factors of {len(factors)}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def checksum(self) -> str:
        """SHA-256 over the pixels and labels of both splits, in hexadecimal."""
        digest = hashlib.sha256()
        for values in (self.train, self.train_labels, self.test, self.test_labels):
            for part in parts(values):
                digest.update(part)
        return digest.hexdigest()

    def pixels(self, split: str) -> A:
        """The uint8 images (N, C, H, W) of ``train`` or ``test``."""
        if split not in SPLITS:
            raise ValueError(f"split must be 'train' or 'test', not {split!r}")
        return self.train if split == "train" else self.test

    def labels(self, split: str) -> A:
        """The labels (N,) of ``train`` or ``test``."""
        return self.train_labels if split == "train" else self.test_labels

    def places(self, named: Mapping[str, str]) -> list[tuple[str, int]]:
        """Split and index of named images.

        Parameters
        ----------
        named : mapping of str to str
            A name, and a split and an index in it, such as ``train/5``.

        Raises
        ------
        DataError
            If an index lies outside its split.
        """
        found = []
        for name, place in named.items():
            split, _, number = place.partition("/")
            count = len(self.pixels(split))
            if int(number) >= count:
                raise DataError(
                    f"example {name}: there is no image {place}; {self.name} as stored here has "
                    f"{counted(count, f'{split} image')}, so choose an index from 0 to {count - 1}"
                )
            found.append((split, int(number)))
        return found


class StoredImages(Splits[np.ndarray]):
    """The file of a dataset as arrays, which are read from it as they are used."""

    @classmethod
    def load(cls, path: Path) -> StoredImages:
        """Read what :meth:`latent_atlas.data.images.Images.save` wrote, as its ``load`` does.

        Raises
        ------
        DataError
            If the file is missing, damaged, or not a file of images.
        """
        return read_into(cls, path, *read_arrays(path, DataError))


S = TypeVar("S", bound=Splits)


def read_into(of: type[S], path: Path, metadata: Mapping[str, str], values: Mapping[str, Any]) -> S:
    """A dataset of the metadata and the tensors or arrays of a file; DataError if they are of something else."""
    try:
        classes, made = json.loads(metadata["classes"]), json.loads(metadata["made"])
        if not (isinstance(classes, list) and all(isinstance(word, str) for word in classes)):
            raise ValueError("its classes are no words")
        if not isinstance(made, dict):
            raise ValueError("it does not say how it was made")
        found = of(name=metadata["name"], classes=tuple(classes), made=made, **values)
        for split in SPLITS:
            labels = found.labels(split)
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
                raise ValueError(
                    f"its {split} labels are not those of {len(classes)} class{'es' * (len(classes) != 1)}"
                )
        return found
    except (KeyError, TypeError, ValueError, RecursionError, DataError) as error:
        raise DataError(f"{path} is not a file of images ({error}): delete it and fetch the dataset again") from error


def kind(values: Tensor | np.ndarray) -> str:
    """The type of the numbers, by the name that torch and numpy give it."""
    return str(values.dtype).removeprefix("torch.")

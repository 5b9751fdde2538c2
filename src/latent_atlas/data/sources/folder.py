"""Pictures of the user's: files of any format that Pillow reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.data.decoding import collect
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log, base, matched
from latent_atlas.data.splits import divided
from latent_atlas.errors import DataError
from latent_atlas.files import impostor

if TYPE_CHECKING:
    from PIL.Image import Image


def get(
    images: str,
    scratch: Path,
    log: Log,
    labels: str | None = None,
    size: int | Sequence[int] | None = None,
    crop: str | None = None,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """Pictures in a folder or that a pattern matches, divided at random; labels are their folders' names or in a CSV.

    Raises
    ------
    DataError
        If there are none, or one has no label in the CSV.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    files = matched(images)
    if not files:
        raise DataError(f"dataset.images: there are no images at {images}: correct it (see docs/data.md)")
    log(f"{images}: reading {len(files)} files")
    words = (
        of_table(Path(labels).expanduser(), files, base(images))
        if labels
        else [f.absolute().parent.name for f in files]
    )
    classes = in_order(words)
    number = {word: index for index, word in enumerate(classes)}

    def read(index: int) -> tuple[Image, int]:
        try:
            return Pillow.open(files[index]), number[words[index]]
        except UnidentifiedImageError as error:
            with files[index].open("rb") as file:
                raise ValueError(f"it {impostor(file.read(512)) or 'is no image that Pillow knows'}") from error

    found = collect(images, [str(file) for file in files], read, pair(size), crop, colour, scratch, log)
    return divided(
        images,
        lambda index: found.pixels[index],
        len(found.kept),
        found.pixels.shape[1:],
        torch.tensor(found.labels),
        classes,
        scratch,
        {"source": "images", "labels": labels or "folder names"} | found.made,
        test_share,
        seed,
    )


def pair(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """(H, W) of a size that may be one number."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def in_order(words: Iterable[str]) -> list[str]:
    """Different words in order: numbers by their value, then the others by the alphabet."""
    return sorted(set(words), key=lambda word: (not word.isdecimal(), int(word) if word.isdecimal() else 0, word))


def of_table(table: Path, files: Sequence[Path], folder: Path) -> list[str]:
    """The label of each file, from a CSV with the columns file and label.

    A file is named relative to the CSV, to the study, or to the folder of the images.
    """
    try:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"dataset.labels: {table} is no CSV in UTF-8 ({error}): save it as one") from error
    rows.columns = rows.columns.str.strip().str.lower()
    if not {"file", "label"} <= set(rows.columns):
        raise DataError(
            f"dataset.labels: {table} has the columns {', '.join(map(repr, rows.columns))}; it must have file and "
            f"label, separated by commas"
        )
    known: dict[str, str] = {}
    for file, label in zip(rows["file"].str.strip(), rows["label"].str.strip(), strict=True):
        if "\\" in file and not Path(file).exists():  # a table that was made under Windows
            file = file.replace("\\", "/")
        for place in {os.path.abspath(parent / file) for parent in (table.parent, Path(), folder)}:  # noqa: PTH100
            if known.setdefault(place, label) != label:
                raise DataError(f"dataset.labels: {table} gives {file} two labels, {known[place]} and {label}")
    found = [known.get(os.path.abspath(file)) for file in files]  # noqa: PTH100
    missing = [str(file) for file, label in zip(files, found, strict=True) if not label]
    if missing:
        raise DataError(
            f"dataset.labels: {table} has no label for {len(missing)} of {len(files)} images, the first {missing[0]}: "
            f"add a row, or narrow dataset.images"
        )
    return [label for label in found if label]

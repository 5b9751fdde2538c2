"""Pictures of the user's: files of any format that Pillow reads."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latent_atlas.data.decoding import collect
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log, base, matched
from latent_atlas.data.splits import divided
from latent_atlas.errors import DataError, counted
from latent_atlas.files import check_regular, impostor

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_TABLE = 2**27  # bytes of a CSV


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
        whole = Path(images).expanduser().absolute()
        raise DataError(f"dataset.images: there are no images at {images} ({whole}): correct it (see docs/data.md)")
    log(f"{images}: reading {counted(len(files), 'file')}")
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
    check_regular(table, DataError)
    try:
        if (size := table.stat().st_size) > LARGEST_TABLE:
            raise ValueError(f"{size:,} bytes, and at most {LARGEST_TABLE:,} are read")
        with table.open(encoding="utf-8-sig", newline="") as content:
            reader = csv.reader(content, skipinitialspace=True, strict=True)
            head, *rows = [(reader.line_num, cells) for cells in reader if cells] or [(1, [])]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"dataset.labels: {table} is no CSV in UTF-8 ({error}): save it as one") from error
    columns = [name.strip().lower() for name in head[1]]
    if not columns.count("file") == columns.count("label") == 1:
        shown = ", ".join(repr(name[:40]) for name in columns[:9]) or "none"
        raise DataError(
            f"dataset.labels: {table} has the columns {shown}; it must have file and label, separated by "
            f"commas, each once"
        )
    parents = [os.path.abspath(parent) for parent in (table.parent, Path(), folder)]  # noqa: PTH100
    known: dict[str, str] = {}
    for line, cells in rows:
        if len(cells) != len(columns):
            raise DataError(
                f"dataset.labels: line {line} of {table} has {len(cells)} cells where the first has {len(columns)}: "
                f"put a text with commas in quotes"
            )
        file, label = (cells[columns.index(name)].strip() for name in ("file", "label"))
        if "\\" in file and not Path(file).exists():  # a table that was made under Windows
            file = file.replace("\\", "/")
        for place in {os.path.normpath(os.path.join(parent, file)) for parent in parents}:  # noqa: PTH118
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

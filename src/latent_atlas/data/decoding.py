"""Pictures of any format and size, as Pillow reads them, made into images of one shape."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from latent_atlas.data.splits import space
from latent_atlas.errors import DataError, counted

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 5  # of the files that are skipped
RESAMPLING = "lanczos"
ORIENTATION = 0x0112  # the EXIF tag; from 5 on the sides are swapped
LARGEST = 105_000_000  # pixels of a picture, so that decoding it takes less than 1 GiB
LARGEST_OF = {"WEBP": 60_000_000}  # whose decoder keeps three copies
ROWS = 256  # that are laid on white at once
DEEP = np.rint(np.arange(2**16) / 257).astype(np.uint8)  # 16 bits in 8


class Collected(NamedTuple):
    """Pictures of one shape.

    Attributes
    ----------
    pixels : uint8 array (N, C, H, W)
        Mapped into memory from a file.
    kept : list of int
        Which of the pictures they are.
    labels : list
        What came with each of them.
    made : mapping of str to plain values
        What was done to them, and how many were skipped.
    """

    pixels: np.ndarray
    kept: list[int]
    labels: list[Any]
    made: dict[str, Any]


def collect(
    name: str,
    names: Sequence[str],
    read: Callable[[int], tuple[Image, Any]],
    size: tuple[int, int] | None,
    crop: str | None,
    colour: str | None,
    scratch: Path,
    log: Callable[[str], None],
) -> Collected:
    """Read pictures and give them one shape; those that cannot be read are skipped, counted and named.

    Parameters
    ----------
    name : str
        What to call them all.
    names : sequence of str
        What to call each.
    read : callable
        Gives the picture of a number, and its label.
    size : (H, W) or None
        None leaves the pictures as they are, and skips those that have not the most frequent size.
    crop : {"centre", "none"} or None
        "centre" (also None) cuts the largest centred rectangle with the sides' ratio; "none" squeezes instead. Both
        resample by Lanczos' filter.
    colour : {"grey", "rgb"} or None
        None is grey if all of them are grey.
    scratch : Path
        A folder for the pixels.
    log : callable

    Raises
    ------
    DataError
        If none can be read.
    """
    given = size
    if size is None or colour is None:
        sizes, grey = _survey(len(names), read)
        ((size, most), *rest) = [(size, 0)] if size else sizes.most_common() or [((1, 1), 0)]
        counts = ", ".join(f"{count} of {high}x{wide}" for (high, wide), count in sizes.most_common(SHOWN))
        remedy = f"pictures of several sizes (height x width: {counts}): set dataset.size to resize them all"
        if rest and rest[0][1] == most:
            raise DataError(f"{name}: {remedy}, such as {list(size)}")
        colour = colour or ("grey" if grey else "rgb")
    pixels = space((len(names), 1 if colour == "grey" else 3, *size), scratch)
    kept: list[int] = []
    labels: list[Any] = []
    unreadable: dict[str, str] = {}
    others: dict[str, str] = {}
    for number, which in enumerate(names):
        try:
            picture, label = read(number)
            _check(picture)
            if given is None and (found := _size(picture)) != size:
                others[which] = "its size is {}x{}".format(*found)
                continue
            _check_whole(picture)
            pixels[len(kept)] = as_array(picture, size, crop, colour)
        except Exception as error:  # Pillow and its plugins raise errors of any kind
            unreadable[which] = str(error).partition("\n")[0] or type(error).__name__
            continue
        kept.append(number)
        labels.append(label)
    if skipped := unreadable | others:
        shown = "; ".join(f"{which}: {why}" for which, why in list(skipped.items())[:SHOWN])
        more = f"; and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        log(f"skipped {len(skipped)} of {len(names)}: {shown}{more}{f'; {remedy}' if others else ''}")
    if not kept:
        raise DataError(f"{name}: none of {counted(len(names), 'file')} can be read as an image; the first: {shown}")
    made: dict[str, Any] = {"size": list(size), "colour": colour, "used": len(kept)}
    if given:
        made |= {"crop": crop or "centre", "resampling": RESAMPLING}
    skips = {"skipped_unreadable": len(unreadable), "skipped_other_size": len(others)}
    return Collected(pixels[: len(kept)], kept, labels, made | skips)


def _survey(count: int, read: Callable[[int], tuple[Image, Any]]) -> tuple[Counter[tuple[int, int]], bool]:
    """How many pictures have each size, and whether all are grey."""
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for number in range(count):
        try:
            picture, _ = read(number)
            _check(picture)
            sizes[_size(picture)] += 1
        except Exception:  # noqa: S112 -- it is skipped and named when it is to be used
            continue
        grey = grey and picture.mode.startswith(("1", "L", "I", "F")) and picture.mode != "LAB"
    return sizes, grey


def _check(picture: Image) -> None:
    """Raise ValueError if decoding a picture would take more memory than a picture should."""
    pixels, most = math.prod(picture.size), LARGEST_OF.get(picture.format or "", LARGEST)
    if pixels > most:
        raise ValueError(f"it has {pixels:,} pixels and at most {most:,} are read: make it smaller")


def _check_whole(picture: Image) -> None:
    """Compare what Pillow leaves out when it decodes: the checksums of a PNG, and that a TIFF has all of its pixels.

    Raises
    ------
    ValueError, SyntaxError
        If a checksum differs, or pixels are missing.
    """
    from PIL import Image

    if picture.format == "PNG" and (file := getattr(picture, "filename", "")):
        with Image.open(file) as again:
            again.verify()
    if picture.format == "TIFF":
        parts = [extents for _, extents, *_ in getattr(picture, "tile", ())]
        if parts and sum((right - left) * (low - top) for left, top, right, low in parts) < math.prod(picture.size):
            raise ValueError("its strips do not hold all of its pixels: save it again")


def _size(picture: Image) -> tuple[int, int]:
    """(H, W) of a picture as it is meant to be looked at."""
    width, height = picture.size
    return (width, height) if picture.getexif().get(ORIENTATION, 1) >= 5 else (height, width)


def as_array(picture: Image, size: tuple[int, int], crop: str | None, colour: str) -> np.ndarray:
    """The uint8 pixels (C, H, W) of a picture: turned upright, on white where it is transparent, resized.

    Raises
    ------
    ValueError
        If its pixels have no known range: floats, or whole numbers of 32 bits.
    """
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode in ("I", "F"):
        raise ValueError(f"mode {picture.mode} of 32-bit pixels has no known range: save it with 8 or 16 bits")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray(DEEP[np.asarray(picture)])  # H x W
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = _on_white(picture)
    if picture.mode != (mode := "L" if colour == "grey" else "RGB"):
        picture = picture.convert(mode)
    height, width = size
    if picture.size != (width, height):
        filter_ = Image.Resampling[RESAMPLING.upper()]
        fit = ImageOps.fit if (crop or "centre") == "centre" else Image.Image.resize
        picture = fit(picture, (width, height), filter_)
    array = np.asarray(picture)  # H x W, or H x W x 3
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)  # C x H x W


def _on_white(picture: Image) -> Image:
    """A picture without transparency, some rows at a time."""
    from PIL import Image

    found, width = Image.new("RGB", picture.size), picture.width
    for top in range(0, picture.height, ROWS):
        part = picture.crop((0, top, width, min(top + ROWS, picture.height))).convert("RGBA")
        found.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part), (0, top))
    return found

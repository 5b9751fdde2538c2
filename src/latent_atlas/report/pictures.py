"""The pictures of the page: files in WebP beside it."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from latent_atlas.errors import FileError
from latent_atlas.files import AGAIN, atomic_write

QUALITY = 70  # of 100


def webp(source: PurePath) -> str:
    """The file of the page for a picture of the results, both relative to their folders.

    Folders are joined by a hyphen, which is in no name of a study: no two pictures get the same file.
    """
    return f"pictures/{'-'.join(source.with_suffix('.webp').parts)}"


def convert(path: Path, results: Path, folder: Path) -> dict[str, Any]:
    """Write a PNG or SVG file of the results as WebP into the folder of the page.

    Returns
    -------
    dict
        ``webp``, the file of the page; ``width`` and ``height`` in pixels.

    Raises
    ------
    FileError
        If the file, or the PNG file beside an SVG file, is missing or damaged.
    """
    source, png = path.relative_to(results), path.with_suffix(".png")
    try:
        path.stat()
        with Image.open(png) as picture:
            picture.verify()  # by its checksums, which are not compared when the pixels are read
    except FileNotFoundError as error:
        raise FileError(f"{error.filename} is missing: run the workflow again") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise FileError(f"{png} is damaged: it is no readable picture ({error}): {AGAIN}") from error
    with Image.open(png) as picture, atomic_write(folder / webp(source)) as aside:
        width, height = picture.size
        picture.convert("RGB").save(aside, "WEBP", quality=QUALITY, method=4)
    return {"webp": webp(source), "width": width, "height": height}

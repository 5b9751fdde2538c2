"""Datasets by name. A module here serves the datasets that its ``DATASETS`` lists, by its function ``get``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from latent_atlas.errors import DataError
from latent_atlas.imports import literal, modules

if TYPE_CHECKING:
    from latent_atlas.data.images import Images

Log = Callable[[str], None]
FOLDER = Path(__file__).parent


class Dataset(NamedTuple):
    """What is known of a dataset before it is here.

    Attributes
    ----------
    source : str
        The module that serves it.
    train, test : int
        Numbers of images.
    shape : (C, H, W)
        Of an image in colour, where the dataset has colours.
    """

    source: str
    train: int
    test: int
    shape: tuple[int, int, int]


def datasets() -> dict[str, Dataset]:
    """All datasets by name, found without importing their modules."""
    return {
        name: Dataset(f"{__name__}.{module}", *known)
        for module in modules(FOLDER)
        for name, known in literal(FOLDER / f"{module}.py", "DATASETS").items()
    }


def get(name: str, colour: str, folder: Path | None, scratch: Path, log: Log = lambda line: None) -> Images:
    """The images of a dataset, from a folder of the user's or from the first public source that answers.

    Parameters
    ----------
    name : str
        A key of :func:`datasets`.
    colour : {"grey", "colour"}
        What to make of a dataset in colour; grey ones are grey either way.
    folder : Path or None
        Where the user keeps the dataset's files. If it is given, no other source is tried.
    scratch : Path
        A folder for downloads, which the caller removes.
    log : callable, optional
        Told which source is tried and what came of it.

    Raises
    ------
    DataError
        If no source delivers the dataset whole, or a file is not what its checksum says.
    """
    known = datasets()
    if name not in known:
        raise DataError(f"unknown dataset {name!r}: choose one of {', '.join(known)}")
    found: Images = importlib.import_module(known[name].source).get(name, colour, folder, scratch, log)
    return found

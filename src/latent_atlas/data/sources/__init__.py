"""Datasets by name: where their files come from, and how they become images in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latent_atlas.data.images import Images
from latent_atlas.errors import DataError

Log = Callable[[str], None]


def get(name: str, colour: str, folder: Path | None, scratch: Path, log: Log = lambda line: None) -> Images:
    """The images of a dataset, from a folder of the user's or from the first public source that answers.

    Parameters
    ----------
    name : str
        A key of :data:`DATASETS`.
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
    if name not in DATASETS:
        raise DataError(f"unknown dataset {name!r}: choose one of {', '.join(DATASETS)}")
    return DATASETS[name](name, colour, folder, scratch, log)


def _idx(name: str, colour: str, folder: Path | None, scratch: Path, log: Log) -> Images:
    from latent_atlas.data.sources import idx

    return idx.get(name, folder, scratch, log)


def _cifar(name: str, colour: str, folder: Path | None, scratch: Path, log: Log) -> Images:
    from latent_atlas.data.sources import cifar10 as cifar

    return cifar.get(name, colour, folder, scratch, log)


def _digits(name: str, colour: str, folder: Path | None, scratch: Path, log: Log) -> Images:
    from latent_atlas.data.sources import digits

    return digits.get(log)


DATASETS: dict[str, Callable[[str, str, Path | None, Path, Log], Images]] = {
    "FashionMNIST": _idx,
    "MNIST": _idx,
    "KMNIST": _idx,
    "CIFAR10": _cifar,
    "digits": _digits,
}

"""Where in a folder of the user's the files of a dataset lie: all of them in one place, and in one only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latent_atlas.data.sources import datasets, torchvision_names
from latent_atlas.errors import DataError


def place_of(name: str, folder: Path, missing: Callable[[Path], list[str]]) -> Path:
    """The folder with all files of a dataset: ``folder/NAME/raw``, ``folder/NAME``, ``folder``, or one below.

    Parameters
    ----------
    name : str
        Of the dataset. Folders below ``folder`` that are named after another one are left out.
    folder : Path
    missing : callable
        Which files a folder lacks.

    Raises
    ------
    DataError
        If there is none, or more than one below ``folder``.
    """
    if not folder.is_dir():
        raise DataError(f"dataset.folder: there is no folder {folder}: correct its name")
    direct = [folder / name / "raw", folder / name, folder]
    for place in direct:
        if not missing(place):
            return place
    others = {other.lower() for other in {*datasets(), *torchvision_names()} - {name}}
    below = [place for place in sorted(folder.rglob("*")) if place.is_dir()]
    foreign = [place for place in below if others & {part.lower() for part in place.relative_to(folder).parts}]
    found = [place for place in below if place not in foreign and not missing(place)]
    if len(found) > 1:
        raise DataError(f"{folder} holds {name} in {found[0]} and in {found[1]}: name one of them as dataset.folder")
    if found:
        return found[0]
    places = [folder, *(place for place in (*direct, *below) if place.is_dir() and place not in foreign)]
    nearest = min(places, key=lambda place: len(missing(place)))
    another = next((f"; {place} is of another dataset" for place in foreign if not missing(place)), "")
    raise DataError(
        f"{nearest} lacks {', '.join(missing(nearest))}: all files of {name} must lie in one folder{another}"
    )

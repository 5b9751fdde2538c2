"""Where datasets come from.

The modules in :data:`FORMS` read what a user names. Each other one serves the datasets that its ``DATASETS`` lists, by
its function ``get``.
"""

from __future__ import annotations

import functools
import glob
import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from latent_atlas.errors import DataError
from latent_atlas.imports import literal, modules

if TYPE_CHECKING:
    from latent_atlas.data.images import Images

Log = Callable[[str], None]
FOLDER = Path(__file__).parent
SPLIT = ("test_share", "seed")
TEST_SHARE, SEED = 0.1, 0  # where nothing is said
TORCHVISION = "torchvision_classes"
SHAPES = "shapes"  # figures whose factors are known
# By module: the keys that may stand beside the one that names a dataset. `limit` goes with all.
FORMS = {
    "folder": ("labels", "size", "crop", "colour", *SPLIT),
    "arrays": ("colour", *SPLIT),
    "function": ("options", "colour", *SPLIT),
    TORCHVISION: ("folder", "options", "size", "crop", "colour", *SPLIT),
    SHAPES: ("options", "size", "colour", *SPLIT),
}
BUILT_IN = ("colour", "folder")
KEYS = {"images": "folder", "arrays": "arrays", "function": "function", "name": TORCHVISION}
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".tga", ".jp2",
            ".avif", ".ico", ".pcx")  # fmt: skip
# Classes of torchvision that are no datasets, or for which there is another way here.
NO_DATASETS = {"DatasetFolder", "ImageFolder", "VisionDataset", "wrap_dataset_for_transforms_v2"}


class Dataset(NamedTuple):
    """What is known of a dataset before it is here; None for what is not.

    Attributes
    ----------
    source : str
        The module that serves it.
    train, test : int or None
        Numbers of images, or more.
    shape : (C, H, W) or None
        Of an image in colour, where the dataset has colours.
    """

    source: str
    train: int | None
    test: int | None
    shape: tuple[int, int, int] | None


def datasets() -> dict[str, Dataset]:
    """All built-in datasets by name, found without importing their modules."""
    return {
        name: Dataset(f"{__name__}.{module}", *known)
        for module in modules(FOLDER)
        if module not in FORMS or module == SHAPES
        for name, known in literal(FOLDER / f"{module}.py", "DATASETS").items()
    }


@functools.cache
def torchvision_names() -> frozenset[str]:
    """The classes of ``torchvision.datasets``, found without importing it; none where it is not installed."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return frozenset()
    return frozenset(literal(Path(found.origin).parent / "datasets" / "__init__.py", "__all__")) - NO_DATASETS


def named(wanted: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """The key that names a dataset, the module that serves it, and the keys that may stand beside it."""
    key = next(key for key in KEYS if wanted.get(key))
    if key == "name" and wanted["name"] in (known := datasets()):
        return key, known[wanted["name"]].source, FORMS.get(wanted["name"], BUILT_IN)
    return key, f"{__name__}.{KEYS[key]}", FORMS[KEYS[key]]


def expected(wanted: Mapping[str, Any]) -> Dataset:
    """What is known of a dataset before it is here.

    Parameters
    ----------
    wanted : mapping
        The section ``dataset`` of a study.

    Raises
    ------
    DataError
        If it is of figures that cannot be drawn.
    """
    key, source, _ = named(wanted)
    if wanted.get("name") == SHAPES:
        return Dataset(source, *importlib.import_module(source).planned(**wanted))
    if (known := datasets().get(wanted.get("name") or "")) is not None:
        return known._replace(shape=(1, *known.shape[1:])) if wanted.get("colour") == "grey" and known.shape else known
    shape, size = None, wanted.get("size")
    if size:
        shape = (1 if wanted.get("colour") == "grey" else 3, *((size, size) if isinstance(size, int) else size))
    if key == "images" and (files := len(matched(wanted["images"]))):
        share = TEST_SHARE if wanted.get("test_share") is None else wanted["test_share"]
        return Dataset(source, files - round(files * share), round(files * share), shape)
    return Dataset(source, None, None, shape)


def obtain(wanted: Mapping[str, Any], scratch: Path, log: Log = lambda line: None) -> Images:
    """The images of a dataset.

    Parameters
    ----------
    wanted : mapping
        The section ``dataset`` of a study: one of :data:`KEYS`, and what goes with it.
    scratch : Path
        A folder for downloads and for pixels that are not stored yet, which the caller removes.
    log : callable, optional
        Told which source is tried and what came of it.

    Raises
    ------
    DataError
        If it cannot be had.
    """
    key, module, beside = named(wanted)
    options = {name: wanted[name] for name in beside if wanted.get(name) is not None}
    if beside == BUILT_IN:
        folder = Path(options["folder"]).expanduser() if "folder" in options else None
        found = get(wanted["name"], options.get("colour"), folder, scratch, log)
    else:
        found = importlib.import_module(module).get(wanted[key], scratch=scratch, log=log, **options)
    return found.take(wanted.get("limit"))


def get(name: str, colour: str | None, folder: Path | None, scratch: Path, log: Log = lambda line: None) -> Images:
    """The images of a built-in dataset, from a folder of the user's or from the first public source that answers.

    Parameters
    ----------
    name : str
        A key of :func:`datasets`.
    colour : {"grey", "rgb"} or None
        What to make of a dataset in colour: None leaves it as it is. Grey ones are grey either way.
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


def matched(pattern: str) -> tuple[Path, ...]:
    """The files that a pattern matches, or the images in a folder and below it, by :data:`SUFFIXES`; sorted.

    Files and folders whose names begin with a dot are left out. ``**`` stands for any folders, also linked ones, but
    not for a link to a folder that it lies in.
    """
    place = Path(pattern).expanduser()
    if place.is_dir():
        found = _expanded(f"{glob.escape(str(place))}/**")
        return tuple(sorted(Path(file) for file in found if file.lower().endswith(SUFFIXES) and Path(file).is_file()))
    files = {str(place)} if place.is_file() else _expanded(str(place))
    return tuple(sorted(Path(file) for file in files if Path(file).is_file()))


def _expanded(pattern: str) -> set[str]:
    """What a pattern matches; :func:`glob.glob` would go round in a circle of links, forty times."""
    head, stars, tail = re.match(r"(?s)(.*?)(?:(?<![^/])(\*\*)(?:/+(.*))?)?\Z", pattern).groups()  # type: ignore[union-attr]
    if not stars:
        return set(glob.glob(pattern))  # noqa: PTH207
    tops = glob.glob(head) if head else [""]  # noqa: PTH207
    folders = (folder for top in tops for folder in _folders(top))
    return {file for folder in folders for file in _expanded(os.path.join(glob.escape(folder), tail or "*"))}  # noqa: PTH118


def _folders(top: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """A folder and all below it, but for hidden ones and for links to a folder that they lie in."""
    real = os.path.realpath(top or ".")
    if real in above:
        return
    yield top
    with suppress(OSError), os.scandir(top or ".") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.name.startswith(".") and entry.is_dir():
                yield from _folders(os.path.join(top, entry.name), (*above, real))  # noqa: PTH118


def base(pattern: str) -> Path:
    """The folder in which all files lie that a pattern may match."""
    place = Path(pattern).expanduser()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place

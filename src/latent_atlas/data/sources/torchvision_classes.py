"""Any dataset of torchvision whose items are an image and its class, by the name of its class."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from latent_atlas.data import torchvision_import
from latent_atlas.data.decoding import collect
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.data.sources.folder import pair
from latent_atlas.data.splits import divided
from latent_atlas.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

TESTS = ("test", "val", "valid")  # what splits for testing are called, the first one first


def get(
    name: str,
    scratch: Path,
    log: Log,
    folder: str | None = None,
    options: Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    crop: str | None = None,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """A dataset in its own two splits, or divided at random where it has none or ``options`` name one.

    Parameters
    ----------
    options : mapping, optional
        Further arguments of the class, such as ``{split: letters}`` for EMNIST.

    Raises
    ------
    DataError
        If it cannot be had, or its items are not an image and a class.
    """
    sets = _sets(getattr(torchvision_import.datasets(), name), name, scratch, folder, dict(options or {}), log)
    if len(sets) == 2 and (test_share is not None or seed is not None):
        raise DataError(f"{name} has splits of its own: leave out dataset.test_share and dataset.seed")
    labelled = _number(_item(name, sets[0], 0)[1]) is not None
    if not labelled:
        log(f"{name}: its targets are no numbers of classes, so its images have no labels")
    places = [(items, number) for items in sets for number in range(len(items))]

    def read(index: int) -> tuple[Image, int]:
        picture, target = _item(name, *places[index])
        return picture, _number(target) or 0

    names = [f"{name}/{number}" for _, number in places]
    found = collect(name, names, read, pair(size), crop, colour, scratch, log)
    labels = torch.tensor(found.labels)
    known = [str(word) for word in getattr(sets[0], "classes", ())] if labelled else ["unlabelled"]
    classes = known if int(labels.max()) < len(known) else [str(number) for number in range(int(labels.max()) + 1)]
    made = {"source": "torchvision", "options": dict(options or {})} | found.made
    if len(sets) == 1:
        return divided(name, lambda index: found.pixels[index], len(labels), found.pixels.shape[1:], labels, classes,
                       scratch, made, test_share, seed)  # fmt: skip
    count = sum(index < len(sets[0]) for index in found.kept)
    pixels = torch.from_numpy(found.pixels)
    if not 0 < count < len(labels):
        raise DataError(f"{name}: no image of one of its splits can be used; see the log, and set dataset.size")
    return Images(name, pixels[:count], labels[:count], pixels[count:], labels[count:], tuple(classes), made)


def _sets(
    kind: Any, name: str, scratch: Path, folder: str | None, options: dict[str, Any], log: Log
) -> tuple[Sequence[Any], ...]:
    """The splits for training and testing, or the whole set."""
    own = inspect.signature(kind.__init__).parameters
    accepted = {key for each in kind.__mro__ for key in inspect.signature(each.__init__).parameters}
    root = [Path(folder).expanduser() if folder else scratch] if "root" in own else []
    if "download" in accepted:
        options = {"download": folder is None} | options
    elif root and folder is None:
        raise DataError(f"torchvision cannot download {name}: name the folder with its files as dataset.folder")
    log(f"{name}: {f'reading {folder}' if folder else 'asking torchvision for it'}")

    def first_of(*words: str) -> Any:
        """The first split that the class has."""
        for word in words[:-1]:
            try:
                return kind(*root, **options, split=word)
            except ValueError:  # raised before anything is read
                continue
        return kind(*root, **options, split=words[-1])

    try:
        if "train" in accepted and "train" not in options:
            return tuple(kind(*root, **options, train=train) for train in (True, False))
        if "split" in own and "split" not in options:
            return first_of("train", str(own["split"].default)), first_of(*TESTS)
        return (kind(*root, **options),)
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        log(f"{name}: {type(error).__name__}: {error}")
        raise DataError(
            f"torchvision does not give {name} {f'from {folder}' if folder else 'here'}: see the log; its files belong "
            f"into the folder that dataset.folder names, as torchvision lays them out, and further arguments of the "
            f"class into dataset.options"
        ) from error


def _item(name: str, items: Any, number: int) -> tuple[Image, Any]:
    """An image and its target."""
    from PIL.Image import Image as Picture

    item = items[number]
    if not (isinstance(item, tuple) and len(item) >= 2 and isinstance(item[0], Picture)):
        raise DataError(f"dataset.name: the items of {name} are not an image and its class: choose another dataset")
    return item[0], item[1]


def _number(target: Any) -> int | None:
    """A target as the number of a class, if it is one."""
    try:
        return operator.index(target)
    except TypeError:
        return None

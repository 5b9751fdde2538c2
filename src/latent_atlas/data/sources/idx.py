"""The MNIST family: four IDX files, from a folder, a mirror or a Debian package."""

from __future__ import annotations

import functools
import gzip
import hashlib
import math
import shutil
import socket
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latent_atlas.data import torchvision_import
from latent_atlas.data.folders import place_of
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.errors import DataError
from latent_atlas.files import PART_BYTES

DATASETS = {  # training images, test images, shape
    "FashionMNIST": (60_000, 10_000, (1, 28, 28)),
    "MNIST": (60_000, 10_000, (1, 28, 28)),
    "KMNIST": (60_000, 10_000, (1, 28, 28)),
}
FILES = {
    "train": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
# MD5 of the uncompressed files: the compressed ones differ between distributions of the same data.
CHECKSUMS = {
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
}
DEBIAN_PACKAGES = {"FashionMNIST": ("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))}
TIMEOUT_S = 30
GZIP, MAGIC = b"\x1f\x8b", b"\x00\x00\x08"
DENSEST = 1100  # bytes that one packed byte can become
MOST_AXES = 3
LARGEST = 2**29  # bytes of a file of images, which are held in memory


class UnavailableError(Exception):
    """A source that cannot be had here; the next one may."""


def get(name: str, colour: str | None, folder: Path | None, scratch: Path, log: Log) -> Images:
    """Both splits of a dataset of the MNIST family; see :func:`latent_atlas.data.sources.get`."""
    if folder is not None:
        log(f"{name}: reading {folder}")
        return read_folder(name, folder, log)
    complaints = []
    for source, provide in _sources(name, scratch):
        log(f"{name}: trying {source}")
        try:
            images = read_folder(name, provide(), log)
        except (UnavailableError, DataError) as error:
            log(f"{name}: {source}: {error}")
            complaints.append(f"{source}: {error}")
        else:
            log(f"{name}: got it from {source}, checksums as expected")
            return images
    tried = "\n  ".join(complaints)
    raise DataError(
        f"no source delivered {name}:\n  {tried}\n"
        f"Put its four IDX files into a folder and name that folder as dataset.folder in params.yaml."
    )


def read_folder(name: str, folder: Path, log: Log) -> Images:
    """Read the four IDX files, plain or gzipped, of a dataset in a folder: see :func:`.folders.place_of`.

    Other numbers or sizes of images than the published ones are those of a set of the user's in the same format.

    Raises
    ------
    DataError
        If a file is missing, cut short, or its content is not what the checksum says; or if the two splits have images
        of two sizes, no images, or labels without a class.
    """
    place = place_of(name, folder, lambda place: [file for file in FILES.values() if not _named(place, file)])
    paths = {key: _path(place, file) for key, file in FILES.items()}
    contents = {key: _content(name, path, FILES[key]) for key, path in paths.items()}
    arrays = {key: parse(content, str(paths[key])) for key, content in contents.items()}
    train, test, (_, *size) = DATASETS[name]
    published = {"train": (train, *size), "train_labels": (train,), "test": (test, *size), "test_labels": (test,)}
    whole = all(tuple(arrays[key].shape) == shape for key, shape in published.items())
    if whole:
        for key, path in paths.items():
            _verify(name, path, FILES[key], contents[key])
    else:
        log(f"warning: {place} does not hold the {train} + {test} images of {name}: taken as a set of your own")
    classes = tuple(getattr(torchvision_import.datasets(), name).classes)
    for split in ("train", "test"):
        pixels, labels = arrays[split], arrays[f"{split}_labels"]
        if pixels.ndim != 3 or pixels.numel() == 0 or labels.ndim != 1:
            raise DataError(
                f"{paths[split]} and {paths[f'{split}_labels']} hold arrays of shape {tuple(pixels.shape)} and "
                f"{tuple(labels.shape)}: they must be N x H x W and N, with at least one image"
            )
        if len(pixels) != len(labels):
            raise DataError(
                f"{paths[split]} holds {len(pixels):,} images, but {paths[f'{split}_labels']} {len(labels):,} labels: "
                f"get both files from one source"
            )
        if int(labels.max()) >= len(classes):
            raise DataError(
                f"{paths[f'{split}_labels']} holds the label {int(labels.max())}, but {name} has {len(classes)} "
                f"classes, 0 to {len(classes) - 1}: is it of another dataset?"
            )
    if arrays["train"].shape[1:] != arrays["test"].shape[1:]:
        sizes = ["x".join(map(str, arrays[split].shape[1:])) for split in ("train", "test")]
        raise DataError(f"{place} mixes sizes: {sizes[0]} images for training, {sizes[1]} for testing; get it again")
    return Images(
        name=name,
        train=arrays["train"][:, None],  # N x 1 x H x W
        train_labels=arrays["train_labels"].long(),
        test=arrays["test"][:, None],
        test_labels=arrays["test_labels"].long(),
        classes=classes,
        made={"source": "published files" if whole else "files of the user's in the same format"},
    )


def _named(place: Path, file: str) -> list[Path]:
    """The files in a folder that may be one of a dataset: with a dot in the name, or packed; plain ones first."""
    names = [spelling + ending for ending in ("", ".gz") for spelling in (file, file.replace("-idx", ".idx"))]
    return [place / name for name in names if (place / name).is_file()]


def _path(place: Path, file: str) -> Path:
    first, *others = _named(place, file)
    if other := next((other for other in others if other.name.removesuffix(".gz") != first.name), None):
        raise DataError(f"{first} and {other} may both be the {file} of the dataset: remove one of them")
    for other in others:
        if _content(other.name, other, file) != _content(first.name, first, file):
            raise DataError(f"{first} and {other} hold different {file}: remove one of them")
    return first


def parse(content: bytearray, name: str) -> Tensor:
    """The uint8 array of an IDX file (http://yann.lecun.com/exdb/mnist describes the format)."""
    if len(content) < 4 or content[:3] != MAGIC:
        raise DataError(f"{name} is not an IDX file of bytes (it starts with {content[:4].hex() or 'nothing'})")
    rank = content[3]
    if not 1 <= rank <= MOST_AXES:
        raise DataError(f"{name} is an IDX file of rank {rank}: images have rank 3, labels have rank 1; get it again")
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{name} is cut short: its header alone takes {start} bytes, it has {len(content)}")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if (held := len(content) - start) != math.prod(shape):
        raise DataError(
            f"{name} announces {'x'.join(map(str, shape))} = {math.prod(shape)} bytes "
            f"but holds {f'{held} or more' if held > math.prod(shape) else held}: it is cut short or damaged"
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8)[start:].reshape(shape))


def _content(name: str, path: Path, file: str) -> bytearray:
    """The content of a file, unpacked if it is packed, whatever its name; a byte more than it announces at most."""
    stored = path.stat().st_size
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == GZIP
            plain.seek(0)
            with gzip.open(plain) if packed else plain as source:
                content = bytearray(source.read(4))
                axes = content[3] if content[:3] == MAGIC and len(content) == 4 else 0
                if 1 <= axes <= MOST_AXES:
                    content += source.read(4 * axes)
                    shape = struct.unpack(f">{axes}I", content[4:]) if len(content) == 4 + 4 * axes else (0,)
                    if math.prod(shape) > LARGEST and DENSEST * stored > LARGEST:
                        raise DataError(
                            f"{path} announces {math.prod(shape):,} bytes and at most {LARGEST:,} are read: name an "
                            f"array file as dataset.arrays, which need not fit in memory (docs/data.md)"
                        )
                    left = min(math.prod(shape), DENSEST * stored) + 1  # what gzip can pack, if the header lies
                    while left and (part := source.read(min(left, PART_BYTES))):
                        content += part
                        left -= len(part)
                return content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged or cut short ({error}): expected content of MD5 "
            f"{CHECKSUMS.get(name, {}).get(file, 'unknown')}, "
            f"found {stored} bytes of MD5 {hashlib.md5(path.read_bytes()).hexdigest()} that cannot be unpacked; "
            f"delete it and get it again"
        ) from error


def _verify(name: str, path: Path, file: str, content: bytearray) -> None:
    """Compare the checksum of a file's content, or of its archive, perhaps beside it, where only that is published."""
    found = hashlib.md5(content).hexdigest()
    expected = CHECKSUMS.get(name, {}).get(file)
    of = next(
        (f", that of {other}" for other, sums in CHECKSUMS.items() if other != name and found in sums.values()), ""
    )
    if expected is None and not of:
        archives = (one.read_bytes() for one in _named(path.parent, file))  # whose contents are equal
        stored = next((archive for archive in archives if archive.startswith(GZIP)), None)
        if stored is None:
            raise DataError(
                f"{path} cannot be verified, for only the checksum of {file}.gz is published: put that file into "
                f"{path.parent}"
            )
        expected = dict(getattr(torchvision_import.datasets(), name).resources)[f"{file}.gz"]
        found = hashlib.md5(stored).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the file that {name} consists of: expected MD5 {expected or 'unknown'}, found {found}{of}; "
            f"delete it and get it again"
        )


def _sources(name: str, scratch: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """The public sources of a dataset: what to call each, and how to bring its files into a folder."""
    dataset = getattr(torchvision_import.datasets(), name)
    for number, mirror in enumerate(dataset.mirrors):
        yield mirror, functools.partial(_download, mirror, scratch / f"mirror{number}")
    if name in DEBIAN_PACKAGES:
        package, installed = DEBIAN_PACKAGES[name]
        if installed.is_dir():
            yield f"installed Debian package {package}", lambda: installed
        yield f"Debian package {package}", functools.partial(_unpack_debian, package, scratch / "debian")


def _download(mirror: str, folder: Path) -> Path:
    from torchvision.datasets.utils import download_url

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        for file in FILES.values():
            download_url(mirror + file + ".gz", str(folder))
    except (OSError, RuntimeError) as error:
        raise UnavailableError(str(error)) from error
    finally:
        socket.setdefaulttimeout(before)
    return folder


def _unpack_debian(package: str, folder: Path) -> Path:
    """Download a package with apt's own client and unpack it, without root and without installing it."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"this system has no {tool}")
    lists, cache, tree = folder / "lists", folder / "cache", folder / "tree"
    for path in (lists / "partial", cache / "archives" / "partial", tree):
        path.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={lists.resolve()}", "-o", f"Dir::Cache={cache.resolve()}"]
    _run([*apt, "update"], folder)
    _run([*apt, "download", package], folder)
    archive = next(folder.glob(f"{package}_*.deb"), None)
    if archive is None:
        raise UnavailableError(f"apt-get brought no {package}")
    _run(["dpkg-deb", "-x", archive.name, tree.name], folder)
    return tree


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=600)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"{command[0]} failed: {last[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} did not finish in {error.timeout:.0f} s") from error

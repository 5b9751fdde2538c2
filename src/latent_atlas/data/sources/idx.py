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

import torch
from torch import Tensor

from latent_atlas.data import torchvision_import
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.errors import DataError

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
    }
}
DEBIAN_PACKAGES = {"FashionMNIST": ("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist"))}
TIMEOUT_S = 30


class UnavailableError(Exception):
    """A source that cannot be had here; the next one may."""


def get(name: str, colour: str, folder: Path | None, scratch: Path, log: Log) -> Images:
    """Both splits of a dataset of the MNIST family; see :func:`latent_atlas.data.sources.get`."""
    if folder is not None:
        log(f"{name}: reading {folder}")
        return read_folder(name, folder)
    complaints = []
    for source, provide in _sources(name, scratch):
        log(f"{name}: trying {source}")
        try:
            images = read_folder(name, provide())
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


def read_folder(name: str, folder: Path) -> Images:
    """Read the four IDX files, plain or gzipped, that lie in a folder or anywhere below it.

    Raises
    ------
    DataError
        If a file is missing, cut short, or its content is not what the checksum says.
    """
    if not folder.is_dir():
        raise DataError(f"dataset folder {folder} does not exist")
    tensors = {key: parse(_content(name, folder, file), file) for key, file in FILES.items()}
    return Images(
        name=name,
        train=tensors["train"][:, None],  # N x 1 x H x W
        train_labels=tensors["train_labels"].long(),
        test=tensors["test"][:, None],
        test_labels=tensors["test_labels"].long(),
        classes=tuple(getattr(torchvision_import.datasets(), name).classes),
    )


def parse(content: bytes, name: str) -> Tensor:
    """The uint8 array of an IDX file (http://yann.lecun.com/exdb/mnist describes the format)."""
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{name} is not an IDX file of bytes (it starts with {content[:4].hex() or 'nothing'})")
    rank = content[3]
    start = 4 + 4 * rank
    if len(content) < start:
        raise DataError(f"{name} is cut short: its header alone takes {start} bytes, it has {len(content)}")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{name} announces {'x'.join(map(str, shape))} = {math.prod(shape)} bytes "
            f"but holds {len(content) - start}: it is cut short or damaged"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)


def _content(name: str, folder: Path, file: str) -> bytes:
    """The verified, uncompressed content of one of a dataset's files below a folder."""
    path = next((p for ending in ("", ".gz") for p in sorted(folder.rglob(file + ending)) if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder} lacks {file} (or {file}.gz), which {name} consists of")
    stored = path.read_bytes()
    expected = CHECKSUMS.get(name, {}).get(file)
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(stored)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path} is damaged or cut short ({error}): expected content of MD5 {expected or 'unknown'}, "
                f"found {len(stored)} bytes of MD5 {hashlib.md5(stored).hexdigest()} that cannot be unpacked; "
                f"delete it and get it again"
            ) from error
    else:
        content = stored
    found = hashlib.md5(content).hexdigest()
    if expected is None and path.suffix == ".gz":  # then the publisher's checksum of the archive must do
        archives = dict(getattr(torchvision_import.datasets(), name).resources)
        expected, found = archives[f"{file}.gz"], hashlib.md5(stored).hexdigest()
    if expected is not None and found != expected:
        raise DataError(
            f"{path} is not the file that {name} consists of: expected MD5 {expected}, found {found}; "
            f"delete it and get it again"
        )
    return content


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

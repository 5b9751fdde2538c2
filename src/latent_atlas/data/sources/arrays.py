"""Arrays of the user's: images, and labels where there are any, in a file of numpy, torch or safetensors."""

from __future__ import annotations

import ast
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_atlas.data.images import Images, in_grey
from latent_atlas.data.sources import Log
from latent_atlas.data.splits import Part, divided, gathered, space
from latent_atlas.errors import DataError, OutputError
from latent_atlas.files import PART_BYTES, check_archive, check_regular, impostor

MAGIC = b"\x93NUMPY"
LARGEST_IMAGE = 2 * 10**7  # numbers
HEADER_BYTES = 2**14  # that the header of an array takes at most
PLAIN_KIND = re.compile(r"[<>|=]?(\?|[biufc]\d{1,2}|[SU][1-9]\d{0,5}|O)")  # numbers or words, as numpy names them
# What people call the parts of a dataset, and what they are called here.
NAMES = {
    "images": ("images", "x", "X", "data", "arr_0"),
    "labels": ("labels", "y", "Y", "targets", "arr_1"),
    "train": ("train", "x_train", "X_train", "train_images"),
    "train_labels": ("train_labels", "y_train", "Y_train"),
    "test": ("test", "x_test", "X_test", "test_images"),
    "test_labels": ("test_labels", "y_test", "Y_test"),
}


def get(
    arrays: str,
    scratch: Path,
    log: Log,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """Images in a .npz, .npy, .pt or .safetensors file; see :func:`from_arrays`.

    Raises
    ------
    DataError
        If the file cannot be read, or holds no images.
    """
    log(f"{arrays}: reading it")
    given = read(Path(arrays).expanduser(), scratch)
    return from_arrays(arrays, given, "arrays", scratch, log, colour, test_share, seed)


def read(path: Path, scratch: Path, what: str = "dataset.arrays") -> Any:
    """What a file holds: an array, a tuple or a mapping of them, mapped into memory but for legacy files of torch.

    Nothing in a file is run.

    Parameters
    ----------
    path : Path
        .npz, .npy, .pt or .safetensors.
    scratch : Path
        A folder for what is compressed in the file.
    what : str, optional
        The parameter that names the file.

    Raises
    ------
    DataError
        If it cannot be read, or is of another kind.
    """
    check_regular(path, DataError)
    try:
        with path.open("rb") as file:
            if told := impostor(head := file.read(512)):
                raise DataError(f"{what}: {path} {told}")
        match path.suffix.lower():
            case ".npy" if head[: len(MAGIC)] == MAGIC:
                with path.open("rb") as file:
                    shape, turned, numbers, begin = _header(file.read(HEADER_BYTES))
                if (announced := begin + math.prod(shape) * numbers.itemsize) != (held := path.stat().st_size):
                    raise ValueError(f"it announces {announced} bytes and holds {held}")
                return np.memmap(path, numbers, "r", begin, shape, "F" if turned else "C")
            case ".npy":
                raise ValueError("it does not begin as an array of numpy: save it by numpy.save, or rename it")
            case ".npz":
                return _members(path, scratch)
            case ".pt" | ".pth":
                if head[:4] == b"PK\x03\x04":
                    check_archive(path)
                try:
                    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                except RuntimeError:  # a legacy file, which cannot be mapped
                    return torch.load(path, map_location="cpu", weights_only=True)
            case ".safetensors":
                from safetensors import safe_open

                with safe_open(path, framework="pt") as file:
                    return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            case ending:
                raise DataError(f"{what}: {path} ends in {ending!r}, not in .npz, .npy, .pt or .safetensors")
    except (DataError, OutputError):
        raise
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{what}: {path} holds more than tensors, and reading it could run foreign code: save the tensors alone"
        ) from error
    except Exception as error:  # each library raises its own
        first = str(error).partition("\n")[0]
        raise DataError(f"{what}: {path} cannot be read ({type(error).__name__}: {first})") from error


def _members(path: Path, scratch: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name: mapped where they lie in it, or unpacked into ``scratch`` part by part."""
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset + 26)  # where the lengths of its name and its extra field stand
            start = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
            stored = member.compress_type == zipfile.ZIP_STORED
            size = (member.file_size,)
            with archive.open(member) as content:
                part = content.read(HEADER_BYTES)
                if part[:6] != MAGIC:  # it is no array, such as a text beside them
                    continue
                shape, turned, kind, filled = _header(part)
                if (announced := filled + math.prod(shape) * kind.itemsize) != member.file_size:
                    raise ValueError(f"{member.filename} announces {announced} bytes and holds {member.file_size}")
                raw = np.memmap(path, np.uint8, "r", start, size) if stored else space(size, scratch)
                first, filled = filled, 0
                while part:  # to the end, where its checksum is compared
                    if not stored:
                        raw[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
                    filled += len(part)
                    part = content.read(PART_BYTES)
            array = np.ndarray(shape, kind, raw, first, order="F" if turned else "C")
            found[member.filename.removesuffix(".npy")] = array
    return found


def unusual_kind(tensor: Tensor) -> str | None:
    """What a tensor is, if it does not hold each of its numbers by itself."""
    if tensor.is_meta:
        return "without numbers (meta)"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    repeated = tensor.numel() and any(
        size > 1 and not stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return "made of repeated numbers" if repeated else None


def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether the first axis varies fastest, kind of numbers, length of the header: by the first bytes.

    It is read here, not by numpy, which makes a type of any text: some texts end the process there.
    """
    if start[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError(f"it is of version {'.'.join(map(str, start[6:8]))} of numpy's format: save it by numpy.save")
    form = "<H" if start[6] == 1 else "<I"
    begin = 8 + struct.calcsize(form)
    (filled,) = struct.unpack(form, start[8:begin])
    if len(start) < begin + filled:
        raise ValueError(f"its header of {filled:,} bytes is cut short or too long")
    match ast.literal_eval(start[begin : begin + filled].decode("latin-1")):
        case {"descr": str(text), "fortran_order": bool(turned), "shape": tuple(shape), **others} if not others:
            pass
        case {"descr": list() | tuple()}:
            raise ValueError("it holds no single numbers or words, but records of several")
        case _:
            raise ValueError("its header is not that of an array")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"its shape is {str(shape)[:40]}, not of whole numbers")
    if not PLAIN_KIND.fullmatch(text):
        raise ValueError(f"it holds {text[:40]!r}: save numbers or words")
    kind = np.dtype(text)
    if kind.hasobject:
        raise ValueError("it holds objects, which only a pickle could bring back: save numbers or words")
    return shape, turned, kind, begin + filled


def from_arrays(
    name: str,
    given: Any,
    source: str,
    scratch: Path,
    log: Log,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """A dataset of arrays or tensors, divided at random unless they are divided already.

    Parameters
    ----------
    name : str
    given : array, (array, labels), or mapping
        A mapping holds ``images`` and perhaps ``labels``; or ``train``, ``test`` and perhaps ``train_labels`` and
        ``test_labels``; see :data:`NAMES` for other names. Images are N x H x W, N x H x W x C or N x C x H x W with
        one channel or three, uint8 or floats in [0, 1], which are rounded to 1/255. Labels are whole numbers or words.
    source : str
        The key of ``dataset`` that names them.
    scratch : Path
        A folder for the pixels.
    log : callable
    colour : {"grey", "rgb"}, optional
        "grey" makes images in colour grey; else they stay as they are.
    test_share, seed : optional
        See :func:`.splits.divided`.

    Raises
    ------
    DataError
        If it is something else.
    """
    found = _parts(name, given, source, log)
    names: list[str] = [key for key in ("images", "train", "test") if key in found]
    made: dict[str, Any] = {"source": source}
    layouts = {key: _layout(f"{name}: {key}", found[key], colour) for key in names}
    shapes = {key: shape for key, (_, shape) in layouts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{name}: images of two shapes, {shapes['train']} for training and {shapes['test']} for testing"
        )
    if any(str(found[key].dtype).rpartition(".")[2] != "uint8" for key in names):
        made["rounded"] = "floats to 1/255"
        log(f"{name}: floats are rounded to 1/255")
    shape = shapes[names[0]]
    classes, labels = _labels(name, found, names)
    if names == ["images"]:
        part, count = layouts["images"][0], len(found["images"])
        return divided(name, part, count, shape, labels.get("images"), classes, scratch, made, test_share, seed)
    if test_share is not None or seed is not None:
        raise DataError(f"{name} is divided into train and test already: leave out dataset.test_share and dataset.seed")
    pixels = {key: gathered(part, np.arange(len(found[key])), shape, scratch) for key, (part, _) in layouts.items()}
    return Images(
        name,
        pixels["train"],
        labels.get("train", torch.zeros(len(pixels["train"]), dtype=torch.int64)),
        pixels["test"],
        labels.get("test", torch.zeros(len(pixels["test"]), dtype=torch.int64)),
        tuple(classes),
        made,
    )


def _parts(name: str, given: Any, source: str, log: Log) -> dict[str, Any]:
    """The arrays by the names that they have here."""
    if isinstance(given, tuple | list) and len(given) == 2:
        given = dict(zip(("images", "labels"), given, strict=True))
    if not isinstance(given, Mapping):
        given = {"images": given}
    found, taken = {}, set()
    for ours, theirs in NAMES.items():
        for word in theirs:
            if word in given and ours not in found:
                found[ours] = given[word]
                taken.add(word)
    if not found and len(given) == 1:
        found, taken = {"images": next(iter(given.values()))}, set(given)
    if ("images" in found) == bool({"train", "test"} & set(found)) or len({"train", "test"} & set(found)) == 1:
        raise DataError(
            f"dataset.{source}: {name} holds {', '.join(map(str, given)) or 'nothing'}; it must hold images (and "
            f"labels), or train and test (and train_labels and test_labels)"
        )
    if left := [str(key) for key in given if key not in taken]:
        log(f"{name}: not used: {', '.join(left)}")
    for key, value in found.items():
        if not isinstance(value, np.ndarray | Tensor):
            try:
                found[key] = np.asarray(value)
            except ValueError as error:
                raise DataError(f"{name}: {key} is no array, but {type(value).__name__} ({error})") from error
        if isinstance(value, Tensor):
            if unusual := unusual_kind(value):
                raise DataError(
                    f"{name}: {key} is a tensor that is {unusual}: save the dense one, each number by itself"
                )
            found[key] = value.detach().cpu()
        elif found[key].dtype.hasobject:
            raise DataError(
                f"{name}: {key} is no array, but {type(value).__name__}; needed: an array, a pair of images and "
                f"labels, or a mapping of them (docs/data.md)"
            )
    return found


def _layout(what: str, array: Any, colour: str | None) -> tuple[Part, tuple[int, int, int]]:
    """How to take uint8 images (n, C, H, W) out of an array, and the shape of one."""
    shape, kind = tuple(array.shape), str(getattr(array.dtype, "name", array.dtype)).rpartition(".")[2]
    if not (kind in ("uint8", "bool") or kind.startswith(("float", "bfloat"))):
        raise DataError(f"{what} are of type {kind}, not uint8 or floats in [0, 1]: convert them")
    first, last = (len(shape) == 4 and shape[axis] in (1, 3) for axis in (1, 3))
    if 0 in shape or len(shape) not in (3, 4) or (len(shape) == 4 and first == last):
        reason = "it is unclear which of them is C" if first and last else "C is 1 or 3, and nothing may be empty"
        given = " x ".join(map(str, shape))
        raise DataError(f"{what} are of shape {given}, not N x H x W, N x H x W x C or N x C x H x W: {reason}")
    if (numbers := math.prod(shape[1:])) > LARGEST_IMAGE:
        raise DataError(
            f"{what} have {numbers:,} numbers each, and at most {LARGEST_IMAGE:,} are read: make them smaller"
        )
    channels, height, width = (1, *shape[1:]) if len(shape) == 3 else shape[1:] if first else (shape[3], *shape[1:3])
    grey = colour == "grey" and channels == 3

    def part(index: np.ndarray) -> np.ndarray:
        # A consecutive range is a slice, which does not jump about in a file.
        chosen = array[torch.from_numpy(index)] if isinstance(array, Tensor) else array[index]
        if not isinstance(chosen, Tensor):  # numpy has floats that torch has not
            chosen = torch.from_numpy(np.ascontiguousarray(chosen, np.float64 if kind.startswith("float") else None))
        pixels = chosen
        if pixels.ndim == 3:
            pixels = pixels[:, None]  # n x 1 x H x W
        elif last:
            pixels = pixels.permute(0, 3, 1, 2)  # n x C x H x W
        if pixels.dtype != torch.uint8:
            pixels = pixels.double()
            if pixels.isnan().any():
                raise DataError(f"{what} hold numbers that are NaN: mend or leave out these images")
            if not (pixels.min() >= 0 and pixels.max() <= 1):
                raise DataError(
                    f"{what} as floats must lie in [0, 1]; these go from {pixels.min():g} to {pixels.max():g}: "
                    f"divide by the largest value that is possible"
                )
            pixels = pixels.mul(255).round().to(torch.uint8)
        return (in_grey(pixels) if grey else pixels).numpy()

    return part, (1 if grey else channels, height, width)


def _labels(name: str, found: Mapping[str, Any], names: list[str]) -> tuple[list[str], dict[str, Tensor]]:
    """Classes, and by part the labels as indices into them; empty where there are none."""
    keys = {part: "labels" if part == "images" else f"{part}_labels" for part in names}
    here = [part for part in names if keys[part] in found]
    if not here:
        return ["unlabelled"], {}
    if here != names:
        raise DataError(f"{name} has {keys[here[0]]}, but no labels of the other split: add them, or leave out both")
    columns = []
    for part in names:
        values, count = found[keys[part]], len(found[part])
        if isinstance(values, Tensor) and values.is_floating_point():  # numpy has not all of torch's
            values = values.double()
        values = np.asarray(values)
        if values.shape not in ((count,), (count, 1)) or values.dtype.kind not in "iubUS":
            raise DataError(
                f"{name}: {keys[part]} are {values.dtype} of shape {values.shape}; they must be whole numbers or "
                f"words, one for each of {count} images"
            )
        columns.append(values.reshape(count))
    classes, numbers = np.unique(np.concatenate(columns), return_inverse=True)
    parts = torch.from_numpy(numbers.astype(np.int64)).split([len(column) for column in columns])
    try:
        words = [value.decode() if isinstance(value, bytes) else str(value) for value in classes.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: labels are bytes that are no UTF-8 ({error}): save them as words") from error
    return words, dict(zip(names, parts, strict=True))

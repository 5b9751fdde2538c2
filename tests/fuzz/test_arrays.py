"""Files of arrays that are damaged, lie or hold something else: refused, or the numbers are those of the file."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import Change, Tally, damage, damaged, no_files, quick
from hypothesis import example, given
from hypothesis import strategies as some
from safetensors.torch import load, save

from latent_atlas.data import sources
from latent_atlas.data.images import Images

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (9, 5, 6), dtype=np.uint8)  # N x H x W
LABELS = DRAW.integers(0, 4, 9)
FLOATS = PIXELS / 255
BOTH: dict[str, Any] = {"images": PIXELS, "labels": LABELS}


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def npy(array: Any) -> bytes:
    return written(lambda file: np.save(file, array, allow_pickle=True))


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    return written(lambda file: (np.savez_compressed if compressed else np.savez)(file, **arrays))


def pt(content: Any, old: bool = False) -> bytes:
    return written(lambda file: torch.save(content, file, _use_new_zipfile_serialization=not old))


TENSORS = {name: torch.from_numpy(array) for name, array in BOTH.items()}
GOOD = {
    "a.npy": npy(PIXELS),
    "float.npy": npy(FLOATS),
    "fortran.npy": npy(np.asfortranarray(FLOATS)),
    "swapped.npy": npy(FLOATS.astype(">f8")),
    "half.npy": npy(FLOATS.astype(np.float16)),
    "wide.npy": npy(FLOATS.astype(np.longdouble)),
    "a.npz": npz(**BOTH),
    "packed.npz": npz(True, **BOTH),
    "words.npz": npz(images=PIXELS, labels=LABELS.astype("U3")),
    "split.npz": npz(train=PIXELS[:6], test=PIXELS[6:], y_train=LABELS[:6].astype(">i4"), y_test=LABELS[6:]),
    "a.pt": pt(TENSORS),
    "old.pt": pt(TENSORS, old=True),
    "pair.pth": pt((TENSORS["images"], TENSORS["labels"])),
    "a.safetensors": save(TENSORS),
}


def plainly(name: str, content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file as each library reads it whole."""
    file = io.BytesIO(content)
    if name.endswith(".safetensors"):
        found: Any = load(content)
    elif name.endswith((".pt", ".pth")):
        found = torch.load(file, weights_only=True)
    elif name.endswith(".npz"):
        with zipfile.ZipFile(file) as archive:
            arrays = {each.removesuffix(".npy"): archive.read(each) for each in archive.namelist()}
        found = {each: np.load(io.BytesIO(raw)) for each, raw in arrays.items() if raw[:6] == b"\x93NUMPY"}
    else:
        found = np.load(file, allow_pickle=False)
    if isinstance(found, tuple | list) and len(found) == 2:
        found = {"images": found[0], "labels": found[1]}
    if isinstance(found, torch.Tensor):
        found = {"images": found}
    if isinstance(found, dict):
        found = {
            key: value.detach().double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for key, value in found.items()
        }
    return {key: np.asarray(value) for key, value in (found if isinstance(found, dict) else {"images": found}).items()}


def as_bytes(images: np.ndarray) -> list[bytes]:
    """Each image as uint8, whatever the layout: its values in order."""
    if images.dtype.kind == "f":
        images = np.rint(images.astype(np.float64) * 255)
    return [np.sort(image.astype(np.uint8), None).tobytes() for image in images]


def tried(tally: Tally, folder: Path, name: str, content: bytes) -> str | None:
    path = folder / name
    path.write_bytes(content)

    def same(found: Images) -> None:
        said = plainly(name, content)
        usual: list[str] = [key for key in ("images", "x", "X", "data", "arr_0", "train") if key in said] or list(said)
        keys = ["train", "test"] if usual[0] == "train" else usual[:1]
        wanted = [image for key in keys if key in said for image in as_bytes(said[key])]
        stored = [image for split in ("train", "test") for image in as_bytes(found.pixels(split).numpy())]
        assert sorted(stored) == sorted(wanted)

    return tally.case(
        lambda: sources.obtain({"arrays": str(path), "test_share": None if "split" in name else 0.3}, folder),
        same,
        [str(path)],
    )


@quick(250)
@given(name=some.sampled_from(sorted(GOOD)), changes=damage())
@example(name="half.npy", changes=[("flip", 0.125, 127, b"\0")])  # a space becomes one that numpy does not take
@example(name="pair.pth", changes=[("flip", 0.4921875, 0, b"\0")])  # a header that torch does not look at
def test_damaged(name: str, changes: list[Change], tmp_path: Path, tally: Tally) -> None:
    tried(tally, tmp_path, name, damaged(GOOD[name], changes))


def test_whole_under_each_name(tmp_path: Path, tally: Tally) -> None:
    for name, content in GOOD.items():
        assert tried(tally, tmp_path, name, content) is None, name
        for ending in (".npy", ".npz", ".pt", ".pth", ".safetensors", ".txt", ""):
            tried(tally, tmp_path, f"renamed{ending}", content)


SIZES = some.lists(some.sampled_from([0, 1, 3, 9, 2**16, 2**31, 2**40, 2**62, 2**64, -1]), max_size=5)
KINDS = some.sampled_from(
    ["|u1", "<f4", ">f4", "<f8", "<i8", "<c16", "|b1", "|O", "<U3", "<U0", "|V0", "|S0", "<M8[s]", "<f2",
     "[('a', '<f4')]", "|u1|", "<M8[s/0]", "(0,)u1"]
)  # fmt: skip
HEADERS = some.tuples(SIZES, KINDS, some.booleans(), some.integers(0, 600), some.sampled_from([1, 2, 3, 9]))
FEWER = ([3, 5, 6], "|u1", False, 270, 1)  # than are held
ENDS_NUMPY = ([3, 5, 6], "<M8[s/0]", False, 720, 1)  # by a division by zero
NO_BYTES = ([9, 2**62], "<U0", False, 0, 1)  # words of no letters, as many as one likes


@quick(150)
@given(header=HEADERS, packed=some.sampled_from([None, False, True]), name=some.sampled_from(["images", "labels", "x"]))
@example(header=FEWER, packed=None, name="images")
@example(header=FEWER, packed=False, name="images")
@example(header=ENDS_NUMPY, packed=None, name="images")
@example(header=ENDS_NUMPY, packed=True, name="labels")
@example(header=NO_BYTES, packed=False, name="x")
def test_headers_that_lie(header: Any, packed: bool | None, name: str, tmp_path: Path, tally: Tally) -> None:
    shape, kind, turned, held, version = header
    text = str({"descr": kind, "fortran_order": turned, "shape": tuple(shape)}).encode() + b"\n"
    if kind.startswith("["):
        text = text.replace(b'"', b"")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    content = b"\x93NUMPY" + bytes([version, 0]) + size + text + bytes(held)
    if packed is None:
        tried(tally, tmp_path, "x.npy", content)
    else:
        with zipfile.ZipFile(tmp_path / "made", "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
            archive.writestr("images.npy", npy(PIXELS))
            archive.writestr(f"{name}.npy", content)
        tried(tally, tmp_path, "x.npz", (tmp_path / "made").read_bytes())


def test_header_of_fewer_than_are_held(tmp_path: Path, tally: Tally) -> None:
    content = GOOD["a.npy"].replace(b"(9, 5, 6)", b"(3, 5, 6)")
    assert "holds" in str(tried(tally, tmp_path, "x.npy", content))


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def strange(folder: Path) -> dict[str, bytes]:
    """Files that are what they say and no images."""
    runs, one = Runs(folder), torch.zeros(1)
    tensors: dict[str, Any] = {
        "quantized": torch.quantize_per_tensor(torch.rand(4, 5, 6), 0.1, 0, torch.quint8),
        "sparse": torch.eye(6).to_sparse(), "meta": torch.empty(9, 5, 6, device="meta"),
        "complex": torch.zeros(4, 5, 6, dtype=torch.complex64), "bfloat16": torch.rand(4, 5, 6).bfloat16(),
        "float8": torch.rand(4, 5, 6).to(torch.float8_e4m3fn), "nan": torch.full((4, 5, 6), torch.nan),
        "inf": torch.full((4, 5, 6), torch.inf), "int": torch.ones(4, 5, 6, dtype=torch.int32),
        "repeated": one.expand(10**9, 5, 6), "wide": one.expand(4, 10**6, 10**6), "scalar": one[0], "none": None,
        "nested": {"images": {"images": TENSORS["images"]}}, "text": "images", "list": [1, [2, 3]], "empty": {},
        "numbers": {1: TENSORS["images"]}, "parameter": torch.nn.Parameter(torch.rand(4, 5, 6)), "big": 10**4000,
        "labels8": {"images": TENSORS["images"], "labels": torch.zeros(9).bfloat16()},
        "labels_meta": {"images": TENSORS["images"], "labels": torch.zeros(9, device="meta")},
        "labels_none": {"images": TENSORS["images"], "labels": None},
        "labels_words": {"images": TENSORS["images"], "labels": ["a"] * 9},
        "labels_many": {"images": TENSORS["images"], "labels": torch.zeros(1, dtype=torch.int64).expand(10**12)},
        "deep": [[[[[[[[TENSORS["images"]]]]]]]], 1],
    }  # fmt: skip
    found = {f"{name}.pt": pt(tensor) for name, tensor in tensors.items()}
    found |= {f"{name}_old.pt": pt(tensor, old=True) for name, tensor in tensors.items() if name != "meta"}
    found |= {"runs.pt": pt({"images": runs}), "runs_old.pt": pt({"images": runs}, old=True)}
    found |= {"runs.npy": npy(np.array([runs], object)), "runs.npz": npz(images=np.array([runs], object)),
              "pickle.npy": pickle.dumps(runs), "pickle.pt": pickle.dumps(runs), "pickle.npz": pickle.dumps(runs),
              "bytes.pt": b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."}  # fmt: skip
    objects = np.array([{"a": 1}] * 9, object)
    found |= {"objects.npy": npy(objects), "objects.npz": npz(images=PIXELS, labels=objects), "empty.npz": npz(),
              "void.npy": npy(np.zeros(9, [("a", "f4")])), "dates.npz": npz(images=PIXELS, labels=np.zeros(9, "M8[s]")),
              "huge.npz": npz(True, images=np.zeros((3, 6000, 6000), np.float32)),
              "nan_labels.npz": npz(images=PIXELS, labels=np.full(9, np.nan)),
              "bytes.npz": npz(images=PIXELS, labels=np.array([b"\xff"] * 9))}  # fmt: skip
    header = b'{"images":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,1]}}'
    found |= {"lies.safetensors": struct.pack("<Q", len(header)) + header + b"\0",
              "long.safetensors": struct.pack("<Q", 2**62) + header,
              "deep.safetensors": struct.pack("<Q", 10**6) + b"{" * 10**6,
              "zero.safetensors": save({"images": torch.zeros(0, 5, 6)})}  # fmt: skip
    return found


def test_strange(tmp_path: Path, tally: Tally) -> None:
    for name, content in strange(tmp_path / "ran").items():
        tried(tally, tmp_path, name, content)
        assert not (tmp_path / "ran").exists(), name


def test_no_files(tmp_path: Path, tally: Tally) -> None:
    for ending in (".npy", ".npz", ".pt", ".safetensors"):
        for path in no_files(tmp_path, ending):
            assert tally.case(
                functools.partial(sources.obtain, {"arrays": str(path)}, tmp_path), lambda found: None, [str(path)]
            )


@pytest.mark.parametrize("name", sorted(GOOD))
def test_each_cut(name: str, tmp_path: Path, tally: Tally) -> None:
    """Without its last bytes no file is read."""
    for less in (1, 2, 7, 16, len(GOOD[name]) // 2, len(GOOD[name]) - 1, len(GOOD[name])):
        assert tried(tally, tmp_path, name, GOOD[name][: len(GOOD[name]) - less]), less

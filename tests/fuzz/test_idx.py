"""IDX files, plain and packed, that are damaged, lie or are none: refused, or read as they say."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from fuzzing import Change, Tally, damage, damaged, quick
from hypothesis import example, given
from hypothesis import strategies as some

from latent_atlas.data import sources
from latent_atlas.data.images import Images
from latent_atlas.data.sources.idx import FILES

DRAW = np.random.default_rng(0)
ARRAYS = {
    "train": DRAW.integers(0, 256, (7, 5, 6), dtype=np.uint8),
    "train_labels": DRAW.integers(0, 10, 7, dtype=np.uint8),
    "test": DRAW.integers(0, 256, (3, 5, 6), dtype=np.uint8),
    "test_labels": DRAW.integers(0, 10, 3, dtype=np.uint8),
}


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def announced(*shape: int, rank: int | None = None) -> bytes:
    """A header alone."""
    return bytes([0, 0, 8, len(shape) if rank is None else rank]) + struct.pack(f">{len(shape)}I", *shape)


def plainly(content: bytes) -> np.ndarray:
    """An IDX file as its description says, read in the plainest way."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    rank = content[3]
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content[4 + 4 * rank :], np.uint8).reshape(shape)


class Folder:
    """Four files of which one is to be tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.folder.mkdir()
        for part, array in ARRAYS.items():
            (self.folder / FILES[part]).write_bytes(idx(array))

    def read(self) -> Images:
        wanted = {"name": "FashionMNIST", "folder": str(self.folder)}
        return sources.obtain(wanted, self.folder.parent)

    def tried(self, tally: Tally, part: str, content: bytes, ending: str = "") -> str | None:
        good, path = self.folder / FILES[part], self.folder / f"{FILES[part]}{ending}"
        good.unlink()
        path.write_bytes(content)

        def same(found: Images) -> None:
            for name, array in ARRAYS.items():
                stored = getattr(found, name).numpy()
                assert np.array_equal(
                    stored.reshape(array.shape if name != part else -1),
                    array if name != part else plainly(content).reshape(-1),
                )

        try:
            return tally.case(self.read, same, [self.folder])
        finally:
            path.unlink()
            good.write_bytes(idx(ARRAYS[part]))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


PARTS, PACKED = some.sampled_from(sorted(ARRAYS)), some.sampled_from(["", ".gz"])


@quick(150)
@given(part=PARTS, changes=damage(), ending=PACKED, packed=some.booleans())
@example(part="train", changes=[("set", 3 / 226, 0, b"\0")], ending="", packed=False)  # of rank 0
def test_damaged(part: str, changes: list[Change], ending: str, packed: bool, folder: Folder, tally: Tally) -> None:
    content = idx(ARRAYS[part])
    folder.tried(tally, part, damaged(gzip.compress(content) if packed else content, changes), ending)


@quick(80)
@given(part=PARTS, changes=damage(), cut=some.integers(0, 30))
def test_damaged_before_packing(part: str, changes: list[Change], cut: int, folder: Folder, tally: Tally) -> None:
    content = gzip.compress(damaged(idx(ARRAYS[part]), changes))
    folder.tried(tally, part, content[: len(content) - max(0, cut - 20)], ".gz")


@quick(60)
@given(
    part=PARTS, shape=some.lists(some.sampled_from([0, 1, 3, 7, 255, 2**16, 2**31, 2**32 - 1]), max_size=5),
    rank=some.none() | some.integers(0, 255), kind=some.sampled_from([8, 9, 11, 12, 13, 14, 0, 255]),
    held=some.integers(0, 300), packed=some.booleans(),
)  # fmt: skip
@example(part="test_labels", shape=[0], rank=None, kind=8, held=0, packed=False)  # no labels
def test_headers_that_lie(
    part: str, shape: list[int], rank: int | None, kind: int, held: int, packed: bool, folder: Folder, tally: Tally
) -> None:
    content = announced(*shape, rank=rank)[:2] + bytes([kind]) + announced(*shape, rank=rank)[3:] + bytes(held)
    folder.tried(tally, part, gzip.compress(content) if packed else content)


def test_bombs(folder: Folder, tally: Tally) -> None:
    """What unpacks to much more than is announced, or announces that much."""
    zeros = gzip.compress(bytes(2**29 + 2**27))
    for shape in ((7, 5, 6), (2**15 + 2**10, 2**7, 2**7), (2**31, 1, 1), (2**32 - 1,) * 3):
        content = gzip.compress(announced(*shape)) + zeros  # a second member
        message = folder.tried(tally, "train", content, ".gz")
        assert message


def test_no_files(folder: Folder, tally: Tally, tmp_path: Path) -> None:
    good = folder.folder / FILES["train"]
    for make in (
        lambda: os.mkfifo(good),
        lambda: good.symlink_to("/dev/zero"),
        lambda: good.symlink_to(good),
        lambda: good.mkdir(),
        lambda: good.touch(),
    ):
        good.unlink()
        make()
        assert tally.case(folder.read, lambda found: None, [folder.folder])
        good.rmdir() if good.is_dir() and not good.is_symlink() else None
        good.touch() if not os.path.lexists(good) else None

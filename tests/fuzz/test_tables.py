"""Tables of labels that are damaged or strange: refused, or each picture has the label of its row."""

from __future__ import annotations

import csv
import functools
import io
import os
from pathlib import Path

import numpy as np
import pytest
from fuzzing import Change, Tally, damage, damaged, quick
from hypothesis import example, given
from hypothesis import strategies as some
from PIL import Image

from latent_atlas.data import sources
from latent_atlas.data.images import Images

NAMES = [f"{letter}.png" for letter in "abcdef"]
TABLE = "file,label\n" + "".join(f"{name},{number % 2}\n" for number, name in enumerate(NAMES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / name)
    return tmp_path


def rows(content: bytes) -> dict[int, str]:
    """The label of each picture by the plain rules of CSV, by its grey value."""
    text = content.decode("utf-8-sig")
    head, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if line]
    keys = [key.strip().lower() for key in head]
    file, label = keys.index("file"), keys.index("label")
    found = {}
    for line in lines:
        name = line[file].strip().replace("\\", "/").rpartition("./")[2]
        if name in NAMES:
            found[NAMES.index(name)] = line[label].strip()
    return found


def tried(tally: Tally, folder: Path, content: bytes) -> str | None:
    table = folder / "labels.csv"
    table.write_bytes(content)
    wanted = {"images": str(folder), "labels": str(table), "test_share": 0.4}

    def same(found: Images) -> None:
        said = rows(content)
        for split in ("train", "test"):
            for pixels, label in zip(found.pixels(split), found.labels(split).tolist(), strict=True):
                assert found.classes[label] == said[int(pixels[0, 0, 0])]

    return tally.case(lambda: sources.obtain(wanted, folder), same, [str(table)])


@quick(150)
@given(changes=damage())
@example(changes=[("set", 0.2, 0, b"\0")])
@example(changes=[("set", 0.2, 0, b'"')])
@example(changes=[("set", 0.2, 0, b"\r")])
def test_damaged(changes: list[Change], folder: Path, tally: Tally) -> None:
    tried(tally, folder, damaged(TABLE.encode(), changes))


CELLS = some.text(max_size=12) | some.sampled_from(
    [*NAMES, "", "0", "NA", "nan", "None", "1e5", "01", "1.0", " a.png", "./b.png", ".\\c.png", "x" * 5000, "../../x",
     "file"]
)  # fmt: skip


@quick(120)
@given(
    head=some.permutations(["file", "label"]) | some.lists(CELLS, max_size=4) | some.just([" File", "LABEL ", "file"]),
    lines=some.lists(some.lists(CELLS, max_size=4), max_size=8),
    separator=some.sampled_from([",", ";", "\t"]), ending=some.sampled_from(["\n", "\r\n", "\r"]),
    encoding=some.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)  # fmt: skip
def test_any_table(
    head: list[str], lines: list[list[str]], separator: str, ending: str, encoding: str, folder: Path, tally: Tally
) -> None:
    file = io.StringIO(newline="")
    write = csv.writer(file, delimiter=separator, lineterminator=ending)
    good = [
        [name, str(number % 2)] if head[:1] == ["file"] else [str(number % 2), name]
        for number, name in enumerate(NAMES)
    ]
    write.writerows([head, *good, *lines])
    tried(tally, folder, file.getvalue().encode(encoding, "replace"))


@quick(40)
@given(content=some.binary(max_size=200))
def test_any_bytes(content: bytes, folder: Path, tally: Tally) -> None:
    tried(tally, folder, content)


def test_large(folder: Path, tally: Tally) -> None:
    for content in (
        b"file,label\n" + b"a.png,1\n" * 30_000,
        b"file,label\n" + b"," * 5_000_000,
        b'file,label\n"' + b"x" * 5_000_000,
        b"file,label\n" + b"\n" * 5_000_000,
        b"a," * 200_000 + b"\n",
    ):
        assert tried(tally, folder, content)


def test_no_files(folder: Path, tally: Tally) -> None:
    os.mkfifo(folder / "pipe.csv")
    (folder / "loop.csv").symlink_to(folder / "loop.csv")
    for table in (folder / "pipe.csv", folder / "loop.csv", folder, folder / "gone.csv", Path("/dev/zero")):
        wanted = {"images": str(folder), "labels": str(table)}
        assert tally.case(functools.partial(sources.obtain, wanted, folder), lambda found: None, [str(table)])

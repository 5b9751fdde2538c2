"""Writing files: all or nothing, and the same content as the same bytes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import process, quoted, sealed

from latent_atlas import files
from latent_atlas.errors import FileError, OutputError
from latent_atlas.files import (
    CHECKSUM,
    PACKAGE,
    atomic_write,
    read_arrays,
    read_safetensors,
    read_table,
    write_safetensors,
    write_table,
    write_tables,
    write_text,
)


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestAside:
    """A file appears whole or not at all."""

    def test_takes_its_place_at_the_end(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "folders" / "table.csv"
        with atomic_write(path) as aside:
            aside.write_text("whole")
            assert aside.suffix == ".csv"  # by which picture libraries choose their format
            assert aside.parent == path.parent
            assert not path.exists()
        assert tree(tmp_path) == {"new/folders/table.csv": b"whole"}

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_failure_leaves_the_old_file_and_nothing_else(self, error: type[BaseException], tmp_path: Path) -> None:
        path = tmp_path / "table.csv"
        path.write_text("old")

        def fail() -> None:
            with atomic_write(path) as aside:
                aside.write_text("half of the n")
                assert len(tree(tmp_path)) == 2
                raise error

        with pytest.raises(error):
            fail()
        assert tree(tmp_path) == {"table.csv": b"old"}

    def test_what_a_killed_process_has_left_is_removed(self, tmp_path: Path) -> None:
        script = (
            "import os, signal\n"
            "from latent_atlas.files import atomic_write\n"
            "with atomic_write('table.csv') as aside:\n"
            "    aside.write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        process([sys.executable, "-c", script], tmp_path)
        (tmp_path / f".table.{os.getppid()}.part.csv").write_text("of a process at work")
        assert len(tree(tmp_path)) == 2
        write_text(tmp_path / "table.csv", "whole")
        assert set(tree(tmp_path)) == {"table.csv", f".table.{os.getppid()}.part.csv"}

    def test_file_where_a_folder_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("a file")
        with pytest.raises(OutputError, match=r"cannot write .*results/table\.csv") as caught:
            write_text(tmp_path / "results" / "table.csv", "x")
        assert "change the permissions of" in str(caught.value)
        assert tree(tmp_path) == {"results": b"a file"}

    def test_folder_where_a_file_is_needed(self, tmp_path: Path) -> None:
        (tmp_path / "table.csv").mkdir()
        with pytest.raises(OutputError, match=r"cannot write .*table\.csv: Is a directory"):
            write_text(tmp_path / "table.csv", "x")
        assert tree(tmp_path) == {}


class TestDisk:
    """A disk that fills up, for real: a small one, mounted where nothing else sees it."""

    def test_full(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        script = (
            "import torch\n"
            "from latent_atlas.errors import OutputError\n"
            "from latent_atlas.files import write_safetensors\n"
            "write_safetensors('disk/a.safetensors', {'x': torch.zeros(1000)}, {})\n"
            "try:\n"
            "    write_safetensors('disk/a.safetensors', {'x': torch.ones(100_000)}, {})\n"
            "except OutputError as error:\n"
            "    print(error)\n"
        )
        (tmp_path / "script.py").write_text(script)
        done = sealed(
            f"mount -t tmpfs -o size=128k tmpfs disk; {quoted(sys.executable, 'script.py')}; cp -r disk kept",
            tmp_path,
            "--mount",
        )
        assert done.stdout.startswith("cannot write disk/a.safetensors: No space left on device"), done.stderr
        assert "free space or change the permissions of disk" in done.stdout
        assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["a.safetensors"]
        assert torch.equal(load_file(tmp_path / "kept" / "a.safetensors")["x"], torch.zeros(1000))


class TestTable:
    """CSV."""

    def test_content(self, tmp_path: Path) -> None:
        write_table(tmp_path / "t.csv", pd.DataFrame({"name": ["a", "b"], "x": [1 / 3, 1e-9], "n": [1, 2]}))
        assert (tmp_path / "t.csv").read_bytes() == b"name,x,n\na,0.333333333333,1\nb,1e-09,2\n"


TABLE = pd.DataFrame(
    {
        "name": ["NA", "nan", "x"],
        "label": ["7", "07", None],
        "angle_deg": [0.5, math.nan, -1.25],
        "whole_mse": [1.0, 2.0, 3.0],
        "count": [1, 2, 3],
        "seed": pd.array([0, None, 2], dtype="Int64"),
        "found": [True, False, True],
        "agrees": pd.array([True, None, False], dtype="boolean"),
        "undefined": [math.nan] * 3,
    }
)
DAMAGED = r"(t\.\w+|datapackage\.json) is damaged: .*: delete it and run the workflow again"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The table in both formats, with what vouches for them."""
    folder = tmp_path_factory.mktemp("written")
    write_tables(folder, {"t.csv": TABLE, "t.parquet": TABLE})
    return tree(folder)


@pytest.fixture
def folder(written: dict[str, bytes], tmp_path: Path) -> Path:
    """A folder with these files."""
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("file", ["t.csv", "t.parquet"])
class TestTables:
    """Tables of earlier stages: read whole, or refused by name."""

    def test_read_as_written(self, file: str, folder: Path) -> None:
        pd.testing.assert_frame_equal(read_table(folder / file, ["name"]), TABLE)
        with pytest.raises(
            FileError, match=rf"{file} is damaged: it has no column other \(but name, label, .*delete it"
        ):
            read_table(folder / file, ["name", "other"])

    def test_empty_ones_keep_their_types(self, file: str, tmp_path: Path) -> None:
        write_tables(tmp_path, {file: TABLE[:0], f"bare_{file}": pd.DataFrame()})
        found = read_table(tmp_path / file)
        assert len(found) == 0
        assert list(found.columns) == list(TABLE.columns)
        assert found.dtypes[["angle_deg", "whole_mse", "undefined"]].eq("float64").all()
        assert found.dtypes["count"] == "int64"
        assert read_table(tmp_path / f"bare_{file}").empty

    def test_same_tables_give_the_same_bytes(self, file: str, folder: Path, written: dict[str, bytes]) -> None:
        write_tables(folder, {"t.csv": TABLE, "t.parquet": TABLE})
        assert tree(folder) == written
        assert file in written

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_bit_that_flips_is_noticed(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        written: dict[str, bytes],
        file: str,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("flipped")
        hit = data.draw(st.sampled_from([file, PACKAGE]))
        place = data.draw(st.integers(0, 8 * len(written[hit]) - 1))
        flipped = bytearray(written[hit])
        flipped[place // 8] ^= 1 << place % 8
        self.refused(folder, written | {hit: bytes(flipped)}, file)

    @given(st.data())
    @settings(max_examples=30, deadline=None)
    def test_cut_or_lengthened(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        written: dict[str, bytes],
        file: str,
        data: st.DataObject,
    ) -> None:
        folder = tmp_path_factory.mktemp("cut")
        hit = data.draw(st.sampled_from([file, PACKAGE]))
        size = data.draw(st.integers(0, len(written[hit]) - 1))
        changed = data.draw(st.sampled_from([written[hit][:size], written[hit] + b" ", written[hit] + written[hit]]))
        self.refused(folder, written | {hit: changed}, file)

    def refused(self, folder: Path, files: dict[str, bytes], table: str) -> None:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        with pytest.raises(FileError, match=DAMAGED):
            read_table(folder / table)

    @pytest.mark.parametrize("gone", ["table", PACKAGE])
    def test_missing(self, file: str, gone: str, folder: Path) -> None:
        name = file if gone == "table" else gone
        (folder / name).unlink()
        with pytest.raises(FileError, match=rf"/{name} is missing: run the workflow again"):
            read_table(folder / file)
        (folder / name).mkdir()
        with pytest.raises(FileError, match=rf"/{name} is a folder, not a file"):
            read_table(folder / file)

    def test_one_that_the_package_does_not_name(self, file: str, folder: Path) -> None:
        (folder / file).rename(folder / f"other_{file}")
        with pytest.raises(FileError, match=rf"other_{file} is damaged: datapackage.json beside it does not name it"):
            read_table(folder / f"other_{file}")

    def test_one_of_another_job(self, file: str, folder: Path, tmp_path: Path) -> None:
        write_tables(tmp_path / "else", {file: TABLE.assign(count=[1, 2, 4])})
        (tmp_path / "else" / file).replace(folder / file)
        with pytest.raises(
            FileError, match=rf"{file} is damaged: its content does not have the checksum in datapackage"
        ):
            read_table(folder / file)

    def test_package_that_names_other_columns(self, file: str, folder: Path) -> None:
        content = json.loads((folder / PACKAGE).read_text())
        for resource in content["resources"]:
            resource["schema"]["fields"].reverse()
        del content["hash"]
        (folder / PACKAGE).write_text(files._package(content))
        with pytest.raises(FileError, match=rf"{file} is damaged: its columns are not those in datapackage.json"):
            read_table(folder / file)


def test_what_a_package_says(written: dict[str, bytes]) -> None:
    content = json.loads(written[PACKAGE])
    assert content["profile"] == "tabular-data-package"
    for resource, ending in zip(content["resources"], ("csv", "parquet"), strict=True):
        stored = written[f"t.{ending}"]
        assert resource["path"] == f"t.{ending}"
        assert resource["format"] == ending
        assert resource["bytes"] == len(stored)
        assert resource["hash"] == f"sha256:{hashlib.sha256(stored).hexdigest()}"
        fields = {field.pop("name"): field for field in resource["schema"]["fields"]}
        kinds = ["string"] * 2 + ["number"] * 2 + ["integer"] * 2 + ["boolean"] * 2 + ["number"]
        assert dict(zip(fields, kinds, strict=True)) == {name: field["type"] for name, field in fields.items()}
        assert {name: field["unit"] for name, field in fields.items() if "unit" in field} == {
            "angle_deg": "degree",
            "whole_mse": "squared pixel value, pixels from 0 to 1",
        }


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"hash": 1}', b'{"hash": 1, "resources": [{}]}', b"\xff"]
)
def test_files_that_are_no_packages(content: bytes, folder: Path) -> None:
    (folder / PACKAGE).write_bytes(content)
    with pytest.raises(FileError, match=r"datapackage\.json is damaged: .*: delete it and run the workflow again"):
        read_table(folder / "t.csv")


class TestSafetensors:
    """Tensors with metadata."""

    METADATA = {f"key{number}": f"value {number}" for number in range(40)} | {"umlaut": "ä–ö", "json": '{"a": [1]}'}
    SCRIPT = (
        "import json, sys, torch\n"
        "from latent_atlas.files import write_safetensors\n"
        "tensors = {'b': torch.arange(6.).view(2, 3), 'a': torch.arange(3, dtype=torch.uint8)}\n"
        "write_safetensors(sys.argv[1], tensors, json.loads(sys.argv[2]))\n"
    )

    def test_same_bytes_from_processes_that_hash_differently(self, tmp_path: Path) -> None:
        for seed in ("1", "2"):
            words = [sys.executable, "-c", self.SCRIPT, f"{seed}.safetensors", json.dumps(self.METADATA)]
            done = process(words, tmp_path, PYTHONHASHSEED=seed)
            assert done.returncode == 0, done.stderr
        first, second = (tmp_path / "1.safetensors").read_bytes(), (tmp_path / "2.safetensors").read_bytes()
        assert first == second
        size = int.from_bytes(first[:8], "little")
        assert list(json.loads(first[8 : 8 + size])["__metadata__"]) == sorted([*self.METADATA, CHECKSUM])

    def test_read_back_by_the_library(self, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        tensors = {
            "transposed": torch.arange(6.0).view(2, 3).T,
            "scalar": torch.tensor(2.5, dtype=torch.float64),
            "empty": torch.zeros(0, 3),
            "bytes": torch.arange(5, dtype=torch.uint8),
            "grad": torch.ones(2, requires_grad=True),
        }
        write_safetensors(path, tensors, self.METADATA)
        with safe_open(path, framework="pt") as file:
            assert set(file.metadata()) == {*self.METADATA, CHECKSUM}
        metadata, loaded = read_safetensors(path)
        assert metadata == self.METADATA
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].dtype == tensor.dtype
            assert torch.equal(loaded[name], tensor.detach())

    def test_after_the_header_the_bytes_are_those_of_the_library(self, tmp_path: Path) -> None:
        draw = torch.Generator().manual_seed(0)
        kinds = (torch.float64, torch.int64, torch.float32, torch.bfloat16, torch.float16, torch.int8, torch.bool)
        tensors = {
            f"{name}{kind}".replace("torch", ""): (torch.rand(3, 5, generator=draw) * 9).to(kind)
            for kind in kinds[::-1]
            for name in "ba"
        }
        ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
        write_safetensors(ours, tensors, {"one": "1"})
        with safe_open(ours, framework="pt") as file:
            metadata = file.metadata()
        save_file(tensors, theirs, metadata)
        size = int.from_bytes(ours.read_bytes()[:8], "little")
        assert json.loads(ours.read_bytes()[8 : 8 + size]) == json.loads(theirs.read_bytes()[8 : 8 + size])
        assert ours.read_bytes()[8 + size :] == theirs.read_bytes()[8 + size :]

    def test_bits_that_flip_are_noticed(self, tmp_path: Path) -> None:
        """Each bit of a small file: refused, or of no consequence, as a blank at the end of the header is."""
        path = tmp_path / "x.safetensors"
        tensors = {"a": torch.arange(3.0), "b": torch.arange(4, dtype=torch.uint8).view(2, 2)}
        write_safetensors(path, tensors, {"kind": "x"})
        whole, refused = path.read_bytes(), 0
        for place in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            try:
                metadata, found = read_safetensors(path)
            except FileError:
                refused += 1
                with pytest.raises(FileError):
                    read_arrays(path)
                continue
            arrays = read_arrays(path)[1]
            assert all(np.array_equal(arrays[name], tensor) for name, tensor in found.items())
            assert metadata == {"kind": "x"}
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
        assert refused > 0.95 * 8 * len(whole)

    @pytest.mark.parametrize("read", [read_safetensors, read_arrays])
    def test_file_of_another_program(self, read: Callable[..., Any], tmp_path: Path) -> None:
        save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
        with pytest.raises(FileError, match=r"x\.safetensors has no checksum"):
            read(tmp_path / "x.safetensors")

    def test_as_arrays(self, tmp_path: Path) -> None:
        """The same numbers in the same order, whatever the types, shapes and the place in the file."""
        path = tmp_path / "x.safetensors"
        kinds = (torch.float64, torch.int64, torch.float32, torch.float16, torch.uint8, torch.int8, torch.bool)
        tensors = {f"b{kind}": (torch.arange(15.0).view(3, 5) - 7).to(kind) for kind in kinds}
        tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "a": torch.arange(5, dtype=torch.int32)}
        write_safetensors(path, tensors, self.METADATA)
        metadata, arrays = read_arrays(path, needed={"a": "int32 5", "scalar": "float32"})
        assert metadata == self.METADATA
        loaded = read_safetensors(path)[1]
        assert list(arrays) == list(loaded)
        for name, tensor in loaded.items():
            assert arrays[name].dtype == tensor.numpy().dtype
            np.testing.assert_array_equal(arrays[name], tensor.numpy())

    def test_arrays_of_types_that_numpy_has_not(self, tmp_path: Path) -> None:
        write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(2, dtype=torch.bfloat16)}, {})
        with pytest.raises(FileError, match=r"x\.safetensors is not a readable safetensors file"):
            read_arrays(tmp_path / "x.safetensors")

    def test_tensor_that_is_needed(self, tmp_path: Path) -> None:
        write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})
        with pytest.raises(FileError, match=r"x\.safetensors has no tensor b"):
            read_safetensors(tmp_path / "x.safetensors", needed={"a": "float32 2", "b": "*"})

    @pytest.mark.parametrize("needed", ["float32 * 3", "float* 2 3", "*float* 2 [1-9]*"])
    def test_types_and_shapes(self, needed: str, tmp_path: Path) -> None:
        path = tmp_path / "x.safetensors"
        write_safetensors(path, {"a": torch.zeros(2, 3)}, {})
        assert read_safetensors(path, needed={"a": needed})[1]["a"].shape == (2, 3)
        for other in (
            torch.zeros(2, 3, dtype=torch.int8),
            torch.zeros(2, 3, dtype=torch.complex64),
            torch.zeros(2, 3, 1),
            torch.zeros(6),
            torch.zeros(2, 0),
        ):
            write_safetensors(path, {"a": other}, {})
            with pytest.raises(
                FileError, match=r"x\.safetensors is damaged: its tensor a is \w+ [\d ]+ where .* needed"
            ):
                read_safetensors(path, needed={"a": needed})

    def test_no_second_copy_is_held(self, tmp_path: Path) -> None:
        if not Path("/proc/self/status").exists():
            pytest.skip("needs Linux' /proc")
        code = (
            "import re, torch; from pathlib import Path; from latent_atlas.files import write_safetensors\n"
            "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
            "write_safetensors('a', {'x': torch.ones(2)}, {})\n"
            "x = torch.ones(200, 250_000); before = peak()\n"
            "write_safetensors('a', {'x': x.expand(2, -1, -1)[1]}, {}); print(peak() - before)"
        )
        done = process([sys.executable, "-c", code], tmp_path)
        assert float(done.stdout) < 60, done.stderr  # MiB, of 190
        assert (tmp_path / "a").stat().st_size > 200_000_000

    def test_data_are_aligned(self, tmp_path: Path) -> None:
        for length in range(9):
            write_safetensors(tmp_path / "x.safetensors", {"x": torch.zeros(2)}, {"k": "v" * length})
            content = (tmp_path / "x.safetensors").read_bytes()
            assert int.from_bytes(content[:8], "little") % 8 == 0
            assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], torch.zeros(2))

    def test_without_metadata(self, tmp_path: Path) -> None:
        write_safetensors(tmp_path / "x.safetensors", {"x": torch.ones(2)}, {})
        assert torch.equal(load_file(tmp_path / "x.safetensors")["x"], torch.ones(2))


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"whole": whole, "tied": whole, "row": whole[0], "turned": whole.T, "wide": torch.ones(1).expand(3)}
    write_safetensors(tmp_path / "shared.safetensors", tensors, {})
    found = load_file(tmp_path / "shared.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)

"""Writing files: all or nothing, and the same content as the same bytes."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import process, quoted, sealed

from latent_atlas.errors import FileError, OutputError
from latent_atlas.files import (
    CHECKSUM,
    atomic_write,
    read_safetensors,
    read_table,
    write_parquet,
    write_safetensors,
    write_table,
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


class TestTables:
    """Tables of earlier stages: read whole, or refused by name."""

    TABLE = pd.DataFrame({"name": ["NA", "nan", "x"], "value": [0.5, math.nan, -1.25]})

    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_read_as_written(self, ending: str, tmp_path: Path) -> None:
        path = tmp_path / f"t.{ending}"
        (write_table if ending == "csv" else write_parquet)(path, self.TABLE)
        pd.testing.assert_frame_equal(read_table(path, ["name"]), self.TABLE, check_dtype=False)
        with pytest.raises(FileError, match=rf"t\.{ending} has no column other \(it has name, value\): delete it"):
            read_table(path, ["name", "other"])

    @pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3,4\n5\n1,2,3,4,5\n", b"\xff\xfe\x00", b"PAR1", b"PAR1" * 9])
    @pytest.mark.parametrize("ending", ["csv", "parquet"])
    def test_that_are_none(self, ending: str, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / f"t.{ending}"
        path.write_bytes(content)
        with pytest.raises(FileError, match=rf"t\.{ending} (is not a readable table|has no column)"):
            read_table(path, ["value"])

    def test_missing(self, tmp_path: Path) -> None:
        for name in ("t.csv", "t.parquet"):
            with pytest.raises(FileError, match="is not a readable table"):
                read_table(tmp_path / name)

    def test_numbers_whose_bits_flip_in_parquet(self, tmp_path: Path) -> None:
        """The pages have checksums: a changed number is refused."""
        path = tmp_path / "t.parquet"
        numbers = np.random.default_rng(0).random(400)
        write_parquet(path, pd.DataFrame({"value": numbers}))
        whole = path.read_bytes()
        place = whole.index(numbers[200].tobytes())
        for bit in range(64):
            flipped = bytearray(whole)
            flipped[place + bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(FileError, match="is not a readable table"):
                read_table(path)


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
                continue
            assert metadata == {"kind": "x"}
            assert found.keys() == tensors.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
        assert refused > 0.95 * 8 * len(whole)

    def test_file_of_another_program(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
        with pytest.raises(FileError, match=r"x\.safetensors has no checksum"):
            read_safetensors(tmp_path / "x.safetensors")

    def test_tensor_that_is_needed(self, tmp_path: Path) -> None:
        write_safetensors(tmp_path / "x.safetensors", {"a": torch.zeros(2)}, {})
        with pytest.raises(FileError, match=r"x\.safetensors has no tensor b"):
            read_safetensors(tmp_path / "x.safetensors", names=["a", "b"])

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

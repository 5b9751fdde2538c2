"""Lists that stand for source files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from latent_atlas.study import sources
from latent_atlas.versioning import lists
from latent_atlas.versioning.common import VersioningError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two files."""
    monkeypatch.chdir(tmp_path)
    Path("one.py").write_text("1\n")
    Path("two files.py").write_text("2\n")
    return tmp_path


def written() -> str:
    """A list of both files, as a new process writes it."""
    lists._checksum.cache_clear()
    lists._names.cache_clear()
    return lists.write(lists.FOLDER / "both.md5", [Path("two files.py"), Path("one.py")])


def test_names_its_files_and_their_checksums(folder: Path) -> None:
    path = written()
    assert lists.listed(path) == ("one.py", "two files.py")
    assert subprocess.run(["md5sum", "--check", "--quiet", path], check=False).returncode == 0


def test_is_written_only_if_a_file_has_changed(folder: Path) -> None:
    path = written()
    os.utime(path, ns=(1, 1))
    before = lists.checksum(path)
    os.utime("one.py", ns=(2, 2))
    assert (Path(written()).stat().st_mtime_ns, lists.checksum(path)) == (1, before)
    Path("one.py").write_text("3\n")
    assert Path(written()).stat().st_mtime_ns > 1
    assert lists.checksum(path) != before


def test_other_files_stand_for_themselves() -> None:
    assert lists.listed("results/one.md5") == ("results/one.md5",)


def test_that_cannot_be_read(folder: Path) -> None:
    path = written()
    lists._names.cache_clear()
    Path(path).write_bytes(b"\xff")
    with pytest.raises(VersioningError, match=r"both\.md5 cannot be read .* delete it"):
        lists.listed(path)


def test_of_a_stage_name_exactly_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources.PACKAGE.parents[1])
    network = sources.architecture("convolutional")
    found = {file for each in sources.inputs("jacobian", network) for file in lists.listed(each)}
    assert found == set(sources.sources("jacobian", network))
    assert len(sources.inputs("jacobian", network)) == 2

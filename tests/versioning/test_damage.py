"""Damaged files of DVC: what decides is refused by both engines, what only accompanies costs a warning."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import Repository
from ruamel.yaml import YAML

from latent_atlas.versioning.lock_file import LockFile

SNAKEFILE = """
from latent_atlas.versioning import attach
rule all:
    default_target: True
    input: "c.txt", "a.txt", "b.txt"
rule one:
    output: "{name}.txt"
    shell: "echo {wildcards.name} > {output}"
attach(workflow, "extras.yaml")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three small results, committed."""
    folder = tmp_path_factory.mktemp("damage") / "study"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "extras.yaml").write_text("in_git: []\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (
        ["git", "init", "--quiet"],
        ["dvc", "init", "--quiet"],
        ["snakemake", "--cores", "3", "--quiet", "all"],
        ["git", "add", "Snakefile", "extras.yaml", "dvc.yaml", "dvc.lock", ".dvc/config"],
        ["git", *identity, "commit", "--quiet", "--message", "results"],
    ):
        run(folder, *command, check=True)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def run(folder: Path, *command: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = Repository(folder).environment
    return subprocess.run(command, cwd=folder, env=environment, check=check, capture_output=True, text=True)


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "snakemake", "--cores", "1", *arguments)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 3])


def conflict(path: Path) -> None:
    text = path.read_text()
    path.write_text(f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)))


def folder_instead(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def text(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_text(content)

    write.__name__ = content[:20].strip()
    return write


STAGE = "schema: '2.0'\nstages:\n  one-a: {}\n"
DAMAGE = {
    "dvc.lock": [cut, conflict, binary, folder_instead, pipe, text("17"), text("- a\n"), text(STAGE.format("text")),
                 text(STAGE.format("{cmd: x, outs: [a.txt]}")), text("schema: '9.0'\nstages: {}\n")],
    "dvc.yaml": [conflict, binary, folder_instead, pipe, text("17"), text("stages: [a]\n"), text("stages: {a: b}\n")],
    ".dvc/config": [conflict, binary, text("[core]\nremote = a\n[core]\nremote = b\n"), text("[core\n"),
                    text("[core]\nno_such_key = 1\n")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file, kinds in DAMAGE.items() for damage in kinds],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_decides_is_refused_with_what_mends_it(folder: Path, file: str, damage: Callable[[Path], None]) -> None:
    damage(folder / file)
    done = snakemake(folder)
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert f"{folder / file} cannot be used (" in said
    assert f"git checkout {file}" in said
    assert "Traceback" not in said
    assert "  File " not in said
    if damage is not pipe:  # at which DVC would wait
        assert run(folder, "dvc", "repro").returncode != 0
    if (folder / file).is_dir():
        (folder / file).rmdir()
    else:
        (folder / file).unlink()
    run(folder, "git", "checkout", file, check=True)
    done = snakemake(folder)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stderr


def test_without_them_they_are_made_anew(folder: Path) -> None:
    before = YAML(typ="safe").load((folder / "dvc.lock").read_text())
    for file in ("dvc.lock", "dvc.yaml"):
        (folder / file).unlink()
    assert snakemake(folder).returncode == 0
    assert YAML(typ="safe").load((folder / "dvc.lock").read_text()) == before


def test_half_an_object_of_the_cache_is_replaced(folder: Path) -> None:
    """An interrupted copy may leave it, not protected yet, under the name of the whole one."""
    whole = b"a\n"
    name = hashlib.md5(whole).hexdigest()
    half = folder / ".dvc" / "cache" / "files" / "md5" / name[:2] / name[2:]
    assert half.read_bytes() == whole
    half.unlink()
    half.touch()
    (folder / "dvc.lock").unlink()
    run(folder, "snakemake", "--cores", "1", check=True)
    assert half.read_bytes() == whole


def test_entries_are_in_order(folder: Path) -> None:
    assert list(YAML(typ="safe").load((folder / "dvc.lock").read_text())["stages"]) == ["one-a", "one-b", "one-c"]


JOURNAL = ".dvc/tmp/ended-jobs.jsonl"


@pytest.mark.parametrize(
    "damage",
    [text(content) for content in ('{"one-a": {"cm', '["one-a"]', "17", '{"one-a": "text"}', '{"one-a": {"cmd": 1}}')]
    + [binary, folder_instead, pipe],
)
def test_a_damaged_journal_costs_a_warning(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder / JOURNAL)
    (folder / "a.txt").unlink()
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{folder / JOURNAL}") <= 2  # when it is read, and when it cannot be written
    assert "Warning: " in done.stderr
    assert "Traceback" not in done.stderr
    again = snakemake(folder)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stderr
    assert run(folder, "dvc", "status").stdout.strip().endswith("Data and pipelines are up to date.")


@pytest.mark.parametrize("content", ["", "null", "[]", '{"md5": 1}', "\0"])
def test_a_damaged_copy_of_the_lock_file_is_made_anew(folder: Path, content: str) -> None:
    (folder / ".dvc/tmp/read-lock.json").write_text(content)
    assert "Nothing to be done" in snakemake(folder).stderr


def test_a_copy_of_the_lock_file_that_holds_no_stages(folder: Path) -> None:
    copy = folder / ".dvc/tmp/read-lock.json"
    assert "Nothing to be done" in snakemake(folder).stderr
    stages = json.dumps({"one-a": "text"})
    checksum = hashlib.md5(((folder / "dvc.lock").read_text() + stages).encode(), usedforsecurity=False).hexdigest()
    copy.write_text(f"{checksum}\n{stages}")
    assert "Nothing to be done" in snakemake(folder).stderr


def test_a_copy_of_the_lock_file_whose_bits_flip(folder: Path) -> None:
    """It is not believed: neither is a job run again for it, nor does it come into the lock file."""
    copy, lock = folder / ".dvc/tmp/read-lock.json", folder / "dvc.lock"
    assert "Nothing to be done" in snakemake(folder).stderr
    whole, entries = copy.read_bytes(), LockFile(folder).entries
    for place in range(0, len(whole), 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        copy.write_bytes(flipped)
        assert LockFile(folder).entries == entries
    copy.write_text(whole.decode().replace('"cmd": "', '"cmd": "x'))
    before = lock.read_text()
    assert "Nothing to be done" in snakemake(folder).stderr
    assert lock.read_text() == before


def test_a_journal_whose_bits_flip(folder: Path) -> None:
    """A line is as it was written, or passed over."""
    journal = folder / JOURNAL
    said: list[str] = []
    entries = LockFile(folder).entries
    (folder / "dvc.lock").unlink()
    LockFile(folder)._append(entries)
    whole = journal.read_bytes()
    assert LockFile(folder).entries == entries
    for place in range(0, len(whole) - 1, 7):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        journal.write_bytes(flipped)
        assert LockFile(folder, warn=said.append).entries == {}
    assert all("are cut or damaged and passed over" in each for each in said)
    assert said


@pytest.mark.parametrize("content", ["", "{", "[]", '{"write": 1}'])
def test_a_damaged_record_of_who_writes_what(folder: Path, content: str) -> None:
    (folder / ".dvc/tmp/rwlock").write_text(content)
    (folder / "a.txt").unlink()
    done = snakemake(folder)
    assert done.returncode == 0, done.stderr
    assert ".dvc/tmp/rwlock cannot be used" in done.stderr

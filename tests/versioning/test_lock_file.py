"""What the lock file records of a job, without an engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from latent_atlas.versioning import lists, pipeline
from latent_atlas.versioning.lock_file import INPUT, PARAMS, LockFile
from latent_atlas.versioning.pipeline import Job

FIRST = Job("first", "make middle", ("source",), ("middle",))
SECOND = Job("second", "make last", ("middle",), ("last",))


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LockFile:
    """The lock file of an empty repository; it stays in the journal."""
    from dvc.repo import Repo

    monkeypatch.chdir(tmp_path)
    Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / "source").write_text("source")
    lock = LockFile(tmp_path)
    lock._last_flush = (float("inf"), 1.0)
    return lock


@pytest.mark.parametrize("old", [None, "old"])
def test_jobs_of_one_group_are_all_recorded(lock: LockFile, old: str | None) -> None:
    if old:
        (lock.root / "middle").write_text(old)
    lock.started(FIRST)
    lock.started(SECOND, {"middle"})
    (lock.root / "middle").write_text("new")
    (lock.root / "last").write_text("new")
    lock.succeeded(FIRST)
    lock.succeeded(SECOND)
    assert set(lock.entries) == {"first", "second"}
    assert lock.stale(SECOND) is None


def test_input_edited_while_the_job_runs_is_not_recorded(lock: LockFile) -> None:
    lock.started(FIRST)
    (lock.root / "middle").write_text("new")
    (lock.root / "source").write_text("edited")
    lock.succeeded(FIRST)
    assert lock.entries == {}


@pytest.mark.parametrize("edited", [False, True])
def test_source_file_edited_and_reverted_while_the_job_runs(lock: LockFile, edited: bool) -> None:
    """Its list, which is the input, is as it was."""
    names = lists.write(lists.FOLDER / "first.md5", [Path("source")])
    job = replace(FIRST, deps=(names,))
    (lock.root / "source").write_text("edited" if edited else "source")
    lock.started(job)
    (lock.root / "middle").write_text("new")
    (lock.root / "source").write_text("source")
    lock.succeeded(job)
    assert set(lock.entries) == (set() if edited else {"first"})


def test_what_stands_for_sources_is_recorded_as_it_is(lock: LockFile) -> None:
    names = lists.write(lists.FOLDER / "first.md5", [Path("source")])
    inputs = pipeline.inputs_of([replace(FIRST, deps=(names,))])
    assert inputs is not None
    lock.take_over([inputs])
    assert lock.stale(inputs) is None
    (lock.root / "source").write_text("edited")  # after the list was written
    again = LockFile(lock.root)
    again.take_over([inputs])
    assert again.stale(inputs) == INPUT


def test_parameters_that_changed_in_their_file(lock: LockFile) -> None:
    values = lists.values_file(["a"])
    assert values is not None
    lists.write_values(values, {"a": 1})
    (lock.root / "params.yaml").write_text("a: 1\n")
    job = replace(FIRST, deps=("source", values), params={"a": 1}, values=values)
    lock.started(job)
    (lock.root / "middle").write_text("new")
    lock.succeeded(job)
    assert "params" not in lock.entries["first"]
    assert list(lock.changes(job)) == []
    lists.write_values(values, {"a": 2})
    lock._hashes.clear()
    assert list(lock.changes(replace(job, params={"a": 2}))) == [PARAMS]


@pytest.mark.parametrize(
    ("named", "recorded"), [("{root}/a b/c", "a b/c"), ("a", "a"), ("../a", "../a"), ("/elsewhere/a", "/elsewhere/a")]
)
def test_paths_are_recorded_as_dvc_writes_them(lock: LockFile, named: str, recorded: str) -> None:
    from latent_atlas.versioning.engine import LockFilePersistence

    persistence = LockFilePersistence.__new__(LockFilePersistence)
    persistence.lock_file = lock
    assert persistence.as_dvc_writes(named.format(root=lock.root)) == recorded

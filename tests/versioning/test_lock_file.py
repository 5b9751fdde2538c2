"""What the lock file records of a job, without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from latent_atlas.versioning.lock_file import LockFile
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


@pytest.mark.parametrize(
    ("named", "recorded"), [("{root}/a b/c", "a b/c"), ("a", "a"), ("../a", "../a"), ("/elsewhere/a", "/elsewhere/a")]
)
def test_paths_are_recorded_as_dvc_writes_them(lock: LockFile, named: str, recorded: str) -> None:
    from latent_atlas.versioning.engine import LockFilePersistence

    persistence = LockFilePersistence.__new__(LockFilePersistence)
    persistence.lock_file = lock
    assert persistence.as_dvc_writes(named.format(root=lock.root)) == recorded

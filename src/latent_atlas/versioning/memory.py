"""What DVC remembers of each job, in ``dvc.lock``: read to judge, written when a job has ended."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.config import canonical
from latent_atlas.core.errors import LatentAtlasError
from latent_atlas.versioning.pipeline import PARAMS_FILE, Job, held_by_git

if TYPE_CHECKING:
    from dvc.repo import Repo

COMMAND = "its command changed"
PARAMS = "its parameters changed"
PATIENCE_S = 60  # how long to wait for another DVC command to release its lock


class VersioningError(LatentAtlasError):
    """DVC's side cannot be read or written."""


def available(root: Path) -> bool:
    """Whether this folder is a DVC repository under git."""
    return (root / ".dvc").is_dir() and any((folder / ".git").exists() for folder in (root, *root.parents))


class Memory:
    """``dvc.lock`` of a repository, with what has ended since it was written.

    Parameters
    ----------
    root : Path
        Folder with ``dvc.yaml`` and ``dvc.lock``.
    in_git : iterable of str
        Patterns of outputs that git holds, so that DVC's cache need not.
    """

    def __init__(self, root: Path, in_git: Iterable[str] = ()) -> None:
        self.root = root
        self.in_git = list(in_git)
        self.lock_file = root / "dvc.lock"
        self.journal = root / ".dvc" / "tmp" / "ended-jobs.jsonl"
        self._entries: dict[str, Any] | None = None
        self._repo: Repo | None = None
        self._hashes: dict[str, str | None] = {}
        self._starts: dict[str, dict[str, str | None]] = {}
        self._pending: list[str] = []
        self._last_flush = (0.0, 0.0)  # when, how long it took

    # reading

    @property
    def entries(self) -> dict[str, Any]:
        """What is known of each stage: the lock file, and what ended since in a run that was killed."""
        if self._entries is None:
            from dvc.utils.serialize import load_yaml

            try:
                content = load_yaml(str(self.lock_file)) if self.lock_file.exists() else {}
            except Exception as error:
                raise VersioningError(
                    f"{self.lock_file} cannot be read ({error}): if two versions of it were merged, keep either one "
                    f"(git checkout --ours dvc.lock), then run snakemake, which makes what is missing"
                ) from error
            self._entries = ((content or {}).get("stages") or {}) | self._unflushed()
        return self._entries

    def _unflushed(self) -> dict[str, Any]:
        """The entries of the journal; a line that was cut short is none."""
        entries: dict[str, Any] = {}
        if self.journal.exists():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    entries |= json.loads(line)
        return entries

    def stale(self, job: Job) -> str | None:
        """Why a job must run, by content alone; None if its outputs are what it would make."""
        entry = self.entries.get(job.name)
        if entry is None:
            return "dvc.lock does not know it"
        if entry.get("cmd") != job.command:
            return COMMAND
        if canonical((entry.get("params") or {}).get(PARAMS_FILE) or {}) != canonical(dict(job.params)):
            return PARAMS
        for kind, paths in (("deps", job.deps), ("outs", job.outs)):
            known = _hashes_of(entry, kind)
            if set(known) != set(paths):
                return f"its set of {kind} changed"
            for path in paths:
                if self.hash(path) != known[path]:
                    return f"{path} is missing or changed"
        return None

    def recorded(self, job: Job, path: str) -> str | None:
        """The MD5 that a file had when the job ran last."""
        entry = self.entries.get(job.name)
        return _hashes_of(entry, "deps").get(path) if entry else None

    def hash(self, path: str) -> str | None:
        """MD5 of a file, from DVC's own cache of hashes where the file has not been touched; None if missing."""
        if path not in self._hashes:
            self._hashes[path] = self._computed(path)
        return self._hashes[path]

    def _computed(self, path: str) -> str | None:
        from dvc_data.hashfile.hash import hash_file
        from dvc_objects.fs.local import localfs

        full = self.root / path
        if not full.is_file():
            return None
        _, found = hash_file(str(full), localfs, "md5", state=self.repo.state)
        return str(found.value)

    @property
    def repo(self) -> Repo:
        if self._repo is None:
            from dvc.repo import Repo

            self._repo = Repo(str(self.root))
        return self._repo

    def forget_hashes(self, paths: Iterable[str]) -> None:
        """Files that a job has written: look at them anew."""
        for path in paths:
            self._hashes.pop(path, None)

    # writing

    def started(self, job: Job) -> None:
        """Note what a job reads, to see at its end whether that changed under it."""
        self.forget_hashes(job.deps)
        self._starts[job.name] = {path: self.hash(path) for path in job.deps}

    def ended(self, job: Job) -> None:
        """Note that a job has ended well; it is in ``dvc.lock`` after the next flush."""
        self.forget_hashes([*job.deps, *job.outs])
        if self._starts.pop(job.name, None) != {path: self.hash(path) for path in job.deps}:
            return  # an input was edited while it ran: its outputs belong to neither version
        self._pending.append(job.name)
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        entry = {
            "cmd": job.command,
            "params": {PARAMS_FILE: dict(job.params)},
            "deps": [{"path": path, "md5": self.hash(path)} for path in job.deps],
            "outs": [{"path": path, "md5": self.hash(path)} for path in job.outs],
        }
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({job.name: entry}) + "\n")
        when, cost = self._last_flush
        if time.monotonic() - when > 10 * cost:  # seldom enough to cost little, often enough to lose little
            self.flush()

    def take_over(self, jobs: Iterable[Job]) -> None:
        """Record what ended in a run that was killed before it could say so, and what DVC's cache has lost."""
        left = self._unflushed()
        current = [job for job in jobs if self.stale(job) is None]
        self._pending += [job.name for job in current if job.name in left or self._lost(job)]
        if left or self._pending:
            self.flush()

    def _lost(self, job: Job) -> bool:
        """Whether DVC's cache lacks an output of a job that is there and current: DVC would run the job again."""
        entry = self.entries[job.name]
        known = {path: found for path, found in _hashes_of(entry, "outs").items() if not held_by_git(path, self.in_git)}
        cache = self.repo.cache.local
        return any(not Path(cache.oid_to_path(found)).exists() for found in known.values() if found)

    def flush(self) -> None:
        """Record the jobs that have ended in ``dvc.lock`` and their outputs in DVC's cache."""
        start = time.monotonic()
        names, self._pending = list(dict.fromkeys(self._pending)), []
        if names:
            with self._locked() as repo:
                self._record(repo, names)
            self._entries = None
        self.journal.unlink(missing_ok=True)
        self._last_flush = (time.monotonic(), time.monotonic() - start)

    def _record(self, repo: Repo, names: list[str]) -> None:
        repo._reset()
        stages = [repo.stage.load_one(path="dvc.yaml", name=name) for name in names]
        for stage in stages:
            stage.save(run_cache=False)
            stage.commit(relink=False)
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Repo]:
        from dvc.lock import LockError

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self.repo.lock:
                    yield self.repo
                return
            except LockError as error:
                if time.monotonic() > deadline:
                    raise VersioningError(
                        f"another DVC command has held its lock for {PATIENCE_S} s: wait for it, or remove "
                        f"{self.root / '.dvc/tmp/lock'} if none is running, then run snakemake again"
                    ) from error
                time.sleep(0.5)


def _hashes_of(entry: dict[str, Any], kind: str) -> dict[str, str | None]:
    return {item["path"]: item.get("md5") for item in entry.get(kind) or []}

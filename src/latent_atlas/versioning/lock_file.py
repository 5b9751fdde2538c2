"""The entries of jobs in ``dvc.lock``: read to decide whether a job is up to date, written when it has succeeded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.files import sealed, unsealed
from latent_atlas.versioning import lists
from latent_atlas.versioning.common import (
    VersioningError,
    canonical,
    damaged,
    read_yaml,
    regular,
    values_at,
    write_text,
)
from latent_atlas.versioning.pipeline import INPUTS, PARAMS_FILE, Job, held_by_git, plain_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

log = logging.getLogger(__name__)
COMMAND = "its command changed"
PARAMS = "its parameters changed"
INPUT = "its input changed"
OUTPUT = "its output is missing or changed"
UNKNOWN = "dvc.lock has no entry for it"
PATIENCE_S = 60  # how long to wait for another DVC command to release its lock


def available(root: Path) -> bool:
    """Whether this folder is a DVC repository under git."""
    return (root / ".dvc").is_dir() and any((folder / ".git").exists() for folder in (root, *root.parents))


class LockFile:
    """``dvc.lock`` of a repository, with the jobs that have succeeded since it was written.

    The entry of a job is first appended to a journal file, so that it is not lost if the process is killed. A flush
    moves the journal to ``dvc.lock``. An entry that could not be moved stays in the journal until the next flush.

    Parameters
    ----------
    root : Path
        Folder with ``dvc.yaml`` and ``dvc.lock``.
    in_git : iterable of str
        Patterns of outputs that are stored in git, not in DVC's cache.
    warn : callable, optional
        Told once of each file that cannot be used, and what is done instead.
    """

    def __init__(self, root: Path, in_git: Iterable[str] = (), warn: Callable[[str], None] = log.warning) -> None:
        self.root = root
        self.in_git = list(in_git)
        self.warn = functools.cache(warn)
        self.lock_file = root / "dvc.lock"
        self.journal = root / ".dvc" / "tmp" / "ended-jobs.jsonl"
        self._entries: dict[str, Any] | None = None
        self._unwritten: dict[str, Any] = {}  # entries that the journal could not take
        self._state_works = True
        self._repo: Repo | None = None
        self._hashes: dict[str, str | None] = {}
        self._starts: dict[str, dict[str, str | None]] = {}
        self._read_params: tuple[bytes, dict[str, Any]] | None = None
        self._last_flush = (0.0, 0.0)  # when it was, how long it took

    # reading

    @property
    def entries(self) -> dict[str, Any]:
        """The entries of all stages: the lock file with the journal."""
        if self._entries is None:
            self._entries = self._locked_entries() | self._journalled()
        return self._entries

    def _locked_entries(self) -> dict[str, Any]:
        """The entries of the lock file; a copy as JSON is kept, with a checksum of both, for YAML takes long."""
        from dvc.schema import COMPILED_LOCKFILE_SCHEMA as SCHEMA
        from voluptuous import Invalid

        copy = self.root / ".dvc" / "tmp" / "read-lock.json"
        try:
            text = regular(self.lock_file)
            if text is None:
                return {}
            checksum = hashlib.md5(text.encode()).hexdigest()
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, Invalid):  # it is written again
                kept = unsealed(regular(copy) or "")
                if kept["md5"] == checksum:
                    return SCHEMA({"schema": "2.0", "stages": kept["stages"]})["stages"]
            stages = SCHEMA(plain_yaml().load(text)).get("stages", {})
            with contextlib.suppress(VersioningError, TypeError):
                write_text(copy, sealed({"md5": checksum, "stages": stages}))
            return stages
        except Exception as error:
            raise VersioningError(damaged(self.lock_file, error, "what it lacks is computed anew")) from error

    def _journalled(self) -> dict[str, Any]:
        """The entries of the journal; lines that hold no entries are left out, which is said."""
        from dvc.schema import COMPILED_LOCKFILE_SCHEMA as SCHEMA
        from voluptuous import Invalid

        entries: dict[str, Any] = {}
        try:
            lines = (regular(self.journal) or "").splitlines()
        except (OSError, ValueError) as error:
            self.warn(f"{self.journal} cannot be read ({error}): it is passed over; delete it")
            return self._unwritten
        damage = 0
        for line in lines:
            try:
                entries |= SCHEMA({"schema": "2.0", "stages": unsealed(line)["stages"]})["stages"]
            except (ValueError, KeyError, Invalid):
                damage += 1
        if damage:
            self.warn(
                f"{self.journal}: {damage} of {len(lines)} lines are cut or damaged and passed over; jobs that ended "
                f"and are not in dvc.lock run again"
            )
        return entries | self._unwritten

    def stale(self, job: Job) -> str | None:
        """The first reason why a job must run; None if its outputs are up to date."""
        return next(self.changes(job), None)

    def changes(self, job: Job) -> Iterator[str]:
        """All differences between a job and its entry."""
        entry = self.entries.get(job.name)
        if entry is None:
            yield UNKNOWN
            return
        if entry.get("cmd") != job.command:
            yield COMMAND
        params = {} if job.values else dict(job.params)
        values = {job.values} if job.values else set()
        recorded = _hashes_of(entry, "deps")
        if canonical((entry.get("params") or {}).get(PARAMS_FILE) or {}) != canonical(params) or any(
            self.hash(path) != recorded.get(path) for path in values
        ):
            yield PARAMS
        for kind, paths, change in (("deps", job.deps, INPUT), ("outs", job.outs, OUTPUT)):
            known = {path: found for path, found in _hashes_of(entry, kind).items() if path not in values}
            watched = set(paths) - values
            if set(known) != watched or any(self.hash(path) != known[path] for path in watched):
                yield change

    def recorded(self, job: Job, path: str) -> str | None:
        """The MD5 that an input had when the job ran last."""
        entry = self.entries.get(job.name)
        return _hashes_of(entry, "deps").get(path) if entry else None

    def hash(self, path: str) -> str | None:
        """MD5 of a file, from DVC's own cache of hashes if the file has not been modified; None if it is missing."""
        if path not in self._hashes:
            full = self.root / path
            try:
                self._hashes[path] = self._md5(full) if full.is_file() else None
            except OSError as error:
                raise VersioningError(f"{full} cannot be read: {error.strerror or error}") from error
        return self._hashes[path]

    def _md5(self, path: Path) -> str:
        from dvc_data.hashfile.hash import hash_file
        from dvc_objects.fs.local import localfs

        state = self.repo.state if self._state_works else None
        try:
            return str(hash_file(str(path), localfs, "md5", state=state)[1].value)
        except OSError:
            raise
        except Exception as error:  # of the database of hashes
            if state is None:
                raise
            self._state_works = False
            self.warn(f"{self.repo.site_cache_dir} cannot be used ({error}): all files are read again; delete it")
            return self._md5(path)

    @property
    def repo(self) -> Repo:
        """DVC's view of the repository; VersioningError if its configuration cannot be used."""
        if self._repo is None:
            from dvc.repo import Repo

            try:
                self._repo = Repo(str(self.root))
            except Exception as error:
                raise VersioningError(damaged(self.root / ".dvc" / "config", error)) from error
        return self._repo

    def _forget_hashes(self, job: Job) -> None:
        for path in (*job.deps, *lists.behind(job.deps), *job.outs):
            self._hashes.pop(path, None)

    # writing

    def started(self, job: Job, unfinished: Collection[str] = ()) -> None:
        """Store the hashes of a job's inputs, to detect at its end whether one changed while it ran.

        ``unfinished`` names inputs that other jobs have not yet written. They are not compared.
        """
        self._forget_hashes(job)
        watched = (*job.deps, *lists.behind(job.deps))
        self._starts[job.name] = {path: self.hash(path) for path in watched if path not in unfinished}

    def succeeded(self, job: Job) -> None:
        """Record a job that has succeeded: in the journal at once, in ``dvc.lock`` at the next flush.

        Nothing is recorded if an input or a parameter was edited while the job ran, because its outputs then belong to
        neither version, or if an output is missing.
        """
        self._forget_hashes(job)
        before = self._starts.pop(job.name, None)
        entry = self._entry(job)
        deps = _hashes_of(entry, "deps") | {path: self.hash(path) for path in lists.behind(job.deps)}
        unchanged = before is not None and before.items() <= deps.items() and self._inputs_stand(job)
        if not unchanged or None in {*deps.values(), *_hashes_of(entry, "outs").values()}:
            return
        self._append({job.name: entry})
        self.entries[job.name] = entry
        when, seconds = self._last_flush
        if time.monotonic() - when > 5 * seconds:  # so that flushes take at most a sixth of the time
            self.flush()

    def _append(self, entries: dict[str, Any]) -> None:
        """Append entries to the journal; where that cannot be written, they wait for the next flush."""
        try:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            regular(self.journal)
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(sealed({"stages": entries}) + "\n")
        except (OSError, ValueError) as error:
            self._unwritten |= entries
            self.warn(f"{self.journal} cannot be written ({error}): if this run is killed, its jobs run again")

    @property
    def pending(self) -> bool:
        """Whether jobs have ended that ``dvc.lock`` does not have."""
        return self.journal.exists() or bool(self._unwritten)

    def _entry(self, job: Job) -> dict[str, Any]:
        """The entry of a job in ``dvc.lock``, in DVC's own form."""
        entry: dict[str, Any] = {"cmd": job.command, "deps": self._items(job.deps)}
        if job.params and not job.values:
            entry["params"] = {PARAMS_FILE: dict(job.params)}
        return entry | {"outs": self._items(job.outs)}

    def _items(self, paths: Iterable[str]) -> list[dict[str, Any]]:
        return [
            {"path": path, "hash": "md5", "md5": self.hash(path), "size": _size(self.root / path)}
            for path in sorted(paths)
        ]

    def _inputs_stand(self, job: Job, files: Iterable[str] | None = None) -> bool:
        """Whether the source files are those of a job's lists, or of these, and the parameters are its own."""
        listed = lists.behind(job.deps if files is None else files)
        return all(self.hash(path) == found for path, found in listed.items()) and self._params_stand(job)

    def _params_stand(self, job: Job) -> bool:
        """Whether the parameter file still has the values with which the job was started."""
        if not job.params:
            return True
        try:
            return canonical(values_at(self._params(), *job.params)) == canonical(dict(job.params))
        except VersioningError:
            return False

    def _params(self) -> dict[str, Any]:
        """The values of the parameter file, parsed again only if its text has changed."""
        path = self.root / PARAMS_FILE
        text = path.read_bytes() if path.exists() else b""
        if self._read_params is None or self._read_params[0] != text:
            self._read_params = (text, read_yaml(path))
        return self._read_params[1]

    def take_over(self, jobs: Iterable[Job]) -> None:
        """Flush the journal of a run that was killed, with the outputs that DVC's cache has lost, and with the stage
        that makes what stands for sources and parameters, which this process has made.
        """
        lost = {}
        for job in jobs:
            if job.name == INPUTS:
                self._forget_hashes(job)
            stale = self.stale(job) is not None
            if not stale and self._lost(job):
                lost[job.name] = self.entries[job.name]
            elif stale and job.name == INPUTS and self._inputs_stand(job, job.outs):
                lost[job.name] = self.entries[job.name] = self._entry(job)
        if lost:
            self._append(lost)
        if self.pending:
            self.flush()

    def _lost(self, job: Job) -> bool:
        """Whether DVC's cache lacks an output of a job that is up to date: DVC would run the job again."""
        known = _hashes_of(self.entries[job.name], "outs")
        kept = (found for path, found in known.items() if not held_by_git(path, self.in_git))
        return any(not Path(self.repo.cache.local.oid_to_path(found)).exists() for found in kept if found)

    def flush(self) -> None:
        """Move the journal to ``dvc.lock``, and copy the outputs of its entries to DVC's cache.

        Entries whose outputs have been changed since the job ended are dropped.

        Raises
        ------
        VersioningError
            If ``dvc.lock`` or the cache cannot be written; the journal is kept.
        """
        start = time.monotonic()
        try:
            with self._locked() as repo:
                ended = self._journalled()
                good = {name: entry for name, entry in ended.items() if self._cached(repo, entry)}
                if good:
                    stages = dict(sorted((self._locked_entries() | good).items()))  # in whatever order jobs end
                    text = io.StringIO()
                    plain_yaml().dump({"schema": "2.0", "stages": stages}, text)
                    write_text(self.lock_file, text.getvalue())
                self._unwritten.clear()
                if self.journal.is_file():
                    self.journal.unlink()
        except VersioningError:
            raise
        except Exception as error:
            raise VersioningError(f"cannot write to dvc.lock or DVC's cache ({error}); the journal is kept") from error
        self._entries = None
        self._last_flush = (time.monotonic(), time.monotonic() - start)

    def _cached(self, repo: Repo, entry: dict[str, Any]) -> bool:
        """Copy the outputs of an entry to DVC's cache; False if one differs from the entry."""
        from dvc_objects.errors import ObjectFormatError
        from dvc_objects.fs.local import localfs

        outs = _hashes_of(entry, "outs")
        for path in outs:
            self._hashes.pop(path, None)
        if any(self.hash(path) != found for path, found in outs.items()):
            return False
        for path, found in outs.items():
            if found and not held_by_git(path, self.in_git):
                with contextlib.suppress(ObjectFormatError, FileNotFoundError):
                    repo.cache.local.check(found)  # which removes what an interrupted copy has left there
                repo.cache.local.add(str(self.root / path), localfs, found)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Repo]:
        from dvc.lock import LockError

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.repo.lock.lock()
                break
            except LockError as error:
                if time.monotonic() > deadline:
                    raise VersioningError(
                        f"another DVC command has held its lock for {PATIENCE_S} s; the journal is kept, and the "
                        f"next snakemake writes it to dvc.lock"
                    ) from error
                time.sleep(0.5)
        try:
            yield self.repo
        finally:
            self.repo.lock.unlock()


def _hashes_of(entry: dict[str, Any], kind: str) -> dict[str, str | None]:
    # A file with another kind of hash counts as changed.
    return {item["path"]: item.get("md5") for item in entry.get(kind) or [] if item.get("hash", "md5") == "md5"}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None

"""What DVC remembers of each job, in ``dvc.lock``: read to judge, written when a job has ended."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.versioning.common import VersioningError, canonical, read_yaml, values_at, write_text
from latent_atlas.versioning.pipeline import PARAMS_FILE, Job, held_by_git, plain_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

COMMAND = "its command changed"
PARAMS = "its parameters changed"
INPUT = "its input changed"
OUTPUT = "its output is missing or changed"
UNKNOWN = "dvc.lock does not know it"
PATIENCE_S = 60  # how long to wait for another DVC command to release its lock


def available(root: Path) -> bool:
    """Whether this folder is a DVC repository under git."""
    return (root / ".dvc").is_dir() and any((folder / ".git").exists() for folder in (root, *root.parents))


class LockFile:
    """``dvc.lock`` of a repository, with what has ended since it was written.

    A job that has ended is first noted in a journal, which a kill cannot take away, and from there written to
    ``dvc.lock``. What could not be written stays in the journal for the next time.

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
        self._read_params: tuple[bytes, dict[str, Any]] | None = None
        self._last_flush = (0.0, 0.0)  # when it was, how long it took

    # reading

    @property
    def entries(self) -> dict[str, Any]:
        """What is known of each stage: the lock file, and what has ended since."""
        if self._entries is None:
            self._entries = self._locked_entries() | self._journalled()
        return self._entries

    def _locked_entries(self) -> dict[str, Any]:
        if not self.lock_file.exists():
            return {}
        try:
            text = self.lock_file.read_text(encoding="utf-8")
            return remembered(self.root / ".dvc" / "tmp" / "read-lock.json", text, lambda: _stages_of(text))
        except Exception as error:
            raise VersioningError(
                f"{self.lock_file} cannot be read ({error}): if two versions of it were merged, choose one side "
                f"(git checkout --ours . or --theirs .), then run snakemake, which makes what is missing"
            ) from error

    def _journalled(self) -> dict[str, Any]:
        """The entries of the journal; a line that was cut short is none."""
        entries: dict[str, Any] = {}
        if self.journal.exists():
            for line in self.journal.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    entries |= json.loads(line)
        return entries

    def stale(self, job: Job) -> str | None:
        """Why a job must run, by content alone; None if its outputs are what it would make."""
        return next(self.changes(job), None)

    def changes(self, job: Job) -> Iterator[str]:
        """All that differs from what is known of a job."""
        entry = self.entries.get(job.name)
        if entry is None:
            yield UNKNOWN
            return
        if entry.get("cmd") != job.command:
            yield COMMAND
        if canonical((entry.get("params") or {}).get(PARAMS_FILE) or {}) != canonical(dict(job.params)):
            yield PARAMS
        for kind, paths, change in (("deps", job.deps, INPUT), ("outs", job.outs, OUTPUT)):
            known = _hashes_of(entry, kind)
            if set(known) != set(paths) or any(self.hash(path) != known[path] for path in paths):
                yield change

    def recorded(self, job: Job, path: str) -> str | None:
        """The MD5 that an input had when the job ran last."""
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
        """DVC's view of the repository."""
        if self._repo is None:
            from dvc.repo import Repo

            self._repo = Repo(str(self.root))
        return self._repo

    def _look_anew(self, job: Job) -> None:
        for path in (*job.deps, *job.outs):
            self._hashes.pop(path, None)

    # writing

    def started(self, job: Job, unfinished: Collection[str] = ()) -> None:
        """Note what a job reads, to see at its end whether that changed under it.

        ``unfinished`` names inputs that other jobs have yet to make: they are not compared.
        """
        self._look_anew(job)
        self._starts[job.name] = {path: self.hash(path) for path in job.deps if path not in unfinished}

    def succeeded(self, job: Job) -> None:
        """Note that a job has ended well: in the journal at once, in ``dvc.lock`` at the next flush.

        Nothing is noted where an input or a parameter was edited while it ran, since its outputs then belong to
        neither version, or where an output is missing.
        """
        self._look_anew(job)
        before = self._starts.pop(job.name, None)
        entry = self._entry(job)
        deps = _hashes_of(entry, "deps")
        unchanged = before is not None and before.items() <= deps.items() and self._params_stand(job)
        if not unchanged or None in {*deps.values(), *_hashes_of(entry, "outs").values()}:
            return
        self.journal.parent.mkdir(parents=True, exist_ok=True)
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({job.name: entry}) + "\n")
        self.entries[job.name] = entry
        when, cost = self._last_flush
        if time.monotonic() - when > 5 * cost:  # seldom enough to cost little
            self.flush()

    def _entry(self, job: Job) -> dict[str, Any]:
        """What ``dvc.lock`` is to say of a job, in DVC's own form."""
        entry: dict[str, Any] = {"cmd": job.command, "deps": self._items(job.deps)}
        if job.params:
            entry["params"] = {PARAMS_FILE: dict(job.params)}
        return entry | {"outs": self._items(job.outs)}

    def _items(self, paths: Iterable[str]) -> list[dict[str, Any]]:
        return [
            {"path": path, "hash": "md5", "md5": self.hash(path), "size": _size(self.root / path)}
            for path in sorted(paths)
        ]

    def _params_stand(self, job: Job) -> bool:
        """Whether the parameter file still says what the job was started with."""
        if not job.params:
            return True
        try:
            return canonical(values_at(self._params(), *job.params)) == canonical(dict(job.params))
        except VersioningError:
            return False

    def _params(self) -> dict[str, Any]:
        """What the parameter file says now; parsed anew only if its text has changed."""
        path = self.root / PARAMS_FILE
        text = path.read_bytes() if path.exists() else b""
        if self._read_params is None or self._read_params[0] != text:
            self._read_params = (text, read_yaml(path))
        return self._read_params[1]

    def take_over(self, jobs: Iterable[Job]) -> None:
        """Record what ended in a run that was killed before it could say so, and what DVC's cache has lost."""
        lost = [job for job in jobs if self.stale(job) is None and self._lost(job)]
        if lost:
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            with self.journal.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({job.name: self.entries[job.name]}) + "\n" for job in lost)
        if self.journal.exists():
            self.flush()

    def _lost(self, job: Job) -> bool:
        """Whether DVC's cache lacks an output of a job that is there and current: DVC would run the job again."""
        known = _hashes_of(self.entries[job.name], "outs")
        kept = (found for path, found in known.items() if not held_by_git(path, self.in_git))
        return any(not Path(self.repo.cache.local.oid_to_path(found)).exists() for found in kept if found)

    def flush(self) -> None:
        """Move the journal to ``dvc.lock``, and the outputs that it speaks of to DVC's cache.

        Entries whose outputs are no longer as the job left them are dropped.

        Raises
        ------
        VersioningError
            If DVC's side cannot be written; the journal is kept.
        """
        start = time.monotonic()
        try:
            with self._locked() as repo:
                ended = self._journalled()
                good = {name: entry for name, entry in ended.items() if self._cached(repo, entry)}
                if good:
                    stages = self._locked_entries() | good
                    text = io.StringIO()
                    plain_yaml().dump({"schema": "2.0", "stages": stages}, text)
                    write_text(self.lock_file, text.getvalue())
                self.journal.unlink(missing_ok=True)
        except VersioningError:
            raise
        except Exception as error:
            raise VersioningError(f"what has ended could not be told to DVC ({error}); it is kept for later") from error
        self._entries = None
        self._last_flush = (time.monotonic(), time.monotonic() - start)

    def _cached(self, repo: Repo, entry: dict[str, Any]) -> bool:
        """Bring the outputs of an entry into DVC's cache; False if one is not what the entry says."""
        from dvc_objects.fs.local import localfs

        outs = _hashes_of(entry, "outs")
        for path in outs:
            self._hashes.pop(path, None)
        if any(self.hash(path) != found for path, found in outs.items()):
            return False
        for path, found in outs.items():
            if found and not held_by_git(path, self.in_git):
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
                        f"another DVC command has held its lock for {PATIENCE_S} s; what has ended is kept, and told "
                        f"to DVC by the next snakemake"
                    ) from error
                time.sleep(0.5)
        try:
            yield self.repo
        finally:
            self.repo.lock.unlock()


def remembered(file: Path, source: str, make: Callable[[], Any]) -> Any:
    """What is made of a text, kept as JSON beside it: YAML takes long to read, and seldom changes.

    Parameters
    ----------
    file : Path
        Where it is kept, with a checksum of the text that it was made of. It may be deleted at any time.
    source : str
    make : callable
        Called if nothing, or something made of another text, is kept there.
    """
    checksum = hashlib.md5(source.encode()).hexdigest()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["of"] == checksum:
            return kept["made"]
    made = make()
    with contextlib.suppress(VersioningError, TypeError):
        write_text(file, json.dumps({"of": checksum, "made": made}))
    return made


def _stages_of(text: str) -> dict[str, Any]:
    return dict((plain_yaml().load(text) or {}).get("stages") or {})


def _hashes_of(entry: dict[str, Any], kind: str) -> dict[str, str | None]:
    return {item["path"]: item.get("md5") for item in entry.get(kind) or []}


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None

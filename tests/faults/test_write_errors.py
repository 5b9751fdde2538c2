"""Each write of each stage fails once: the stage says so in one sentence, old files stay whole, a rerun gives all.

A stage runs once. At each of its calls a copy of the process sees the call fail and runs to its end; then all files are
put back, and the stage goes on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import warm
from repository import Repository

from faults import JOBS, Answer, Call, Copy, Door, Ended, command, made, noted

ERRORS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, "EIO": errno.EIO, "full": errno.ENOSPC}  # full: from then on
OVER_OLDER = ("EIO", "full")  # older outputs are there; else none
SAMPLE = 2  # failing calls of each job in a short run
RERUNS = 4
OLD = b"an older file\n"


def accompanies(call: Call) -> bool:
    """Whether the results do not depend on a call: logs, records, the state of a training, files that are removed."""
    return call.path.startswith("logs") or ".resume" in call.path or call.removes


def temporary(call: Call) -> bool:
    """Whether it is about a file that is renamed, or one in a folder that is removed."""
    return ".part" in call.path or ".fetch-" in call.path


def scan(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    """All files and folders below a folder, each after the one that it is in."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir():
                yield from scan(entry.path)


class Stamp(NamedTuple):
    """What tells whether a file has changed."""

    path: str
    inode: int
    size: int
    modified: int


class Bench:
    """A copy of the study in which a job is run again and again."""

    def __init__(self, undisturbed: Repository, job: str, folder: Path, library: str) -> None:
        self.root, self.held = folder / "study", folder / "held"
        shutil.copytree(undisturbed.root, self.root, ignore=shutil.ignore_patterns(".git", ".dvc", "src", ".snakemake"))
        self.words, outs = command(self.root, job)
        self.wanted = {out: (undisturbed.root / out).read_bytes() for out in outs}
        self.door = Door(self.root)
        self.environment = undisturbed.environment | self.door.environment
        self.environment["PATH"] = f"{warm.tools(library)}{os.pathsep}{os.environ['PATH']}"
        self.read: dict[Stamp, bytes] = {}
        self.before = self.files()
        self.states: set[str] = set()  # after failures, as they were met
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, answer: Answer = made) -> subprocess.CompletedProcess[str]:
        """Run the job, with answers to its calls."""
        with self.door.answering(answer):
            return subprocess.run(
                self.words, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
            )

    def stamps(self) -> dict[str, Stamp]:
        """All files below the study."""
        files = [(entry.path, entry.stat()) for entry in scan(self.root) if not entry.is_dir()]
        return {path: Stamp(path, found.st_ino, found.st_size, found.st_mtime_ns) for path, found in files}

    def content(self, stamp: Stamp) -> bytes:
        """The content of a file, read again only if it has changed."""
        if stamp not in self.read:
            self.read[stamp] = Path(stamp.path).read_bytes()
        return self.read[stamp]

    def files(self) -> set[str]:
        """The names of all files below the study."""
        return {path.removeprefix(f"{self.root}/") for path in self.stamps()}

    def state(self) -> str:
        """A checksum of all files below the study but logs, with their names."""
        digest = hashlib.sha256()
        for path, stamp in sorted(self.stamps().items()):
            if not path.startswith(f"{self.root}/logs/"):
                digest.update(f"{path}\0".encode() + hashlib.sha256(self.content(stamp)).digest())
        return digest.hexdigest()

    def prepare(self, older: bool) -> None:
        """Put older files in the place of all outputs, or remove them with their folders."""
        for out in self.wanted:
            path = self.root / out
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(OLD)
            if not older:
                path.unlink()
                with contextlib.suppress(OSError):  # others are in it
                    path.parent.rmdir()

    @contextlib.contextmanager
    def put_back(self, process: int) -> Iterator[Callable[[], None]]:
        """Gives a function that puts back all files as they are now, those that a process has open as the same."""
        folders = [entry.path for entry in scan(self.root) if entry.is_dir()]
        known = {stamp: self.content(stamp) for stamp in self.stamps().values()}
        self.read = dict(known)
        paths = {stamp.path for stamp in known}
        self.held.mkdir()
        held = {}
        for file in Path(f"/proc/{process}/fd").iterdir():
            path = str(file.readlink()).removesuffix(" (deleted)")  # by an earlier copy, and put back
            if path in paths:
                held[path] = self.held / file.name
                os.link(path, held[path])

        def put_back() -> None:
            for entry in reversed(list(scan(self.root))):
                if entry.path not in paths and entry.path not in folders:
                    Path(entry.path).rmdir() if entry.is_dir() else Path(entry.path).unlink()
            for folder in folders:
                Path(folder).mkdir(exist_ok=True)
            now = self.stamps()
            for stamp, content in known.items():
                if now.get(stamp.path) != stamp:
                    path = Path(stamp.path)
                    if stamp.path in held and not (path.exists() and path.samefile(held[stamp.path])):
                        path.unlink(missing_ok=True)
                        os.link(held[stamp.path], path)
                    with path.open("r+b" if stamp.path in held else "wb") as file:
                        file.write(content)
                        file.truncate()

        yield put_back
        shutil.rmtree(self.held)

    def contents(self) -> dict[str, bytes | None]:
        """All outputs, None for one that is missing."""
        paths = {out: self.root / out for out in self.wanted}
        return {out: path.read_bytes() if path.exists() else None for out, path in paths.items()}

    def disturb(self, chosen: Collection[tuple[int, str]] | None, older: bool) -> Answer:
        """Try the chosen calls and errors, or all if None; the job itself goes on undisturbed."""
        numbers = itertools.count()

        def answer(call: Call, copy: Copy) -> int:
            number = next(numbers)
            errors = [error for error in ERRORS if (error in OVER_OLDER) == older]
            errors = [error for error in errors if chosen is None or (number, error) in chosen]
            with self.put_back(call.process) if errors else contextlib.nullcontext(lambda: None) as put_back:
                for error in errors:
                    ended = copy(ERRORS[error], error == "full")
                    if problems := self.judged(ended) + self.rerun(ended):
                        self.wrong.append(f"{error} at call {number}, {call}: {problems}\n{ended.said[-1500:]}")
                    put_back()
            return 0

        return answer

    def judged(self, ended: Ended) -> list[str]:
        """What is wrong with how a job took the failure of calls."""
        problems = []
        stray = {name for name in self.files() - self.before if ".resume" not in name}
        problems += [f"stray files {sorted(stray)}"] * bool(stray)
        problems += ["a traceback"] * ("Traceback" in ended.said or "unexpected error" in ended.said)
        errors, warnings = (
            [line for line in ended.said.splitlines() if f"{kind}: " in line] for kind in ("error", "warning")
        )
        if ended.status == 0:
            problems += [f"it goes on after {call}" for call in ended.failed if not accompanies(call)]
            problems += ["other bytes"] * (self.contents() != self.wanted)
        else:
            problems += [f"exit status {ended.status}"] * (ended.status != 1)
            problems += [f"{len(errors)} messages"] * (len(errors) != 1)
            half = [out for out, content in self.contents().items() if content not in (None, OLD, self.wanted[out])]
            problems += [f"neither old nor new: {half}"] * bool(half)
        first = ended.failed[0]
        if not first.removes and not any(first.named in line for line in errors + warnings):
            problems.append(f"{first.named} is not named")
        return problems

    def rerun(self, ended: Ended) -> list[str]:
        """What is wrong with a plain rerun, where a job has failed.

        It reads nothing else than the files. After :data:`RERUNS` states of them, which differ in how many outputs are
        new, each eighth is tried.
        """
        self.outcomes["cases"] += 1
        self.outcomes["ended_with_a_message" if ended.status else "went_on"] += 1
        if ended.status == 0 or (state := self.state()) in self.states:
            return []
        self.states.add(state)
        if len(self.states) > RERUNS and len(self.states) % 8:
            return []
        again = self.run()
        problems = [
            *[f"the rerun: {again.stderr[-500:]}"] * bool(again.returncode),
            *["a rerun gives other bytes"] * (self.contents() != self.wanted),
            *[f"a rerun leaves {sorted(self.files() ^ self.before)}"] * (self.files() != self.before),
        ]
        self.outcomes["reruns"] += 1
        return problems


@pytest.fixture
def bench(job: str, undisturbed: Repository, library: str, tmp_path: Path) -> Iterator[Bench]:
    """A place for a job."""
    found = Bench(undisturbed, job, tmp_path, library)
    yield found
    found.door.close()


@pytest.mark.parametrize("amount", ["some", pytest.param("all", marks=pytest.mark.faults)])
@pytest.mark.parametrize("job", JOBS)
def test_each_write_of_a_stage(job: str, amount: str, bench: Bench, count: Callable[..., None]) -> None:
    made_undisturbed: list[Call] = []
    bench.prepare(older=True)
    done = bench.run(noted(made_undisturbed))
    assert done.returncode == 0, done.stderr
    assert bench.contents() == bench.wanted
    assert bench.files() == bench.before
    assert {"open", "write", "fsync", "rename"} <= {call.name for call in made_undisturbed}
    # One function writes everything: under a temporary name.
    log = bench.words[bench.words.index("--log") + 1]
    assert {call.path for call in made_undisturbed if call.name == "open" and not temporary(call)} <= {log}
    every = list(itertools.product(range(len(made_undisturbed)), ERRORS))
    chosen, states = None, [True, False]
    if amount == "some":  # of half of the jobs over older outputs, of the others where there are none
        states = [JOBS.index(job) % 2 == 0]
        possible = [case for case in every if (case[1] in OVER_OLDER) == states[0]]
        chosen = random.Random(job).sample(possible, SAMPLE)  # noqa: S311
    for older in states:
        bench.prepare(older)
        done = bench.run(bench.disturb(chosen, older))
        assert done.returncode == 0, done.stderr
        assert bench.contents() == bench.wanted
        assert bench.files() == bench.before
    count(f"write errors, {amount} calls", **bench.outcomes)
    assert bench.outcomes["cases"] >= (len(every) if chosen is None else SAMPLE)
    assert not bench.wrong, f"{len(bench.wrong)} of {bench.outcomes['cases']}:\n" + "\n".join(bench.wrong)

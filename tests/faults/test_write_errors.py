"""Each write of each stage fails once: the stage says so in one sentence, old files stay whole, a rerun gives all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import warm
from repository import Repository

from faults import JOBS, command

SOURCE = Path(__file__).parents[1] / "helpers" / "failing_writes.c"
ERRORS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, "EIO": errno.EIO, "full": errno.ENOSPC}  # full: from then on
OVER_OLDER = ("EIO", "full")  # older outputs are there; else none
SAMPLE = 2  # failing calls of each job in a short run
OLD = b"an older file\n"
pytestmark = pytest.mark.skipif(not warm.POSSIBLE, reason="calls fail by a library that is preloaded, on Linux")


class Call(NamedTuple):
    """A call that writes: open, write, fsync, rename, mkdir, unlink or rmdir, and its path below the study."""

    name: str
    path: str
    failed: bool

    @property
    def accompanies(self) -> bool:
        """Whether the results do not depend on it: logs, records, the state of a training, files that are removed."""
        return self.path.startswith("logs") or ".resume" in self.path or self.name in ("unlink", "rmdir")

    @property
    def temporary(self) -> bool:
        """Whether it is a file that is renamed, or one in a folder that is removed."""
        return ".part" in self.path or ".fetch-" in self.path

    @property
    def named(self) -> str:
        """What a message must name."""
        folder, _, name = self.path.rpartition("/")
        name = re.sub(r"^\.(.+)\.\d+\.part(\.\w+)$", r"\1\2", name)
        return folder if name.startswith(".fetch-") else f"{folder}/{name}".strip("/")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled library that makes calls fail."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc and the C library's headers (Debian's packages gcc and libc6-dev)")
    path = tmp_path_factory.mktemp("library") / "failing_writes.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-ldl"], check=True)
    return str(path)


class Bench:
    """A copy of the study in which a job is run again and again."""

    def __init__(self, undisturbed: Repository, job: str, folder: Path, library: str) -> None:
        self.root, self.library, self.log = folder / "study", library, folder / "calls"
        shutil.copytree(undisturbed.root, self.root, ignore=shutil.ignore_patterns(".git", ".dvc", "src", ".snakemake"))
        self.words, outs = command(self.root, job)
        self.wanted = {out: (undisturbed.root / out).read_bytes() for out in outs}
        self.environment = undisturbed.environment | {"PATH": f"{warm.tools(library)}{os.pathsep}{os.environ['PATH']}"}

    def run(self, nth: int = 0, error: str = "EIO") -> tuple[subprocess.CompletedProcess[str], list[Call]]:
        """Run the job, its n-th call failing (none if 0); what it said, and its calls."""
        self.log.unlink(missing_ok=True)
        faults = {
            "FAULT_BELOW": str(self.root), "FAULT_LOG": str(self.log), "FAULT_NTH": str(nth),
            "FAULT_ERROR": str(ERRORS[error]), **({"FAULT_ON": "1"} if error == "full" else {}),
        }  # fmt: skip
        done = subprocess.run(
            self.words, cwd=self.root, env=self.environment | faults, capture_output=True, text=True, check=False
        )
        lines = [line.split("\t") for line in self.log.read_text().splitlines()]
        return done, [Call(name, path, failed == "1") for _, name, path, failed in lines]

    def files(self) -> set[str]:
        """All files below the study."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}

    def state(self) -> str:
        """A checksum of all files below the study but logs, with their names."""
        digest = hashlib.sha256()
        for name in sorted(name for name in self.files() if not name.startswith("logs/")):
            digest.update(f"{name}\0".encode() + hashlib.sha256((self.root / name).read_bytes()).digest())
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

    def is_there(self, call: Call) -> bool:
        """Whether a folder that could not be made is there anyway."""
        return call.name == "mkdir" and (self.root / call.path).is_dir()

    def contents(self) -> dict[str, bytes | None]:
        """All outputs, None for one that is missing."""
        paths = {out: self.root / out for out in self.wanted}
        return {out: path.read_bytes() if path.exists() else None for out, path in paths.items()}


@pytest.mark.parametrize("amount", ["some", pytest.param("all", marks=pytest.mark.faults)])
@pytest.mark.parametrize("job", JOBS)
def test_each_write_of_a_stage(
    job: str, amount: str, undisturbed: Repository, library: str, tmp_path: Path, count: Callable[..., None]
) -> None:
    bench = Bench(undisturbed, job, tmp_path, library)
    before = bench.files()
    numbers = {}
    for older in (True, False):
        bench.prepare(older)
        done, calls = bench.run()
        assert done.returncode == 0, done.stderr
        assert bench.contents() == bench.wanted
        assert bench.files() == before
        assert {"open", "write", "fsync", "rename", "mkdir"} <= {call.name for call in calls}
        # One function writes everything: under a temporary name.
        assert {call.path for call in calls if call.name == "open" and not call.temporary} <= {log_of(bench.words)}
        numbers[older] = len(calls)
    cases = [(nth, error) for error in ERRORS for nth in range(1, numbers[error in OVER_OLDER] + 1)]
    if amount == "some":
        cases = random.Random(job).sample(cases, SAMPLE)  # noqa: S311
    wrong = []
    outcomes = dict.fromkeys(("cases", "ended_with_a_message", "went_on", "reruns"), 0)
    seen: set[str] = set()
    for nth, error in cases:
        bench.prepare(error in OVER_OLDER)
        done, made = bench.run(nth, error)
        call = next((call for call in made if call.failed), None)
        assert call is not None, f"there was no call {nth}"
        problems = judged(bench, done, made, before)
        if not done.returncode:
            problems += ["other bytes"] * (bench.contents() != bench.wanted)
        elif (state := bench.state()) not in seen:  # a rerun reads nothing else than these files
            again, _ = bench.run()
            problems += [f"the rerun: {again.stderr[-500:]}"] * bool(again.returncode)
            problems += ["a rerun gives other bytes"] * (bench.contents() != bench.wanted)
            problems += [f"a rerun leaves {sorted(bench.files() ^ before)}"] * (bench.files() != before)
            seen.update([] if problems else [state])
            outcomes["reruns"] += 1
        if problems:
            wrong.append(f"{error} at call {nth}, {call.name} {call.path}: {problems}\n{done.stderr[-1500:]}")
            for name in bench.files() - before:
                (bench.root / name).unlink()
        outcomes["cases"] += 1
        outcomes["ended_with_a_message" if done.returncode else "went_on"] += 1
    count(f"write errors, {amount} calls", **outcomes)
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)


def log_of(words: list[str]) -> str:
    """The log of a job, by its command."""
    return words[words.index("--log") + 1]


def judged(bench: Bench, done: subprocess.CompletedProcess[str], calls: list[Call], before: set[str]) -> list[str]:
    """What is wrong with how a job took the failure of calls."""
    problems = []
    failed = [call for call in calls if call.failed]
    stray = {name for name in bench.files() - before if ".resume" not in name}
    problems += [f"stray files {sorted(stray)}"] * bool(stray)
    problems += ["a traceback"] * ("Traceback" in done.stderr or "unexpected error" in done.stderr)
    errors, warnings = (
        [line for line in done.stderr.splitlines() if f"{kind}: " in line] for kind in ("error", "warning")
    )
    if done.returncode == 0:
        problems += [f"it goes on after {call}" for call in failed if not (call.accompanies or bench.is_there(call))]
    else:
        problems += [f"exit status {done.returncode}"] * (done.returncode != 1)
        problems += [f"{len(errors)} messages"] * (len(errors) != 1)
        half = [out for out, content in bench.contents().items() if content not in (None, OLD, bench.wanted[out])]
        problems += [f"neither old nor new: {half}"] * bool(half)
    silent = [call for call in failed[:1] if call.name not in ("unlink", "rmdir") and not bench.is_there(call)]
    problems += [
        f"{call.named} is not named" for call in silent if not any(call.named in line for line in errors + warnings)
    ]
    return problems

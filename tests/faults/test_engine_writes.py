"""Writes of the accounting and of the engines fail: no result is lost, and the next run mends what they keep."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from repository import Repository

from faults import Answer, Call, Copy, Door, command, made
from latent_atlas.versioning.pipeline import stages_of

ERRORS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, "EIO": errno.EIO, "full": errno.ENOSPC}  # full: from then on
JOB = "fetch"
ENGINES = {
    "snakemake": ("snakemake", "--cores", "1", "data/images.safetensors"),
    "dvc repro": ("dvc", "repro", JOB),
}
# What src/latent_atlas/versioning and the records of jobs write, under temporary names or their own.
OURS = re.compile(
    r"\.?dvc\.(\d+\.part\.)?(lock|yaml)|\.dvc/tmp/(\.?read-lock\.|ended-jobs|r?w?lock)|\.dvc/cache"
    r"|\.latent-atlas|\.snakemake/latent-atlas\.lock|results/(report/)?\.?records\."
)
OF_JOBS = ("data", "logs", "results")
SOME = 3  # failing calls of an engine in a short run


def is_ours(call: Call) -> bool:
    """Whether this package makes a call, beside those of a stage."""
    return OURS.match(call.path) is not None


def is_theirs(call: Call) -> bool:
    """Whether an engine makes a call for itself."""
    return not is_ours(call) and not call.path.startswith(OF_JOBS)


class Bench:
    """Copies of the study of which nothing is made, in which an engine makes one job."""

    def __init__(self, undisturbed: Repository, engine: str, folder: Path, library: str) -> None:
        self.undisturbed, self.engine, self.folder, self.library = undisturbed, engine, folder, library
        _, outs = command(undisturbed.root, JOB)
        self.wanted = {out: (undisturbed.root / out).read_bytes() for out in outs}
        self.entry = stages_of((undisturbed.root / "dvc.lock").read_text(encoding="utf-8"))[JOB]

    def new(self) -> None:
        """Begin with another copy."""
        shutil.rmtree(self.folder / "study", ignore_errors=True)
        self.study = self.undisturbed.from_nothing(self.folder / "study")

    def run(self, *words: str, answer: Answer = made) -> subprocess.CompletedProcess[str]:
        """Run the engine, or another command, with answers to the calls."""
        door = Door(self.study.root)
        environment = self.study.environment | door.environment
        environment["PATH"] = f"{warm.tools(self.library)}{os.pathsep}{environment['PATH']}"
        try:
            with door.answering(answer):
                return subprocess.run(
                    words or ENGINES[self.engine],
                    cwd=self.study.root, env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
        finally:
            door.close()

    def contents(self) -> dict[str, bytes | None]:
        """The outputs, None for one that is missing."""
        paths = {out: self.study.root / out for out in self.wanted}
        return {out: path.read_bytes() if path.exists() else None for out, path in paths.items()}

    def rerun(self) -> list[str]:
        """What is wrong with a plain rerun, and with what is known of the job after it."""
        again = self.run()
        if "snakemake --unlock" in again.stderr or "--unlock" in again.stderr:
            self.run("snakemake", "--unlock")
            again = self.run()
        lock = self.study.root / "dvc.lock"
        entry = stages_of(lock.read_text(encoding="utf-8")).get(JOB) if lock.exists() else None
        cache = self.study.root / ".dvc/cache/files/md5"
        kept = {
            f"{path.parent.name}{path.name}": path.read_bytes() for path in cache.glob("??/*") if len(path.name) == 30
        }
        lacking = [out["path"] for out in self.entry["outs"] if kept.get(out["md5"]) != self.wanted[out["path"]]]
        return [
            *[f"the rerun: {again.stdout[-500:]}{again.stderr[-500:]}"] * bool(again.returncode),
            *["a rerun gives other bytes"] * (self.contents() != self.wanted),
            *["dvc.lock has another entry"] * (entry != self.entry),
            *[f"DVC's cache lacks {lacking}"] * bool(lacking),
        ]


@pytest.fixture
def bench(engine: str, undisturbed: Repository, library: str, tmp_path: Path) -> Bench:
    """A place for an engine."""
    return Bench(undisturbed, engine, tmp_path, library)


def failing(number: int, error: str, which: Callable[[Call], bool], failed: list[Call]) -> Answer:
    """Let the call of a number, of those of a kind, fail; or all of the kind from then on, but removals."""
    seen = 0

    def answer(call: Call, copy: Copy) -> int:
        nonlocal seen
        if not which(call):
            return 0
        seen += 1
        if seen - 1 == number or (seen > number and error == "full" and not call.removes):
            failed.append(call)
            return ERRORS[error]
        return 0

    return answer


@pytest.mark.parametrize("amount", ["some", pytest.param("all", marks=pytest.mark.faults)])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
@pytest.mark.parametrize("engine", ENGINES)
def test_accounting(engine: str, whose: str, amount: str, bench: Bench, count: Callable[..., None]) -> None:
    which = {"ours": is_ours, "theirs": is_theirs}[whose]
    calls: list[Call] = []
    bench.new()
    done = bench.run(answer=lambda call, _: calls.append(call) or 0)
    assert done.returncode == 0, done.stderr
    assert bench.contents() == bench.wanted
    calls = [call for call in calls if which(call)]
    every = [(number, error) for error in ("EIO", "full", "EACCES", "ENOSPC") for number in range(len(calls))]
    print(engine, whose, len(calls))
    cases = every if amount == "all" else random.Random(f"{engine} {whose}").sample(every, SOME)  # noqa: S311
    wrong = []
    warned = 0
    for number, error in cases:
        bench.new()
        failed: list[Call] = []
        done = bench.run(answer=failing(number, error, which, failed))
        said = done.stdout + done.stderr
        warnings = {line for line in said.splitlines() if line.startswith("Warning: ")}
        problems = []
        if whose == "ours" and engine == "snakemake":
            problems += [f"exit status {done.returncode}"] * bool(done.returncode)
            problems += ["other bytes"] * (bench.contents() != bench.wanted)
            problems += ["a traceback"] * ("Traceback" in said)
            problems += [f"{len(warnings)} warnings"] * (len(warnings) > 1)
            warned += bool(warnings)
        problems += bench.rerun()
        if problems:
            wrong.append(f"{error} at call {number}, {failed[:1]}: {problems}\n{said[-1500:]}")
        print(error, number, failed[:1], done.returncode, warnings, problems, flush=True)
    count(f"writes of the accounting, {engine}, {whose}, {amount} calls", cases=len(cases), warned=warned)
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)

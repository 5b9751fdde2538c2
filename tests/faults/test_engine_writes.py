"""Writes of the accounting and of the engines fail: no result is lost, and the next run mends what they keep."""

from __future__ import annotations

import errno
import itertools
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from repository import Repository

from faults import Answer, Call, Copy, Door, command, made, noted
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
SOME = {"accounting": 10, "snakemake": 3, "dvc repro": 2}  # failing calls in a short run
SNAKEFILE = """
from latent_atlas.versioning import attach
rule all:
    default_target: True
    input: "a.txt", "b.txt"
rule one:
    output: "{name}.txt"
    shell: "echo {wildcards.name} > {output}"
attach(workflow, "extras.yaml")
"""


def is_ours(call: Call) -> bool:
    """Whether this package makes a call, beside those of a stage."""
    return OURS.match(call.path) is not None


def of_jobs(call: Call) -> bool:
    """Whether a job makes a call, which test_write_errors.py is about."""
    return call.path.startswith(OF_JOBS)


WHOSE = {
    "accounting": ("snakemake", is_ours),
    "snakemake": ("snakemake", lambda call: not is_ours(call) and not of_jobs(call)),
    "dvc repro": ("dvc repro", lambda call: not of_jobs(call)),
}


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
        if "--unlock" in again.stderr:  # as it says
            self.run("snakemake", "--unlock")
            again = self.run()
        if "'./dvc.lock' validation failed" in again.stderr:  # DVC writes it in place: docs/promises.md
            (self.study.root / "dvc.lock").unlink()
            again = self.run()
        if "'.dvc/tmp/rwlock'. JSON structure is corrupted" in again.stderr:  # this too
            (self.study.root / ".dvc/tmp/rwlock").unlink()
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


def failing(number: int, error: str, which: Callable[[Call], bool], failed: list[Call]) -> Answer:
    """Let the call of a number, of those of a kind, fail; with "full" all of the kind from then on, but removals."""
    seen = itertools.count()

    def answer(call: Call, copy: Copy) -> int:
        if not which(call):
            return 0
        nth = next(seen)
        if nth != number and not (nth > number and error == "full" and not call.removes):
            return 0
        failed.append(call)
        return ERRORS[error]

    return answer


@pytest.mark.parametrize("amount", ["some", pytest.param("all", marks=pytest.mark.faults)])
@pytest.mark.parametrize("whose", WHOSE)
def test_writes_beside_the_jobs(
    whose: str, amount: str, undisturbed: Repository, library: str, tmp_path: Path, count: Callable[..., None]
) -> None:
    engine, which = WHOSE[whose]
    bench = Bench(undisturbed, engine, tmp_path, library)
    calls: list[Call] = []
    bench.new()
    done = bench.run(answer=noted(calls))
    assert done.returncode == 0, done.stderr
    assert bench.contents() == bench.wanted
    every = [(number, error) for error in ERRORS for number in range(sum(map(which, calls)))]
    assert every
    cases = every if amount == "all" else random.Random(whose).sample(every, SOME[whose])  # noqa: S311
    wrong = []
    outcomes: Counter[str] = Counter(cases=len(cases))
    for number, error in cases:
        bench.new()
        failed: list[Call] = []
        done = bench.run(answer=failing(number, error, which, failed))
        said = done.stdout + done.stderr
        problems = []
        if whose == "accounting":  # it never decides
            warnings = {line for line in said.splitlines() if line.lower().startswith("warning: ")}
            problems += [f"exit status {done.returncode}"] * bool(done.returncode)
            problems += ["other bytes"] * (bench.contents() != bench.wanted)
            problems += ["a traceback"] * ("Traceback" in said)
            problems += [f"{len(warnings)} warnings"] * (len(warnings) > (1 if error != "full" else len(failed)))
            outcomes["warned"] += bool(warnings)
        outcomes["ended with another status than 0"] += bool(done.returncode)
        problems += bench.rerun()
        if problems:
            wrong.append(f"{error} at call {number}, {failed[:1]}: {problems}\n{said[-1500:]}")
    count(f"writes beside the jobs, {whose}, {amount} calls", **outcomes)
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("target", ["all", "a.txt"])
def test_a_pipeline_file_that_cannot_be_written(name: str, target: str, library: str, tmp_path: Path) -> None:
    study = Repository(tmp_path / "study")
    study.root.mkdir()
    (study.root / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    (study.root / "extras.yaml").write_text("in_git: []\n", encoding="utf-8")
    study.run("git", "init", "--quiet")
    study.run("dvc", "init", "--quiet")
    door = Door(study.root)
    study.extra = door.environment | {"PATH": str(warm.tools(library))}
    with door.answering(
        lambda call, _: errno.ENOSPC * (call.name == name and "dvc." in call.path and "yaml" in call.path)
    ):
        done = study.run("snakemake", "--cores", "1", target)
    said = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert len(said) == 1
    assert f"cannot write {study.root / 'dvc.yaml'}: No space left on device" in said[0]
    assert (study.root / "a.txt").read_text(encoding="utf-8") == "a\n"
    assert not (study.root / "dvc.yaml").exists()
    study.run("snakemake", "--cores", "1", target)
    door.close()
    assert set(stages_of((study.root / "dvc.yaml").read_text(encoding="utf-8"))) == {"one-a", "one-b"}

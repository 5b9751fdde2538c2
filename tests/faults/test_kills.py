"""Stages, Snakemake and DVC that are killed at any moment: a plain rerun gives the bytes of an undisturbed run."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from repository import Repository
from support import made_once

from faults import JOBS, command

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EPOCHS = 100  # a training that can be met at work
# What an engine makes in these tests: a graph of four jobs.
MADE = ("fetch", "pca", "train-fc4", "train_summary")
ENGINES = {
    "snakemake": ("snakemake", "--cores", "2", "results/train/summary.csv", "results/pca/summary.csv"),
    "dvc repro": ("dvc", "repro", "train_summary", "pca"),
}
# Moments that are told by a file: while a training is at work, while a file is written, between two jobs.
MOMENTS = {"training": "**/*.resume", "writing": "**/.*.part*", "between": "checkpoints/fc4.safetensors"}
WAIT_S = 300
STAGES, RUNS = 4, 1  # kills in a test


@pytest.fixture(scope="session")
def longer(undisturbed: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The study with a longer training, and what the engines make of it, undisturbed."""

    def make(folder: Path) -> None:
        repository = undisturbed.copy(folder)
        repository.edit_params(lambda values: values["training"].update(epochs=EPOCHS))
        repository.snakemake(*ENGINES["snakemake"][3:])

    return Repository(made_once(tmp_path_factory, "longer", make))


def disturb(study: Repository, words: tuple[str, ...], number: signal.Signals, moment: str | float) -> bool:
    """Start a command and send it a signal, with all that it started; whether it was at work then.

    ``moment`` names what is waited for, or says after how many seconds.
    """
    process = study.start(*words)
    end = time.monotonic() + (moment if isinstance(moment, float) else WAIT_S)
    while process.poll() is None and time.monotonic() < end:
        if isinstance(moment, str) and next(written(study.root / "results", MOMENTS[moment]), None):
            break
        time.sleep(0.002)
    killed = process.poll() is None
    if killed:
        os.killpg(process.pid, number)
    process.wait(timeout=WAIT_S)
    while time.monotonic() < end + WAIT_S:  # what it started ends, too
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return killed
        time.sleep(0.02)
    raise AssertionError("something is still at work")


def written(folder: Path, pattern: str) -> Iterator[Path]:
    """Files of a pattern, in a folder that is written to meanwhile."""
    with suppress(FileNotFoundError):
        yield from folder.glob(pattern)


def strays(root: Path) -> list[str]:
    """What an interrupted job may leave."""
    names = (path.relative_to(root) for part in ("results", "data", "logs") for path in (root / part).rglob("*"))
    return sorted(str(name) for name in names if any(mark in name.name for mark in (".part", ".resume", ".fetch-")))


def moments(chance: random.Random, seconds: float, *named: str) -> str | float:
    """A random moment, more often than one that is named."""
    choices: list[str | float] = [*named, chance.uniform(0, seconds), chance.uniform(0, seconds)]
    return chance.choice(choices)


@pytest.fixture(scope="session")
def seconds(longer: Repository, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], float]:
    """How long an engine takes for its graph, undisturbed, from nothing, and to the same bytes."""

    @functools.cache
    def seconds(engine: str) -> float:
        study = longer.from_nothing(tmp_path_factory.mktemp("first") / "study")
        start = time.monotonic()
        assert study.start(*ENGINES[engine]).wait() == 0
        assert all(same(study.root / out, longer.root / out) for job in MADE for out in command(study.root, job)[1])
        return time.monotonic() - start

    return seconds


SEEDS = range(17)
SHORT = {"stages": 0, "snakemake": 0, "dvc repro": 1}  # seeds of the usual run; test_versioning.py kills engines too


def marks(what: str, seed: int) -> list[pytest.MarkDecorator]:
    """Those of a seed: all but one are of the long run."""
    return [] if seed == SHORT[what] else [pytest.mark.faults]


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=marks("stages", seed)) for seed in SEEDS])
def test_stages(
    seed: int, longer: Repository, undisturbed: Repository, tmp_path: Path, count: Callable[..., None]
) -> None:
    chance = random.Random(seed)  # noqa: S311
    first = undisturbed.copy(tmp_path / "first")
    start = time.monotonic()
    first.start(*command(first.root, "layers-fc4")[0]).wait()
    seconds = 2 * (time.monotonic() - start)
    wrong = []
    killed = 0
    for number in range(STAGES):
        job = "train-fc4" if number % 2 else chance.choice(JOBS)
        base = longer if job == "train-fc4" else undisturbed
        study = Repository(tmp_path / "study")
        shutil.copytree(base.root, study.root, ignore=shutil.ignore_patterns(".git", ".dvc", ".snakemake"))
        words, outs = command(study.root, job)
        for out in outs:
            (study.root / out).unlink()
        moment = moments(chance, seconds, "writing", *["training"] * (job == "train-fc4"))
        what = SIGNALS[(seed + number) % 3]
        killed += disturb(study, tuple(words), what, moment)
        done = study.run(*words, check=False)
        other = [out for out in outs if not same(study.root / out, base.root / out)]
        if done.returncode or other or strays(study.root):
            wrong.append(f"{job}, {what.name}, {moment}: {other}, {strays(study.root)}, {done.stderr[-500:]}")
        shutil.rmtree(study.root)
    count("kills of single stages", kills=STAGES, at_work=killed, equal_bytes=STAGES - len(wrong))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("engine", "seed"),
    [pytest.param(engine, seed, marks=marks(engine, seed)) for engine in ENGINES for seed in SEEDS],
)
def test_engines(
    engine: str,
    seed: int,
    longer: Repository,
    seconds: Callable[[str], float],
    tmp_path: Path,
    count: Callable[..., None],
) -> None:
    chance = random.Random(f"{engine} {seed}")  # noqa: S311
    outs = [out for job in MADE for out in command(longer.root, job)[1]]
    wrong = []
    killed = 0
    for number in range(RUNS):
        study = longer.from_nothing(tmp_path / "study")
        moment = moments(chance, seconds(engine), *MOMENTS)
        what = SIGNALS[(2 * seed + number) % 3]
        killed += disturb(study, ENGINES[engine], what, moment)
        if what is signal.SIGKILL and engine == "snakemake":
            study.run("snakemake", "--unlock", check=False)
        done = study.run(*ENGINES[engine], check=False)
        other = [out for out in outs if not same(study.root / out, longer.root / out)]
        if done.returncode or other or strays(study.root):
            said = done.stdout[-500:] + done.stderr[-500:]
            wrong.append(f"{what.name}, {moment}: {other}, {strays(study.root)}, {said}")
        shutil.rmtree(study.root)
    count(f"kills of {engine}", kills=RUNS, at_work=killed, equal_bytes=RUNS - len(wrong))
    assert not wrong, "\n".join(wrong)


def same(path: Path, other: Path) -> bool:
    """Whether a file is there and equal to another."""
    return path.exists() and path.read_bytes() == other.read_bytes()

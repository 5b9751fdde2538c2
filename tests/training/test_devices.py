"""Choosing a device, and one GPU for each of several trainings."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support import sealed

from latent_atlas.errors import TrainingError
from latent_atlas.training.devices import choose_device, claim, describe, nodes_of

CLAIM = """
import sys
from pathlib import Path
from latent_atlas.training.devices import claim
ids, _, nodes = (part.split() for part in " ".join(sys.argv[1:]).partition(" -- "))
print(claim(ids, [Path(node) for node in nodes]), flush=True)
sys.stdin.read()
"""
NODES = ["--", "/dev/null", "/dev/full"]  # devices that are there everywhere, and can be locked like any other


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract UNIX sockets")


@pytest.fixture
def ids() -> list[str]:
    """Identifiers of three devices of which no other test of this machine knows."""
    return [f"{uuid.uuid4()}" for _ in range(3)]


@contextmanager
def claimants(ids: list[str], count: int, *before: str) -> Iterator[list[tuple[int, subprocess.Popen[str]]]]:
    """So many processes that have each claimed one of the devices, and hold it; ``before`` runs them elsewhere."""
    started = [
        subprocess.Popen(
            [*before, sys.executable, "-c", CLAIM, *ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        yield [(int(process.stdout.readline()), process) for process in started if process.stdout]
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps"])
def test_device_that_is_not_there(name: str) -> None:
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[name.partition(":")[0]]:
        pytest.skip(f"this machine has {name}")
    with pytest.raises(TrainingError, match=rf"device '{name}' is not available here: choose auto or one of .*cpu"):
        choose_device(name)


def test_auto_takes_what_is_there() -> None:
    there = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert choose_device("auto").type == ("cuda" if there[0] else "mps" if there[1] else "cpu")
    assert choose_device("cpu").type == "cpu"
    assert describe(torch.device("cpu")) == "cpu"


@linux
def test_processes_spread_over_the_devices(ids: list[str]) -> None:
    with claimants(ids[:2], 4) as claims:
        assert Counter(index for index, _ in claims) == {0: 2, 1: 2}


@linux
def test_the_claim_of_a_killed_process_is_free_again(ids: list[str]) -> None:
    with claimants(ids[:2], 2) as claims:
        freed, process = claims[0]
        process.kill()
        process.wait()
        with claimants(ids[:2], 1) as more:
            assert [index for index, _ in more] == [freed]


@linux
def test_one_claim_a_device_whatever_subset_is_visible(ids: list[str]) -> None:
    a, b, c = ids
    with claimants([a, b, c], 1), claimants([c, a], 1) as claims:
        assert [index for index, _ in claims] == [0]  # c: a is taken


def test_the_first_device_where_no_name_can_be_bound() -> None:
    assert claim(["x" * 200, "y"]) == 0  # longer than the name of a socket may be


@linux
def test_locks_on_device_nodes_are_seen_from_other_networks(ids: list[str], tmp_path: Path) -> None:
    sealed("true", tmp_path, "--mount", "--net")  # skips the test where there are no namespaces
    elsewhere = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--net"]
    devices = ids[:2]
    with claimants(devices, 1, *elsewhere) as blind, claimants(devices, 1) as also:
        assert [blind[0][0], also[0][0]] == [0, 0]  # by sockets alone: both the same
    with claimants([*devices, *NODES], 1, *elsewhere) as first, claimants([*devices, *NODES], 3) as others:
        assert first[0][0] == 0
        assert Counter(index for index, _ in others) == {1: 2, 0: 1}  # one is free, then they take turns
        first[0][1].kill()
        first[0][1].wait()
        with claimants([*devices, *NODES], 1, *elsewhere) as again:
            assert again[0][0] == 0


@linux
def test_what_is_no_device_is_not_locked(ids: list[str], tmp_path: Path) -> None:
    pipe, file, link = tmp_path / "pipe", tmp_path / "file", tmp_path / "link"
    os.mkfifo(pipe)
    file.touch()
    link.symlink_to("/dev/null")
    for node in (pipe, file, link, tmp_path, tmp_path / "gone"):
        with claimants([*ids[:2], "--", str(node), str(node)], 3) as claims:
            assert Counter(index for index, _ in claims) == {0: 2, 1: 1}  # by sockets alone


def test_nodes_by_what_the_driver_says(tmp_path: Path) -> None:
    for place, text in {
        "0000:3b:00.0": "Model: X\nGPU UUID: \t GPU-aa-1\nDevice Minor: \t 3\n",
        "0000:3c:00.0": "x",
    }.items():
        (tmp_path / place).mkdir()
        (tmp_path / place / "information").write_text(text)
    assert nodes_of(["aa-1", "GPU-aa-1", "bb-2"], tmp_path) == [Path("/dev/nvidia3"), Path("/dev/nvidia3"), None]
    assert nodes_of(["aa-1"], tmp_path / "gone") == [None]

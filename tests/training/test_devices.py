"""Choosing a device, and one GPU for each of several trainings."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from latent_atlas.errors import TrainingError
from latent_atlas.training.devices import choose_device, claim, describe

CLAIM = """
import sys
from latent_atlas.training.devices import claim
print(claim(sys.argv[1:]), flush=True)
sys.stdin.read()
"""


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract UNIX sockets")


@pytest.fixture
def ids() -> list[str]:
    """Identifiers of three devices of which no other test of this machine knows."""
    return [f"{uuid.uuid4()}" for _ in range(3)]


@contextmanager
def claimants(ids: list[str], count: int) -> Iterator[list[tuple[int, subprocess.Popen[str]]]]:
    """So many processes that have each claimed one of the devices, and hold it."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, *ids],
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

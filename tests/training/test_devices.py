"""Choosing a device, and one GPU for each of several trainings."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from latent_atlas.errors import TrainingError
from latent_atlas.training.devices import choose_device, claim, describe

CLAIM = """
import sys
from pathlib import Path
from latent_atlas.training.devices import claim
print(claim(sys.argv[2:], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@contextmanager
def claimants(folder: Path, names: list[str], count: int) -> Iterator[list[tuple[int, subprocess.Popen[str]]]]:
    """So many processes that have each claimed one of the devices, and hold it."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(folder), *names],
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


@pytest.mark.parametrize("wish", ["cuda", "cuda:1", "mps"])
def test_device_that_is_not_there(wish: str) -> None:
    if {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[wish.partition(":")[0]]:
        pytest.skip(f"this machine has {wish}")
    with pytest.raises(TrainingError, match=rf"device '{wish}' is not available here: choose auto or one of .*cpu"):
        choose_device(wish)


def test_auto_takes_what_is_there() -> None:
    there = torch.cuda.is_available(), torch.backends.mps.is_available()
    assert choose_device("auto").type == ("cuda" if there[0] else "mps" if there[1] else "cpu")
    assert choose_device("cpu").type == "cpu"
    assert describe(torch.device("cpu")) == "cpu"


def test_processes_spread_over_the_devices(tmp_path: Path) -> None:
    with claimants(tmp_path, ["a", "b"], 4) as claims:
        assert Counter(index for index, _ in claims) == {0: 2, 1: 2}


def test_the_claim_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    names = ["a", "b"]
    with claimants(tmp_path, names, 2) as claims:
        freed, process = claims[0]
        process.kill()
        process.wait()
        with claimants(tmp_path, names, 1) as more:
            assert [index for index, _ in more] == [freed]


def test_one_claim_a_device_whatever_subset_is_visible(tmp_path: Path) -> None:
    with claimants(tmp_path, ["a", "b", "c"], 1), claimants(tmp_path, ["c", "a"], 1) as claims:
        assert [index for index, _ in claims] == [0]  # c: a is taken


def test_without_a_place_for_claims_the_first_device_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert claim(["a", "b"], tmp_path / "file") == 0

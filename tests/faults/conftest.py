"""A small study that ran undisturbed, a library that lets calls fail, and the counts that tests/conftest.py shows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from repository import Repository, after_a_run

SOURCE = Path(__file__).parents[1] / "helpers" / "failing_writes.c"
Count = Callable[..., None]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which the whole workflow has run once, from nothing to the report."""
    return after_a_run(tmp_path_factory)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The compiled library that lets calls fail."""
    if not warm.POSSIBLE:
        pytest.skip("calls fail by a library that is preloaded, on Linux")
    if not shutil.which("gcc"):
        pytest.skip("needs gcc and the C library's headers (Debian's packages gcc and libc6-dev)")
    path = tmp_path_factory.mktemp("library") / "failing_writes.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", path, SOURCE, "-ldl"], check=True)
    return str(path)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Counts the outcomes of cases, such as ``count("kills: train", refused=1)``, for the summary."""

    def count(kind: str, **outcomes: int) -> None:
        record_property("fault matrix", [kind, outcomes])

    return count

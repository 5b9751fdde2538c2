"""A small study that ran undisturbed, and the counting of cases, which tests/conftest.py shows at the end of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from repository import Repository, after_a_run

Count = Callable[..., None]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which the whole workflow has run once, from nothing to the report."""
    return after_a_run(tmp_path_factory, "undisturbed")


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    """Counts the outcomes of cases, such as ``count("kills: train", refused=1)``, for the summary."""

    def count(kind: str, **outcomes: int) -> None:
        record_property("fault matrix", [kind, outcomes])

    return count

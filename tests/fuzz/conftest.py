"""The figures of the fuzz tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Tally


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts the cases of a test, for the end of the run; its kind is what the file is named after."""
    found = Tally(Path(request.node.path).stem.removeprefix("test_").replace("_", " "))
    request.node.user_properties.append(("fuzz", found.figures))  # filled in until the report is made
    return found

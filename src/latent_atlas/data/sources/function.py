"""Images from a function of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.data.sources.arrays import from_arrays
from latent_atlas.errors import DataError
from latent_atlas.imports import imported


def get(
    function: str,
    scratch: Path,
    log: Log,
    options: Mapping[str, Any] | None = None,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """What ``module:function`` gives when it is called with ``options``; see :func:`.arrays.from_arrays`."""
    log(f"{function}: calling it")
    given = imported(function, "dataset.function", DataError)(**(options or {}))
    return from_arrays(function, given, "function", scratch, log, colour, test_share, seed)

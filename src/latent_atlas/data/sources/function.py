"""Images from a function of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.data.sources.arrays import from_arrays
from latent_atlas.errors import DataError
from latent_atlas.imports import imported, place


def get(
    function: str,
    scratch: Path,
    log: Log,
    options: Mapping[str, Any] | None = None,
    colour: str | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """What ``module:function`` gives when it is called with ``options``: images, or see :func:`.arrays.from_arrays`.

    Raises
    ------
    DataError
        If there is no such function, it raises an error, or gives something else.
    """
    log(f"{function}: calling it")
    load = imported(function, "dataset.function", DataError)
    try:
        given = load(**(options or {}))
    except (Exception, SystemExit) as fault:  # of the user's own code
        raise DataError(
            f"dataset.function: {function} raises {type(fault).__name__}: {fault} ({place(fault)})"
        ) from fault
    if isinstance(given, Images):
        return given
    return from_arrays(function, given, "function", scratch, log, colour, test_share, seed)

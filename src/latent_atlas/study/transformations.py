"""The transformations of a study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from latent_atlas.geometry.transformations import Transformation, transformation

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def transformations(params: Params) -> Mapping[str, tuple[Transformation, float]]:
    """The transformations that params.yaml names, with the step of each.

    Raises
    ------
    ParamsError
        If one is unknown, or its function cannot be imported.
    """
    return {
        name: (transformation(entry.function or name), entry.step)
        for name, entry in params.invariance.transformations.items()
    }

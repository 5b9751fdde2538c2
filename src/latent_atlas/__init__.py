"""Latent Atlas: train autoencoders, then measure and show the surfaces that their decoders draw in pixel space.

The names below are imported when they are first used, so that ``import latent_atlas`` is fast.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latent_atlas.data.images import Images
    from latent_atlas.geometry.manifold import Autoencoder, Manifold, PixelSpace, PrincipalSubspace
    from latent_atlas.geometry.paths import interpolate
    from latent_atlas.geometry.tangent_spaces import measure
    from latent_atlas.loading import load
    from latent_atlas.statistics.measurements import angles, spectra

STARTED = time.time()  # of the process: what jobs are said to take includes loading their libraries

_HOMES = {
    "Autoencoder": "geometry.manifold:Autoencoder",
    "Images": "data.images:Images",
    "Manifold": "geometry.manifold:Manifold",
    "PixelSpace": "geometry.manifold:PixelSpace",
    "PrincipalSubspace": "geometry.manifold:PrincipalSubspace",
    "angles": "statistics.measurements:angles",
    "interpolate": "geometry.paths:interpolate",
    "load": "loading:load",
    "measure": "geometry.tangent_spaces:measure",
    "spectra": "statistics.measurements:spectra",
}
__all__ = [
    "Autoencoder",
    "Images",
    "Manifold",
    "PixelSpace",
    "PrincipalSubspace",
    "angles",
    "interpolate",
    "load",
    "measure",
    "spectra",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("latent-atlas")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"latent_atlas.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

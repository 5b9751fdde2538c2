"""Latent Atlas: train autoencoders, then measure and show the surfaces that their decoders draw in pixel space.

The names below are imported when they are first used, so that ``import latent_atlas`` is fast.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latent_atlas.data.images import Images
    from latent_atlas.geometry.fitted import FittedTransformer
    from latent_atlas.geometry.manifold import Autoencoder, Manifold, PixelSpace, PrincipalSubspace
    from latent_atlas.geometry.paths import interpolate
    from latent_atlas.geometry.tangent_spaces import measure
    from latent_atlas.loading import load
    from latent_atlas.report.figures.interpolate import plot_interpolation, plot_path
    from latent_atlas.report.figures.invariance import plot_angles, plot_displacements, plot_epochs, plot_steps
    from latent_atlas.report.figures.jacobian import plot_spectra, plot_spectrum_bands
    from latent_atlas.report.figures.layers import plot_layers
    from latent_atlas.report.figures.pca import plot_pca
    from latent_atlas.report.figures.reconstruct import plot_comparison, plot_images
    from latent_atlas.report.figures.tangents import plot_tangents
    from latent_atlas.report.figures.train import plot_learning_curve, plot_learning_curves
    from latent_atlas.statistics.measurements import angles, spectra

STARTED = time.time()  # of the process: what jobs are said to take includes loading their libraries

_HOMES = {
    "Autoencoder": "geometry.manifold:Autoencoder",
    "FittedTransformer": "geometry.fitted:FittedTransformer",
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
_PLOTS = {
    "interpolate": ("plot_interpolation", "plot_path"),
    "invariance": ("plot_angles", "plot_displacements", "plot_epochs", "plot_steps"),
    "jacobian": ("plot_spectra", "plot_spectrum_bands"),
    "layers": ("plot_layers",),
    "pca": ("plot_pca",),
    "reconstruct": ("plot_comparison", "plot_images"),
    "tangents": ("plot_tangents",),
    "train": ("plot_learning_curve", "plot_learning_curves"),
}
_HOMES |= {name: f"report.figures.{module}:{name}" for module, names in _PLOTS.items() for name in names}
__all__ = [
    "Autoencoder",
    "FittedTransformer",
    "Images",
    "Manifold",
    "PixelSpace",
    "PrincipalSubspace",
    "angles",
    "interpolate",
    "load",
    "measure",
    "plot_angles",
    "plot_comparison",
    "plot_displacements",
    "plot_epochs",
    "plot_images",
    "plot_interpolation",
    "plot_layers",
    "plot_learning_curve",
    "plot_learning_curves",
    "plot_path",
    "plot_pca",
    "plot_spectra",
    "plot_spectrum_bands",
    "plot_steps",
    "plot_tangents",
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

"""Angles and spectra of a manifold as tables: one row per image and transformation, or one row per image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.geometry.manifold import Manifold
from latent_atlas.geometry.spectra import Spectrum, rank_tolerance
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS, Transformation, transformation
from latent_atlas.statistics.chance import chance_angle_deg, score

UNDEFINED = "zero displacement"  # why an angle is null


def angles(
    surface: Manifold,
    images: Tensor | np.ndarray,
    transformations: Collection[str] | Mapping[str, float | tuple[Transformation, float]] = tuple(TRANSFORMATIONS),
    report: Callable[[int], None] = lambda done: None,
) -> pd.DataFrame:
    """Angles between small displacements of the reconstructed images and the tangent spaces there, in float64.

    Parameters
    ----------
    surface : Manifold
    images : tensor or array (N, C, H, W), (C, H, W), or (N, H, W) for one channel
        uint8, or floats in [0, 1].
    transformations : collection of names, or mapping of name to step or to (transformation, step)
        A name alone stands for its default step; all built-in transformations, if left out.
    report : callable, optional
        Called with the number of images done, after each batch.

    Returns
    -------
    DataFrame
        N·t rows, image by image: ``image`` (index), ``transformation``, ``step``, ``unit`` of the step, and the columns
        of :func:`angle_columns`.

    Raises
    ------
    DataError
        If the images do not fit the manifold.
    ParamsError
        If a transformation is unknown.
    """
    chosen = _with_steps(transformations)
    exact = surface if surface.dtype == torch.float64 else surface.to(torch.float64)
    found = measure(exact, images, chosen, report)
    count, kinds = found.angles_deg.shape
    head = {
        "image": np.repeat(np.arange(count), kinds),
        "transformation": [*chosen] * count,
        "step": [step for _, step in chosen.values()] * count,
        "unit": [entry.unit for entry, _ in chosen.values()] * count,
    }
    ranks = found.rank.repeat_interleave(kinds).tolist()
    return pd.DataFrame(head | angle_columns(found.angles_deg.flatten().numpy(), ranks, surface.pixel_count))


def _with_steps(
    transformations: Collection[str] | Mapping[str, float | tuple[Transformation, float]],
) -> dict[str, tuple[Transformation, float]]:
    """The transformation and the step that each name stands for."""
    if isinstance(transformations, str):
        transformations = [transformations]
    if not isinstance(transformations, Mapping):
        found = [transformation(name) for name in transformations]
        return {entry.name: (entry, entry.default_step) for entry in found}
    return {
        name: step if isinstance(step, tuple) else (transformation(name), float(step))
        for name, step in transformations.items()
    }


def angle_columns(angles_deg: Sequence[float] | np.ndarray, ranks: Sequence[int], pixels: int) -> dict[str, Any]:
    """Angles in both units beside the chance level of the tangent space that was measured.

    Parameters
    ----------
    angles_deg : n numbers
        Degrees; NaN where a displacement is zero.
    ranks : n whole numbers
        Dimension of each tangent space.
    pixels : int
        P, the dimension of the space around it.

    Returns
    -------
    dict of n values each
        ``angle_deg``; ``share``, its squared cosine, the part of the displacement's squared length that the tangent
        space holds; ``rank``; ``chance_deg`` and ``chance_share``, expected of a random subspace of that rank;
        ``score``, 0 at chance and 1 at an angle of zero; ``reason``, why an angle is null.
    """
    angles = np.asarray(angles_deg, dtype=float)
    share = np.cos(np.radians(angles)) ** 2
    return {
        "angle_deg": angles,
        "share": share,
        "rank": list(ranks),
        "chance_deg": [chance_angle_deg(rank, pixels) for rank in ranks],
        "chance_share": [rank / pixels for rank in ranks],
        "score": [score(part, rank, pixels) for part, rank in zip(share, ranks, strict=True)],
        "reason": [UNDEFINED if undefined else None for undefined in np.isnan(angles)],
    }


def spectra(
    surface: Manifold, images: Tensor | np.ndarray, report: Callable[[int], None] = lambda done: None
) -> pd.DataFrame:
    """Singular values of the decoder's Jacobian at the codes of images, in float64.

    Parameters
    ----------
    surface, images, report
        As for :func:`angles`.

    Returns
    -------
    DataFrame
        N rows: ``image`` (index), and the columns of :func:`spectrum_columns`.

    Raises
    ------
    DataError
        If the images do not fit the manifold.
    """
    table = spectrum_columns(measured_spectra(surface, images, report))
    table.insert(0, "image", range(len(table)))
    return table


def measured_spectra(
    surface: Manifold, images: Tensor | np.ndarray, report: Callable[[int], None] = lambda done: None
) -> list[Spectrum]:
    """The N spectra that :func:`spectra` summarizes, with all their singular values."""
    exact = surface if surface.dtype == torch.float64 else surface.to(torch.float64)
    shape = (surface.pixel_count, surface.latent_dim)
    values = measure(exact, images, {}, report).singular_values  # N x k
    return [Spectrum(one, float(rank_tolerance(one, shape))) for one in values]


def spectrum_columns(found: Iterable[Spectrum]) -> pd.DataFrame:
    """One row per spectrum: largest and smallest singular value, rank and its tolerance, condition, log volume."""
    columns = ("sigma_max", "sigma_min", "rank", "tolerance", "condition_number", "log_volume")
    rows = [[getattr(one, column) for column in columns] for one in found]
    return pd.DataFrame(rows, columns=list(columns)).rename(columns={"tolerance": "rank_tolerance"})

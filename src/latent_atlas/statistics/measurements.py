"""Angles and spectra of a manifold as tables: one row per image and transformation, or one row per image."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.data.images import as_float, as_images
from latent_atlas.geometry.krylov import Angles, PartialSpectrum
from latent_atlas.geometry.manifold import BATCH, Manifold
from latent_atlas.geometry.spectra import Spectrum, code_factor, rank_tolerance
from latent_atlas.geometry.tangent_spaces import EXACT_UP_TO, PRODUCTS, measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS, Transformation, transformation
from latent_atlas.statistics.chance import chance_angle_deg, score

UNDEFINED = "zero displacement"  # why an angle is null
WHOLE = "the tangent space is all of pixel space"  # why a score is
FLAT = "rank zero"  # why an effective rank is
SAME_CODES = "the codes do not vary"  # why what is per standard deviation is
OPEN = "not all directions were measured"  # why a rank, or the smallest singular value, is


def angles(
    surface: Manifold,
    images: Tensor | np.ndarray,
    transformations: Collection[str] | Mapping[str, float | tuple[Transformation, float]] = tuple(TRANSFORMATIONS),
    report: Callable[[int], None] = lambda done: None,
    exact_up_to: int = EXACT_UP_TO,
    products: int = PRODUCTS,
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
    exact_up_to, products : int, optional
        Of a manifold of more than ``exact_up_to`` coordinates, so many products with each Jacobian give limits, in the
        manifold's own precision: see :func:`latent_atlas.geometry.tangent_spaces.measure`.

    Returns
    -------
    DataFrame
        N·t rows, image by image: ``image`` (index), ``transformation``, ``step``, ``unit`` of the step, and the columns
        of :func:`angle_columns`. Where products give limits, also those of :func:`limit_columns`.

    Raises
    ------
    DataError
        If the images do not fit the manifold.
    ParamsError
        If a transformation is unknown.
    """
    surface = _exact(surface, exact_up_to)
    return at_images(surface, images, _with_steps(transformations), report, None, exact_up_to, products).angles


def _exact(surface: Manifold, exact_up_to: int) -> Manifold:
    return surface if surface.dtype == torch.float64 or surface.latent_dim > exact_up_to else surface.to(torch.float64)


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
        ``score``, 0 at chance and 1 at an angle of zero; ``reason``, why an angle or a score is null.
    """
    angles = np.asarray(angles_deg, dtype=float)
    share = np.cos(np.radians(angles)) ** 2
    scores = [score(part, rank, pixels) for part, rank in zip(share, ranks, strict=True)]
    null = zip(np.isnan(angles), np.isnan(scores), strict=True)
    return {
        "angle_deg": angles,
        "share": share,
        "rank": list(ranks),
        "chance_deg": [chance_angle_deg(rank, pixels) for rank in ranks],
        "chance_share": [rank / pixels for rank in ranks],
        "score": scores,
        "reason": [UNDEFINED if zero else WHOLE if whole else None for zero, whole in null],
    }


def spectra(
    surface: Manifold,
    images: Tensor | np.ndarray,
    report: Callable[[int], None] = lambda done: None,
    training: Tensor | np.ndarray | None = None,
    exact_up_to: int = EXACT_UP_TO,
    products: int = PRODUCTS,
) -> pd.DataFrame:
    """Singular values of the decoder's Jacobian at the codes of images, in float64.

    Parameters
    ----------
    surface, images, report, exact_up_to, products
        As for :func:`angles`.
    training : tensor or array (N, C, H, W), optional
        Images over which standard deviations of the code are taken.

    Returns
    -------
    DataFrame
        N rows: ``image`` (index), and the columns of :func:`spectrum_columns`.

    Raises
    ------
    DataError
        If the images do not fit the manifold, or the training images are fewer than two.
    """
    factor = None if training is None else spread(surface, as_images(training, surface.image_shape))
    found = at_images(_exact(surface, exact_up_to), images, {}, report, factor, exact_up_to, products)
    table = spectrum_columns(found.spectra, None if training is None else found.scaled)
    table.insert(0, "image", range(len(table)))
    return table


def spread(surface: Manifold, images: Tensor) -> Tensor:
    """A factor (k, r) of the covariance of the codes of images (N, C, H, W): see :func:`code_factor`."""
    together = max(1, min(200, BATCH // surface.pixel_count))
    return code_factor(surface.encode(as_float(part, surface.dtype)) for part in images.split(together))


class AtImages(NamedTuple):
    """What was measured at N images.

    Attributes
    ----------
    angles : DataFrame
        As of :func:`angles`.
    spectra : list of N Spectrum
        Of the Jacobians.
    scaled : list of N Spectrum
        Of the Jacobians times the matrix that was asked for.
    """

    angles: pd.DataFrame
    spectra: list[Spectrum]
    scaled: list[Spectrum]


def at_images(
    surface: Manifold,
    images: Tensor | np.ndarray,
    transformations: Mapping[str, tuple[Transformation, float]],
    report: Callable[[int], None] = lambda done: None,
    factor: Tensor | None = None,
    exact_up_to: int = EXACT_UP_TO,
    products: int = PRODUCTS,
) -> AtImages:
    """Angles and spectra from the same Jacobians, which are computed in the precision of the manifold.

    Parameters
    ----------
    surface, images, transformations, report, factor, exact_up_to, products
        As for :func:`latent_atlas.geometry.tangent_spaces.measure`.
    """
    found = measure(surface, images, transformations, report, None, factor, exact_up_to, products)
    count, kinds = found.angles_deg.shape
    head = {
        "image": np.repeat(np.arange(count), kinds),
        "transformation": [*transformations] * count,
        "step": [step for _, step in transformations.values()] * count,
        "unit": [entry.unit for entry, _ in transformations.values()] * count,
    }
    ranks = found.rank.repeat_interleave(kinds).tolist()
    shape = (surface.pixel_count, surface.latent_dim)
    plain, scaled = (
        [Spectrum(one, float(rank_tolerance(one, shape)) if len(one) else 0.0) for one in values]
        for values in (found.singular_values, found.scaled_values)
    )
    columns = angle_columns(found.angles_deg.flatten().numpy(), ranks, surface.pixel_count)
    if found.limits:
        columns |= limit_columns([one.angles for one in found.limits], [one.spectrum.products for one in found.limits])
        plain = [one.spectrum for one in found.limits]
        scaled = [one.scaled or empty for one, empty in zip(found.limits, scaled, strict=True)]
    return AtImages(pd.DataFrame(head | columns), plain, scaled)


def limit_columns(angles: Sequence[Angles], products: Sequence[int]) -> dict[str, Any]:
    """What stands beside angles that are upper limits, of which N images have t each.

    Returns
    -------
    dict of N·t values each
        ``angle_low_deg``, the lower limit, null where none is known; ``residual``, of the least-squares problem that
        gave the upper one; ``products``, how many vectors were multiplied by the Jacobian or its transpose. ``rank`` is
        then the largest that the tangent space may have, ``share`` and ``score`` are lower limits.
    """
    return {
        "angle_low_deg": np.concatenate([one.low_deg for one in angles]),
        "residual": np.concatenate([one.residual for one in angles]),
        "products": np.repeat(products, [len(one.residual) for one in angles]),
    }


def spectrum_columns(found: Sequence[Spectrum], scaled: Sequence[Spectrum] | None = None) -> pd.DataFrame:
    """One row per spectrum, and per spectrum of the same Jacobian per standard deviation of the code.

    Returns
    -------
    DataFrame
        ``sigma_max, sigma_min``, the largest and smallest singular value; ``rank`` and ``rank_tolerance``;
        ``condition_number, log_volume, effective_rank, participation_ratio``. With ``scaled``: ``directions``, in how
        many the codes vary, and the same per standard deviation in these, as ``sigma_max_per_sd`` and so on.
        ``reason``: why some of them are null. Of a :class:`.PartialSpectrum` also ``products`` and its limits:
        ``sigma_max_bound``, ``sigma_max_high``, ``sigma_min_high``, ``rank_low``, ``rank_high``, and of each sum over
        the spectrum ``*_error`` and ``*_change``.
    """
    names = ["sigma_max", "sigma_min", "rank", "tolerance", "condition_number", "log_volume", "effective_rank",
             "participation_ratio"]  # fmt: skip
    plain, per_sd = (
        pd.DataFrame(
            [[getattr(one, name) for name in names] for one in several if len(one.values)], range(len(several)), names
        )
        .rename(columns={"tolerance": "rank_tolerance"})
        .join(_limits(several))
        for several in (found, scaled or [])
    )
    plain["reason"] = [OPEN if np.isnan(rank) else None if rank else FLAT for rank in plain["rank"]]
    if scaled is None:
        return plain
    same = [not len(one.values) for one in scaled]
    table = plain.assign(directions=[len(one.values) for one in scaled], reason=plain["reason"].mask(same, SAME_CODES))
    reason = table.pop("reason")
    return table.join(per_sd.drop(columns="rank_tolerance").add_suffix("_per_sd")).assign(reason=reason)


def _limits(found: Sequence[Spectrum]) -> pd.DataFrame:
    """What stands beside spectra of which not all values are known; no columns where all are."""
    rows = {}
    for place, one in enumerate(found):
        if isinstance(one, PartialSpectrum):
            rows[place] = {"products": one.products, "sigma_max_bound": float(one.bounds[0])}
            rows[place] |= {
                name: getattr(one, name) for name in ("sigma_max_high", "sigma_min_high", "rank_low", "rank_high")
            }
            for name in ("log_volume", "effective_rank", "participation_ratio"):
                rows[place] |= {f"{name}_error": one.error(name), f"{name}_change": one.change(name)}
    return pd.DataFrame.from_dict(rows, orient="index")

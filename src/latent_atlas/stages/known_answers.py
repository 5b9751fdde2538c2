"""known_answers: numbers that are known from elsewhere, beside those of this study."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.files import read_safetensors, read_table, write_tables
from latent_atlas.geometry import reconstruction
from latent_atlas.geometry.manifold import PrincipalSubspace
from latent_atlas.report import published
from latent_atlas.report.published import DATA, SCALE, TRAINING
from latent_atlas.study.manifolds import pca_manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

ANGLE_TOLERANCE = 1e-6  # degrees
ANGLE_FACTOR, CONDITION_FACTOR, RANK_FACTOR = 2.0, 10.0, 1.05


class Answer(NamedTuple):
    """A row of the table, before it is judged."""

    what: str
    kind: str
    published: float
    obtained: float
    tolerance: float  # NaN: not judged
    source: str


def known_answers(params: Params, results: Path, images: Path, summary: Path) -> None:
    """Hold what this study obtained against published numbers, and warn of those that should agree but do not."""
    known = []
    if published.same_data(params):
        known = [plane(results / "pca" / "components.safetensors", Images.load(images)), *answers(params, results)]
    table = judged(known)
    write_tables(summary.parent, {summary.name: table})
    for row in published.disagreeing(table).itertuples():
        log.warning(f"warning: {row.what}: {row.obtained:.9g} does not agree with the known {row.published:.9g}")
    log.info(f"{len(table)} known answers: {summary}")


def judged(known: list[Answer]) -> pd.DataFrame:
    """The table of answers with ``difference`` and ``agrees``, which is null for those that are not judged."""
    table = pd.DataFrame(known, columns=Answer._fields)
    difference, factor = table["obtained"] - table["published"], table["obtained"] / table["published"]
    near = difference.abs() <= table["tolerance"]
    alike = factor.between(1 / table["tolerance"], table["tolerance"])
    agrees = near.where(table["kind"] == DATA, alike).astype("boolean").mask(table["tolerance"].isna())
    table.insert(4, "difference", difference)
    table.insert(6, "agrees", agrees)
    return table


def plane(components: Path, data: Images) -> Answer:
    """The error of the first two principal components."""
    pixels = math.prod(data.shape)
    needed = {"components": f"float64 * {pixels}", "mean": f"float64 {pixels}"}
    stored = read_safetensors(components, needed=needed)[1]
    surface = PrincipalSubspace(stored["components"][:2], stored["mean"], data.shape)
    error = 4 * reconstruction.summary(surface, data.test)["mse"]  # pixels in [-1, 1] differ by twice as much
    what = "test MSE of PCA, k = 2, pixels in [-1, 1]"
    return Answer(what, DATA, published.PCA2_TEST_MSE, error, 5e-5, published.MOOR)


def answers(params: Params, results: Path) -> list[Answer]:
    """All others, as far as the study has what they are about: PCA's first."""
    models = [name for name in published.JACOBIANS if published.same_model(params, name)]
    known = [*_of_pca(params, results)]
    if published.comparable(params):
        linear = [name for name in published.ANGLES_DEG if name in pca_manifolds(params)]
        known += [*_angles(params, results, linear, DATA, ANGLE_TOLERANCE)]
        known += [*_angles(params, results, models, TRAINING, ANGLE_FACTOR)]
        known += [*_jacobians(results, models)]
    return known


def _of_pca(params: Params, results: Path) -> Iterator[Answer]:
    spectrum = read_table(results / "pca" / "summary.csv")
    errors = read_table(results / "reconstruct" / "summary.csv")
    errors = errors[errors["split"] == "test"].set_index("manifold")["mse"]
    source = published.SCIKIT_LEARN
    for k, error in published.PCA_TEST_MSE.items():
        if k in params.pca.latent_dims:
            yield Answer(f"test MSE of PCA, k = {k}", DATA, error, errors[f"pca{k}"], 5e-8, source)
    for share, count in published.COMPONENTS.items():
        found = int((spectrum["cumulative_share"] < share).sum()) + 1
        yield Answer(f"PCA components for {share:.0%} of the variance", DATA, count, found, 0, source)
    ratio = spectrum["variance"].sum() ** 2 / spectrum["variance"].pow(2).sum()
    yield Answer("participation ratio of PCA", DATA, published.PARTICIPATION_RATIO, ratio, 5e-4, source)


def _angles(params: Params, results: Path, names: list[str], kind: str, tolerance: float) -> Iterator[Answer]:
    angles = read_table(results / "invariance" / "examples.csv")
    angles = angles[angles["example"] == published.EXAMPLE].set_index(["manifold", "transformation"])["angle_deg"]
    entries = params.invariance.transformations
    for name in names:
        for transformation, angle in published.ANGLES_DEG[name].items():
            entry = entries.get(transformation)
            same = entry and entry.step == published.STEPS[transformation] and entry.function in (None, transformation)
            if same:
                what = f"angle of {transformation} at {published.EXAMPLE}, {name} (degrees)"
                yield Answer(what, kind, angle, angles[name, transformation], tolerance, published.REFERENCE)


def _jacobians(results: Path, names: list[str]) -> Iterator[Answer]:
    found = read_table(results / "jacobian" / "examples.csv")
    found = found[(found["example"] == published.EXAMPLE) & (found["dtype"] == "float64")].set_index("manifold")
    for name in names:
        largest, smallest, rank = published.JACOBIANS[name]
        for column, words, kind, known, tolerance in (
            ("condition_number", "condition number", TRAINING, largest / smallest, CONDITION_FACTOR),
            ("rank", "rank", TRAINING, rank, RANK_FACTOR),
            ("sigma_max", "largest singular value", SCALE, largest, math.nan),
            ("sigma_min", "smallest singular value", SCALE, smallest, math.nan),
        ):
            what = f"{words} of the decoder's Jacobian at {published.EXAMPLE}, {name}"
            yield Answer(what, kind, known, found.loc[name, column], tolerance, published.REFERENCE)

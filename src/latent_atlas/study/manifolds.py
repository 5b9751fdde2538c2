"""The manifolds of a study: their names, their order and their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def pca_manifolds(params: Params) -> dict[str, tuple[int, bool]]:
    """Name of each PCA manifold: its latent dimension, and whether it is centred."""
    dims = params.pca.latent_dims
    return {f"pca{k}": (k, True) for k in dims} | {f"pca{k}_uncentred": (k, False) for k in dims}


def trained(params: Params) -> list[str]:
    """Names of the models that are trained here, not imported."""
    return [name for name, model in params.models.items() if not model.state_dict]


def manifolds(params: Params) -> list[str]:
    """Names of all manifolds: the models in the order of the file, then PCA."""
    return [*params.models, *pca_manifolds(params)]


def groups(params: Params) -> dict[str, list[str]]:
    """Which manifolds stand side by side: those of one architecture, and PCA's two variants."""
    found: dict[str, list[str]] = {}
    for name, model in params.models.items():
        found.setdefault(model.architecture.rpartition(":")[2], []).append(name)
    for name, (_, centred) in pca_manifolds(params).items():
        found.setdefault("pca" if centred else "pca_uncentred", []).append(name)
    return found

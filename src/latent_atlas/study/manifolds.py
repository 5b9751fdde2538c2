"""The manifolds of a study: their names, their order and their groups; and that no two names lead to one file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from latent_atlas.errors import ParamsError

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


FIXED = "the workflow itself"  # what names a file that no entry names
PIXELS = "pixels"  # pixel space, which has paths but is no manifold of a study


class Member(NamedTuple):
    """One manifold of a study.

    Attributes
    ----------
    model : str
        The entry of ``params.yaml``, or the PCA subspace.
    seed : int or None
        Of the training; None for PCA and imported weights.
    """

    model: str
    seed: int | None


def pca_manifolds(params: Params) -> dict[str, tuple[int, bool]]:
    """Name of each PCA manifold: its latent dimension, and whether it is centred."""
    dims = params.pca.latent_dims
    return {f"pca{k}": (k, True) for k in dims} | {f"pca{k}_uncentred": (k, False) for k in dims}


def seeds_of(params: Params, model: str) -> list[int]:
    """The seeds with which a model is trained.

    A number n stands for n seeds that begin with ``training.seed``; a list for its entries.
    """
    entry = params.models[model]
    seeds = params.seeds if entry.seeds is None else entry.seeds
    first = params.training.seed if entry.training.seed is None else entry.training.seed
    return list(range(first, first + seeds)) if isinstance(seeds, int) else seeds


def networks(params: Params) -> dict[str, Member]:
    """All trainings and imported models, in the order of the file, by name.

    The first seed of a model has the model's name, each further one ``MODEL_seedN``.
    """
    found = {}
    for model, entry in params.models.items():
        first, *others = [None] if entry.state_dict else seeds_of(params, model)
        found[model] = Member(model, first)
        found |= {f"{model}_seed{seed}": Member(model, seed) for seed in others}
    return found


def members(params: Params) -> dict[str, Member]:
    """All manifolds by name: the networks, then PCA."""
    return networks(params) | {name: Member(name, None) for name in pca_manifolds(params)}


def member(params: Params, name: str) -> Member:
    """The manifold of that name.

    Raises
    ------
    ParamsError
        If there is none.
    """
    found = members(params)
    if name not in found:
        raise ParamsError(f"params.yaml has no manifold {name!r}: it has {', '.join(found)}")
    return found[name]


def manifolds(params: Params) -> list[str]:
    """Names of all manifolds: the models in the order of the file, then PCA."""
    return list(members(params))


def firsts(params: Params) -> list[str]:
    """Names of the manifolds that pictures of single images show: the first seed of each model, and PCA."""
    return [*params.models, *pca_manifolds(params)]


def compared(params: Params) -> list[str]:
    """Models that are compared in words: those of ``params.yaml``, and centred PCA."""
    return [*params.models, *(name for name, (_, centred) in pca_manifolds(params).items() if centred)]


def trained(params: Params) -> list[str]:
    """Names of the manifolds that are trained here: not imported, not PCA."""
    return [name for name, (_, seed) in networks(params).items() if seed is not None]


def groups(params: Params) -> dict[str, list[str]]:
    """Which models stand side by side: those of one architecture by latent dimension, and PCA's two variants."""
    found: dict[str, list[str]] = {}
    for name, model in params.models.items():
        found.setdefault(model.architecture.rpartition(":")[2], []).append(name)
    for name, (_, centred) in pca_manifolds(params).items():
        found.setdefault("pca" if centred else "pca_uncentred", []).append(name)
    dims = {name: model.latent_dim for name, model in params.models.items()}
    dims |= {name: k for name, (k, _) in pca_manifolds(params).items()}
    return {family: sorted(names, key=dims.__getitem__) for family, names in found.items()}


def check_names(params: Params) -> None:
    """Compare the names of all pictures that have a name of the study beside others in one folder.

    Raises
    ------
    ValueError
        Naming both entries and the file.
    """
    taken: dict[str, str] = {}
    for path, key in _named(params):
        if taken.setdefault(path, key) != key:
            raise ValueError(
                f"{key}: {path} would also be a file of {taken[path]}; rename one of the two, for they would "
                f"overwrite each other"
            )


def _named(params: Params) -> Iterator[tuple[str, str]]:
    """Paths, and the entry that each is named after."""
    for picture in ("images", "comparison"):
        yield f"results/reconstruct/test_{picture}.png", FIXED
    for group, models in groups(params).items():
        own = [f"models.{name}.architecture" for name in models if name in params.models]
        # Models of one architecture share a picture, but not with PCA.
        keys = own[:1] if len(own) == len(models) else [*own[:1], "pca"]
        for key in keys:
            yield f"results/reconstruct/test_{group}.png", key
    yield "results/geodesics/gains.png", FIXED
    for pair in params.interpolate.pairs:
        key = f"interpolate.pairs.{pair}"
        yield f"results/geodesics/{pair}.png", key
        yield f"results/interpolate/{pair}.png", key
        yield f"results/interpolate/{pair}_curves.png", key

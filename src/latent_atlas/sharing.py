"""Manifolds that others have trained and shared."""

from __future__ import annotations

import tempfile
from pathlib import Path

from latent_atlas.errors import CheckpointError
from latent_atlas.geometry.manifold import Manifold, load_manifold


def load(name: str, repository: str = ".", revision: str | None = None) -> Manifold:
    """A trained manifold, straight from a repository of results.

    Parameters
    ----------
    name : str
        Of the manifold, such as ``conv16`` or ``pca32``.
    repository : str
        Path or URL of a git repository whose results are versioned by DVC; its remote or cache must hold the file.
    revision : str, optional
        Commit, tag or branch; what is checked out there, if left out.

    Returns
    -------
    Manifold
        In the precision that it was stored in.

    Raises
    ------
    CheckpointError
        If the repository has no such manifold at that revision, or its file is not to be had.
    """
    import dvc.api

    path = f"results/checkpoints/{name}.safetensors"
    try:
        content = dvc.api.read(path, repo=repository, rev=revision, mode="rb")
    except Exception as error:
        raise CheckpointError(
            f"{repository} at {revision or 'its current revision'} does not give {path}: {error} "
            f"(is it in dvc.yaml there, and was it pushed to a remote that can be reached from here?)"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"{name}.safetensors"
        copy.write_bytes(content)
        return load_manifold(copy)

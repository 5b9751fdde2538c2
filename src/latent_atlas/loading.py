"""Load a manifold from a file, from a URL, or from a repository of results."""

from __future__ import annotations

import importlib
import tempfile
import urllib.request
from collections.abc import Collection
from pathlib import Path

from latent_atlas.errors import CheckpointError
from latent_atlas.files import check_regular
from latent_atlas.geometry.manifold import Manifold, load_manifold

SCHEMES = ("http://", "https://", "file://")
LARGEST = 2 * 2**30  # bytes of a file that is downloaded
TIMEOUT = 60  # seconds without an answer


def load(
    source: str | Path, *, repository: str | None = None, revision: str | None = None, trust: Collection[str] = ()
) -> Manifold:
    """A trained manifold, in the precision that it was stored in.

    Parameters
    ----------
    source : str or Path
        Path of a safetensors file, or its URL (http, https or file); with ``repository`` or ``revision`` the name of a
        manifold there, such as ``conv16`` or ``pca32``.
    repository : str, optional
        Path or URL of a git repository whose results are versioned by DVC; its remote or cache must hold the file. The
        current folder, if only ``revision`` is given.
    revision : str, optional
        Commit, tag or branch; what is checked out there, if left out.
    trust : collection of str, optional
        Architectures and adapters outside this package (``module:name``) whose code may be run if the file names them.

    Raises
    ------
    CheckpointError
        If the file cannot be read or downloaded, or holds no manifold.
    ModelError
        If its network is no autoencoder, or cannot be measured.
    """
    if repository is not None or revision is not None:
        content = _from_repository(str(source), repository or ".", revision)
    elif str(source).startswith(SCHEMES):
        content = _download(str(source))
    else:
        return load_manifold(Path(source), trust)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "manifold.safetensors"
        copy.write_bytes(content)
        try:
            return load_manifold(copy, trust)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(copy), str(source))) from error


def _download(url: str) -> bytes:
    if url.startswith("file://"):
        check_regular(urllib.request.url2pathname(url.removeprefix("file://")), CheckpointError)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - of SCHEMES
            content: bytes = answer.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{url} cannot be downloaded ({error}): check the address and the connection") from error
    if len(content) > LARGEST:
        raise CheckpointError(f"{url} has more than {LARGEST} bytes: download it and load the file by its path")
    return content


def _from_repository(name: str, repository: str, revision: str | None) -> bytes:
    try:
        api = importlib.import_module("dvc.api")  # optional: the library does not depend on it
    except ImportError as error:
        raise CheckpointError(
            f"{name} lies in a repository of results, and reading it needs DVC: pip install 'latent-atlas[workflow]'"
        ) from error
    path = f"results/checkpoints/{name}.safetensors"
    try:
        return api.read(path, repo=repository, rev=revision, mode="rb")
    except Exception as error:
        raise CheckpointError(
            f"{repository} at {revision or 'its current revision'} does not give {path}: {error} "
            f"(is it in dvc.yaml there, and was it pushed to a remote that can be reached from here?)"
        ) from error

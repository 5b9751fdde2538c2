"""Where a result comes from: the metadata that a checkpoint carries."""

from __future__ import annotations

import platform
from importlib.metadata import version

PACKAGES = ("latent-atlas", "torch", "numpy")


def provenance(dataset_sha256: str) -> dict[str, str]:
    """Versions of what computed, and the checksum of what it computed on."""
    versions = {f"version_{name}": version(name) for name in PACKAGES}
    return versions | {"version_python": platform.python_version(), "dataset_sha256": dataset_sha256}

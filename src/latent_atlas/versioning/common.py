"""What the modules of versioning share: their error, and small helpers for files and values."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from latent_atlas import files
from latent_atlas.errors import OutputError


class VersioningError(Exception):
    """A file of DVC, of the workflow or of its parameters that cannot be read or written."""


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8; a reader sees the old file or the whole new one.

    Raises
    ------
    VersioningError
        If the folder cannot be made or written to, or the disk is full.
    """
    try:
        files.write_text(path, text)
    except OutputError as error:
        raise VersioningError(str(error)) from error


def regular(path: Path) -> str | None:
    """The text of a file; None if it is missing.

    Raises
    ------
    OSError, ValueError
        If it is no regular file, cannot be read, or is no UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def damaged(path: Path, error: Exception, then: str = "") -> str:
    """What to say of a file of DVC that cannot be used: the first line of the reason, and what mends it."""
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    short = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return (
        f"{path} cannot be used ({reason}): git checkout {short}, or delete it{f'; {then}' if then else ''}; if two "
        f"versions of it were merged, choose one side (git checkout --ours . or --theirs .)"
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping, read as YAML 1.2 (``5e-3`` is a number).

    Raises
    ------
    VersioningError
        If the file is missing, not YAML or no mapping.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise VersioningError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise VersioningError(f"{path} must be a mapping, not {type(values).__name__}")
    return values


def canonical(values: Any) -> str:
    """Values as JSON with sorted keys: equal values give equal text."""
    return json.dumps(values, sort_keys=True, default=str)


def values_at(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The values at dotted keys, None for a key that is missing."""
    chosen: dict[str, Any] = {}
    for key in keys:
        value: Any = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        chosen[key] = value
    return chosen

"""Small files that stand for many source files, or for values of the parameter file, as one input of a job.

A list in :data:`FOLDER` has a line for each source file with its MD5, as ``md5sum`` writes it. A file in
:data:`VALUES` holds the values at some keys of the parameter file; its name is these keys. Both are written only if
their content has changed, and they are in git. One stage of ``dvc.yaml`` makes them all, from the source files and the
keys, so that DVC looks at each of these once and not for every job.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from latent_atlas.files import write_text
from latent_atlas.versioning.common import VersioningError, canonical

FOLDER = Path(".latent-atlas", "sources")
VALUES = Path(".latent-atlas", "parameters")
LONGEST = 200  # characters of a name
_in_use: set[Path] = set()  # what this process has written, or has found to be as it would write it


def write(path: Path, files: Iterable[Path], root: Path | None = None) -> str:
    """The path of a list of files, written anew if one has changed; their names as seen from ``root`` if given."""
    names = {str(file.relative_to(root).as_posix() if root else file): file for file in sorted(files)}
    return _written(path, "".join(f"{_checksum(file)}  {name}\n" for name, file in names.items()))


def write_values(path: str, values: Mapping[str, Any]) -> None:
    """Write values of the parameter file by their keys to a file in :data:`VALUES`, if they have changed."""
    _written(Path(path), json.dumps(json.loads(canonical(values)), indent=1) + "\n")


def values_file(keys: Iterable[str]) -> str | None:
    """The file in :data:`VALUES` for these keys; None if they make no name of a file."""
    name = "+".join(sorted(keys))
    return str(VALUES / f"{name}.json") if re.fullmatch(r"[\w.+-]+", name) and len(name) <= LONGEST else None


def keys(file: str) -> list[str]:
    """The keys of a file in :data:`VALUES`."""
    return Path(file).name.removesuffix(".json").split("+")


def is_list(file: str) -> bool:
    """Whether a file stands for source files of this folder."""
    return file.startswith(f"{FOLDER}/")


def has_values(file: str) -> bool:
    """Whether a file stands for values of the parameter file."""
    return file.startswith(f"{VALUES}/")


def content(file: str) -> dict[str, str]:
    """The files that a list names, with their MD5s.

    Raises
    ------
    VersioningError
        If it cannot be read.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise VersioningError(f"{file} cannot be read ({error}): delete it, and start snakemake again") from error
    return {name: found for found, _, name in (line.partition("  ") for line in lines)}


def behind(files: Iterable[str]) -> dict[str, str]:
    """The source files for which the lists among these files stand, with their MD5s."""
    return {name: found for file in files if is_list(file) for name, found in content(file).items()}


def remove_others() -> None:
    """Remove the lists and values that no job of this process has asked for."""
    for folder in (FOLDER, VALUES):
        for path in folder.glob("*"):
            if path not in _in_use and path.is_file():
                path.unlink()


def _written(path: Path, text: str) -> str:
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    _in_use.add(path)
    return str(path)


@functools.cache
def _checksum(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()

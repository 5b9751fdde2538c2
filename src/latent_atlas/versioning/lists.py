"""Lists of source files that stand for them as one input of a job: fewer inputs are planned faster.

A list has a line for each file with its MD5, as ``md5sum`` writes it, and is written only if one of them has changed.
To Snakemake the list is the input. In ``dvc.yaml`` and ``dvc.lock`` the files themselves are.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from latent_atlas.files import write_text
from latent_atlas.versioning.common import VersioningError

FOLDER = Path(".snakemake", "latent-atlas", "sources")


def write(path: Path, files: Iterable[Path], root: Path | None = None) -> str:
    """The path of a list of files, written anew if one has changed; their names as seen from ``root`` if given."""
    names = {str(file.relative_to(root).as_posix() if root else file): file for file in sorted(files)}
    text = "".join(f"{_checksum(file)}  {name}\n" for name, file in names.items())
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return str(path)


def listed(file: str) -> tuple[str, ...]:
    """The files for which an input stands: those that a list in :data:`FOLDER` names; for any other, itself."""
    return _names(file) if file.startswith(f"{FOLDER}/") else (file,)


def checksum(file: str) -> str:
    """MD5 of a list, in Snakemake's form."""
    return f"md5:{hashlib.md5(Path(file).read_bytes()).hexdigest()}"


@functools.cache
def _names(file: str) -> tuple[str, ...]:
    try:
        return tuple(line.partition("  ")[2] for line in Path(file).read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise VersioningError(f"{file} cannot be read ({error}): delete it, and start snakemake again") from error


@functools.cache
def _checksum(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()

"""Which jobs of a group have ended well on a node, so that a group that is started again leaves them out.

A group is one job for a scheduler: if one of its jobs fails, or the group is cut off, Snakemake starts all of them
again. Here each job that ends well leaves a note with the checksums of what it read and wrote. A job is left out if
all of this still holds.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from latent_atlas.versioning.common import VersioningError, regular, write_text

FOLDER = Path(".snakemake", "latent-atlas", "ended")


def note(job: Any) -> None:
    """Note that a job, or each of a group, has ended well."""
    with contextlib.suppress(OSError, VersioningError):  # then it runs again if its group does
        for one in job if job.is_group() else [job]:
            write_text(_path(one), _state(one))


def noted(job: Any) -> bool:
    """Whether a job has ended well with the inputs, parameters and command that it has now, and its outputs stand.

    Of a group, whether this holds for all of its jobs.
    """
    with contextlib.suppress(OSError, ValueError):
        return all(regular(_path(one)) == _state(one) for one in (job if job.is_group() else [job]))
    return False


def forget(job: Any) -> None:
    """Let a job run in any case."""
    with contextlib.suppress(OSError):
        _path(job).unlink(missing_ok=True)


def _path(job: Any) -> Path:
    name = "-".join([job.rule.name, *(str(value) for value in job.wildcards)])
    return FOLDER / f"{hashlib.sha256(name.encode()).hexdigest()}.json"


def _state(job: Any) -> str:
    """All that decides about a job, as text; OSError if a file is missing."""
    params = {name: str(value) for name, value in job.params.items()}
    command = [job.rule.name, job.rule.shellcmd, dict(job.wildcards_dict), params]
    return json.dumps([command, _checksums(job.input), _checksums(job.output)], sort_keys=True)


def _checksums(files: Iterable[Any]) -> dict[str, str]:
    found = {}
    for file in map(str, files):
        status = Path(file).stat()
        found[file] = _checksum(file, status.st_size, status.st_mtime_ns)
    return found


@functools.lru_cache(maxsize=4096)
def _checksum(file: str, size: int, modified: int) -> str:
    with Path(file).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

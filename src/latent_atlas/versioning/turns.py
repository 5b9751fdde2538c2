"""One run at a time in a folder: who else is at work there, whether Snakemake or DVC."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import socket
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from latent_atlas.versioning.common import VersioningError

if TYPE_CHECKING:
    from dvc.repo import Repo

WAIT = "wait until it ends, or end it, then run the same command again"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only run that holds this file. The kernel frees it when the process ends, also if it is killed.

    Nothing is held where the file cannot be made, or its file system has no locks.

    Raises
    ------
    VersioningError
        If another run holds it: who it is, and how to go on.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o666)
    except OSError:
        yield
        return
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise VersioningError(
                f"another snakemake is at work in {Path.cwd()}{_who(file.read(10_000))}: {WAIT}"
            ) from error
        except OSError:
            pass
        else:
            with contextlib.suppress(OSError):  # it says who we are, no more
                file.truncate(0)
                file.write(json.dumps(_myself()).encode())
        yield


def command() -> str:
    """The command line of this process, as it is shown to others."""
    return shlex.join([Path(sys.argv[0]).name.replace("__main__.py", "snakemake"), *sys.argv[1:]])


def _myself() -> dict[str, str | int]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": _time(), "command": command()}


def _time(seconds: float | None = None) -> str:
    """A time, or now, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC) if seconds else datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _who(content: bytes) -> str:
    """What the other run says of itself, if that can be read."""
    try:
        other = json.loads(content)
        return " ({command}, PID {pid} on {host}, since {since})".format_map(other)
    except (ValueError, KeyError, TypeError):
        return ""


@contextlib.contextmanager
def busy(repo: Repo, reads: Collection[str], writes: Collection[str]) -> Iterator[str | None]:
    """Tell DVC which files this process reads and writes; gives a warning, if DVC's record of them cannot be used.

    Parameters
    ----------
    repo : dvc.repo.Repo
    reads, writes : collection of str
        Absolute paths.

    Raises
    ------
    VersioningError
        If a DVC command reads or writes one of them: who it is, and how to go on.
    """
    from dvc.exceptions import DvcException
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    hardlink = repo.config["core"].get("hardlink_lock", False)
    hold = rwlock(repo.tmp_dir, localfs, command(), sorted(reads), sorted(writes), hardlink)
    warning = None
    try:
        hold.__enter__()
    except LockError as error:
        raise VersioningError(_blocked(str(error))) from error
    except (DvcException, OSError, ValueError) as error:
        warning = (
            f"{repo.tmp_dir}/rwlock cannot be used ({error}), so that a DVC command beside this run is not noticed: "
            f"delete it"
        )
    try:
        yield warning
    finally:
        if warning is None:
            with contextlib.suppress(Exception):  # somebody has deleted the record meanwhile
                hold.__exit__(None, None, None)


def _blocked(message: str) -> str:
    """What DVC says of another command at work, in one sentence."""
    holders = []
    for pid, name in re.findall(r"\(PID (\d+)\): (.*)", message):
        try:
            since = f" since {_time(psutil.Process(int(pid)).create_time())}"
        except psutil.Error:
            since = ""
        holders.append(f"{name} (PID {pid} on {socket.gethostname()}{since})")
    if not holders:
        return f"another DVC command holds the lock of {Path.cwd()}: {WAIT}"
    path = message.partition("'")[2].partition("'")[0]
    return f"{', '.join(holders)} is at work on {path}: {WAIT}"

"""The end of a process, without the time that Python takes to delete all objects.

When a process ends, Python deletes what its modules hold, one object after another: with torch and pandas loaded this
takes a third of a second, for memory that the system takes back at once. A process that uses :func:`after` ends before
that: when its threads have ended, all that is registered by :mod:`atexit` was called, and all files are flushed.

To be imported before other packages, since what is registered first for the end of a process is called last. The
standard library alone is used.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import os
from collections.abc import Callable

_status: int | None = None  # with which the process is to end, once it is known


def after(work: Callable[[], object]) -> None:
    """Do the work; then the process is to end with its exit status.

    An exception other than :class:`SystemExit` and a file that cannot be flushed are left to Python.
    """
    global _status
    try:
        work()
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):  # Python shows any other object
            _status = stop.code or 0
        raise
    _status = 0


@atexit.register
def _end() -> None:
    if _status is None:
        return
    try:
        _flush()
    except Exception:  # a full disk, or a stream of the user's own; Python tells of it
        return
    os._exit(_status & 0xFF)


def _flush() -> None:
    """Write out what is still held of files that nobody has closed."""
    for found in gc.get_objects():
        if issubclass(type(found), io.IOBase):
            with contextlib.suppress(ValueError):  # it is closed or detached
                if found.writable():
                    found.flush()
    ctypes.CDLL(None).fflush(None)  # those of libraries

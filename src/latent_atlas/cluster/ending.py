"""The end of a process, without the time that Python takes to delete all objects.

When a process ends, Python deletes what its modules hold, one object after another: with torch and pandas loaded this
takes a third of a second, for memory that the system takes back at once. A process that uses :func:`after` ends before
that: when its threads have ended, all that is registered by :mod:`atexit` was called, and open files are flushed.

It ends as Python ends it in all other cases: if a daemon thread is left, if something was registered for the end before
this module was imported, if a compressed, an archive or a temporary file is open, which is completed when it is
deleted, or if a file cannot be flushed. Other objects that do something when they are deleted do not do it at the end.

The standard library alone is used.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

# Files that are completed or removed when they are deleted, beside those that are derived from files.
COMPLETED = (("zipfile", "ZipFile"), ("tempfile", "_TemporaryFileWrapper"))
_FIRST = atexit._ncallbacks() == 0  # what is registered first is called last
_status: int | None = None  # exit status; None until it is known


def after(work: Callable[[], object]) -> None:
    """Do the work; the process is to end with its exit status.

    An exception other than :class:`SystemExit` is handled by Python as usual. So is all, if another program, such as a
    test or a profiler, calls this function and may go on after it.
    """
    global _status
    try:
        work()
    except SystemExit as stop:
        if (stop.code is None or isinstance(stop.code, int)) and _is_the_program():  # Python shows any other object
            _status = stop.code or 0
        raise
    if _is_the_program():
        _status = 0


def _is_the_program() -> bool:
    """Whether only scripts and this package wait for the end of the caller's caller."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name not in ("__main__", "runpy") and not name.startswith("latent_atlas."):
            return False
        frame = frame.f_back  # type: ignore[assignment]
    return True


@atexit.register
def _end() -> None:
    if _status is None or hasattr(sys, "last_type"):  # an exception was shown after the work
        return
    if not _FIRST or threading.active_count() > 1:
        return
    try:
        if not _flush():
            return
    except Exception:  # a full disk, or a stream of the user's own; Python tells of it
        return
    os._exit(_status & 0xFF if abs(_status) < 2**63 else 0xFF)


def _flush() -> bool:
    """Flush all open files; returns whether that completes them."""
    for stream in (sys.stdout, sys.stderr):  # they may be frozen, and are then not listed
        if stream is not None and not stream.closed:
            stream.flush()
    objects: list[Any] = gc.get_objects()
    completed = [getattr(sys.modules[module], name) for module, name in COMPLETED if module in sys.modules]
    files = {kind for kind in set(map(type, objects)) if issubclass(kind, (io.IOBase, *completed))}
    for found in objects:
        if type(found) not in files:
            continue
        if type(found).__module__ == "_io":
            with contextlib.suppress(ValueError):  # it is closed or detached
                if found.writable():
                    found.flush()
        elif not (found.closed if hasattr(found, "closed") else found.fp is None):
            return False
    ctypes.CDLL(None).fflush(None)  # streams of C libraries
    return True

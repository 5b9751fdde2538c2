"""How memory is given back to the system."""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what is allocated next.

    By default large blocks go back to the system at once, and every step of a training, or batch of images, takes, and
    so clears, the same pages again.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that older ones take
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

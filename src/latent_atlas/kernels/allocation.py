"""Settings of the memory allocator."""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation.

    By default glibc returns large blocks to the system at once. Then each step of a training, or batch of images, gets
    the same pages again, and the system clears them each time.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)  # the limit of older versions
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

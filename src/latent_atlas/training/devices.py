"""The device that a training computes on: where there are several GPUs, one that no other training uses.

A GPU is claimed twice. The name of an abstract UNIX socket is known to all processes in one network namespace, and can
be counted up, so that trainings spread evenly where there are more of them than GPUs. A lock (flock) on the device
node, ``/dev/nvidiaN``, is also seen by trainings in other network namespaces if they have the same node: those of
``unshare --net``, and of container engines that bind the host's nodes. An engine that makes device nodes of its own
gives each container another file, and a lock on it is not seen elsewhere: there the sockets alone count, and two
containers without a common network may choose the same GPU.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

from latent_atlas.errors import TrainingError

# Open for as long as this process lives: what is closed ends its claim.
_claims: list[socket.socket] = []
_locks: list[int] = []
NVIDIA = Path("/proc/driver/nvidia/gpus")  # where the driver says which node a GPU has


def choose_device(name: str = "auto") -> torch.device:
    """The device to compute on: CUDA, else Apple's MPS, else the CPU, or the one that is named.

    Where several GPUs are visible, ``auto`` and ``cuda`` give the one on which the fewest other trainings run.
    Each training claims its GPU until its process ends: see :func:`claim`.

    Raises
    ------
    TrainingError
        If the named device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available.get(name.partition(":")[0], False):
        there = ", ".join(kind for kind, here in available.items() if here)
        raise TrainingError(f"device {name!r} is not available here: choose auto or one of {there}")
    if name == "cuda" and torch.cuda.device_count() > 1:
        ids = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
        return torch.device("cuda", claim(ids, nodes_of(ids)))
    return torch.device(name)


def describe(device: torch.device) -> str:
    """The product name of a GPU, such as ``NVIDIA H100``; ``cpu`` or ``mps`` for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def nodes_of(ids: Sequence[str], driver: Path = NVIDIA) -> list[Path | None]:
    """The device node of each GPU, by what NVIDIA's driver says of them; None where it says nothing, as of parts."""
    found = {}
    for file in driver.glob("*/information"):
        with suppress(OSError):
            text = file.read_text(encoding="utf-8", errors="replace")
            uuid, minor = re.search(r"GPU UUID:\s*(?:GPU-)?(\S+)", text), re.search(r"Device Minor:\s*(\d+)", text)
            if uuid and minor:
                found[uuid.group(1)] = Path(f"/dev/nvidia{minor.group(1)}")
    return [found.get(device.removeprefix("GPU-")) for device in ids]


def claim(ids: Sequence[str], nodes: Sequence[Path | None] = ()) -> int:
    """Claim the device on which the fewest processes of this machine have a claim, the first of several.

    A claim is a UNIX socket with a name in Linux's abstract namespace, which one process at a time can bind, and a lock
    on the device node, if it is there and nobody has it. No file is made. The kernel frees both when the process ends,
    also if it is killed. A device whose node somebody else has locked comes after those that are free. Where there is
    no such namespace, the first device is taken.

    Parameters
    ----------
    ids : sequence of str
        Identifiers that mean the same device in every process.
    nodes : sequence of Path or None, optional
        The device node of each.

    Returns
    -------
    int
        Index in ``ids``.
    """
    for turn in itertools.count():
        for index, device in enumerate(ids):
            lock = _locked(nodes[index]) if turn == 0 and nodes else None
            if lock is False:
                continue
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0latent-atlas-gpu-{device}-{turn}")
            except OSError as error:
                name.close()
                if lock is not None:
                    os.close(lock)
                if error.errno != errno.EADDRINUSE:
                    return 0
            else:
                _claims.append(name)
                _locks.extend([] if lock is None else [lock])
                return index
    raise AssertionError("unreachable")


def _locked(node: Path | None) -> int | Literal[False] | None:
    """Lock a device node: its open descriptor, False if another process has it, None if that cannot be told.

    What is no character device, or is a link, is not locked, and opening it neither waits nor changes it.
    """
    if node is None:
        return None
    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return descriptor

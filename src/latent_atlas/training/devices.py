"""The device that a training computes on: where there are several GPUs, one that no other training uses."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Sequence

import torch

from latent_atlas.errors import TrainingError

_claims: list[socket.socket] = []  # open for as long as this process lives: a closed socket ends its claim


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
        return torch.device("cuda", claim(ids))
    return torch.device(name)


def describe(device: torch.device) -> str:
    """The product name of a GPU, such as ``NVIDIA H100``; ``cpu`` or ``mps`` for other devices."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def claim(ids: Sequence[str]) -> int:
    """Claim the device on which the fewest processes of this machine have a claim, the first of several.

    A claim is a UNIX socket with a name in Linux's abstract namespace, which one process at a time can bind. No file is
    made. The kernel frees the name when the process ends, also if it is killed. Where there is no such namespace,
    the first device is taken.

    Parameters
    ----------
    ids : sequence of str
        Identifiers that mean the same device in every process.

    Returns
    -------
    int
        Index in ``ids``.
    """
    for turn in itertools.count():
        for index, device in enumerate(ids):
            name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                name.bind(f"\0latent-atlas-gpu-{device}-{turn}")
            except OSError as error:
                name.close()
                if error.errno != errno.EADDRINUSE:
                    return 0
            else:
                _claims.append(name)
                return index
    raise AssertionError("unreachable")

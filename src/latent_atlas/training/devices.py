"""The device that a training computes on: where there are several GPUs, one that nobody else trains on."""

from __future__ import annotations

import fcntl
import itertools
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

from latent_atlas.errors import TrainingError

CLAIMS = Path(tempfile.gettempdir()) / "latent-atlas-gpus"
_held: list[IO[str]] = []  # open for as long as this process lives: a closed file gives its claim back


def choose_device(wish: str = "auto") -> torch.device:
    """The device to compute on: CUDA, else Apple's MPS, else the CPU, or the one wished for.

    Where several GPUs are visible, ``auto`` and ``cuda`` give the one on which the fewest other trainings run: each
    claims its own for as long as its process lives, however it ends.

    Raises
    ------
    TrainingError
        If the device wished for is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        wish = next(name for name, there in available.items() if there)
    if not available.get(wish.partition(":")[0], False):
        there = ", ".join(name for name, here in available.items() if here)
        raise TrainingError(f"device {wish!r} is not available here: choose auto or one of {there}")
    if wish == "cuda" and torch.cuda.device_count() > 1:
        names = [str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())]
        return torch.device("cuda", claim(names))
    return torch.device(wish)


def describe(device: torch.device) -> str:
    """The name of a device as its maker has it, such as ``NVIDIA H100``; ``cpu`` and ``mps`` go by their own."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def claim(names: Sequence[str], folder: Path = CLAIMS) -> int:
    """Take the device on which the fewest processes of this machine have a claim, the first of several.

    A claim is a lock on a file, which the system takes back when the process ends, even if it is killed. Where no
    such file can be written, the first device is taken.

    Parameters
    ----------
    names : sequence of str
        Names that mean the same device in every process.
    folder : Path
        Where the lock files lie.

    Returns
    -------
    int
        Index in ``names``.
    """
    for turn in itertools.count():
        for index, name in enumerate(names):
            try:
                folder.mkdir(exist_ok=True)
                with suppress(PermissionError):
                    folder.chmod(0o777)  # other users claim here too
                path = folder / f"{name}.{turn}"
                file = path.open("a")
                with suppress(PermissionError):
                    path.chmod(0o666)
            except OSError:
                return 0
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
            else:
                _held.append(file)
                return index
    raise AssertionError("unreachable")

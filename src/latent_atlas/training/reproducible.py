"""Torch's global settings and random generators, set for a training and restored after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def reproducible(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators and ask for deterministic algorithms, for as long as the block runs."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS)
    generator = torch.get_rng_state()
    on_device = _device_state(device)
    try:
        if device.type == "cuda":
            os.environ.setdefault(CUBLAS, ":4096:8")
            torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")
        # a guard against bugs, which costs a pass over memory for every tensor
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop(CUBLAS, None)
        torch.set_rng_state(generator)
        if on_device is not None:
            if device.type == "cuda":
                torch.cuda.set_rng_state(on_device, device)
            else:
                torch.mps.set_rng_state(on_device)


def _device_state(device: torch.device) -> torch.Tensor | None:
    """The state of the device's own random generator."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None

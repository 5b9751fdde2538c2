"""What a benchmark says of the machine that it ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The name of the processor with its family and model, or what the platform says of it.

    Processors that differ much share a name, where a virtual machine says no more than the maker.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        return f"{said['model name']} (family {said['cpu family']}, model {said['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()

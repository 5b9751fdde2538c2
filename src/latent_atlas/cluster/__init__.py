"""Where jobs run: the GPUs of this machine, SLURM, and the metadata of jobs."""

import subprocess
from typing import Any


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command, which may fail; its output is text."""
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)

"""resources: what the jobs of each stage were measured to take."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latent_atlas.cluster.records import ENDING, read_all
from latent_atlas.study.resources import size

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

HEADER = """\
# What a job of each stage took at most in a run of the default study: `latent-atlas resources` writes this after a run.
# Seconds of train are for an epoch of 60,000 images, those of invariance_epochs for an epoch, those of the stages that
# compare all manifolds for one manifold. src/latent_atlas/study/resources.py requests more, and more with each attempt.
"""


@click.command()
def resources() -> None:
    """Write workflow/resources.yaml from the records of a finished run's jobs.

    The requests to a cluster are these measurements times a margin.

    \b
    Example:
      latent-atlas resources
    """
    from latent_atlas.files import write_text
    from latent_atlas.study import schema as config
    from latent_atlas.study.resources import MEASURED, read

    params = config.load("params.yaml")
    measured = (read() if MEASURED.exists() else {}) | measure(Path("logs"), params)
    text = io.StringIO()
    for stage, entry in sorted(measured.items()):
        text.write(f"{stage}: {{seconds: {entry['seconds']:g}, memory_mb: {entry['memory_mb']:g}}}\n")
    write_text(MEASURED, HEADER + text.getvalue())
    click.echo(f"{len(measured)} stages: {MEASURED}")


def measure(logs: Path, params: Params) -> dict[str, dict[str, float]]:
    """The largest time and memory of each stage's jobs: seconds for a unit of work, memory for a job."""
    found: dict[str, dict[str, float]] = {}
    for path, job in read_all(logs).items():
        stage, *wildcards = path.relative_to(logs).as_posix().removesuffix(ENDING).split("/")
        entry = found.setdefault(stage, {"seconds": 0.0, "memory_mb": 0.0})
        units = size(stage, wildcards[0] if wildcards else "", params)
        entry["seconds"] = max(entry["seconds"], round(job["wall_s"] / units, 1))
        entry["memory_mb"] = max(entry["memory_mb"], job["peak_memory_mib"])
    return found

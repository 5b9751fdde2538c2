"""resources: what the jobs of each rule were measured to take."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from latent_atlas.study.resources import size

HEADER = """\
# What a job of each rule took at most in a run of the default study, by Snakemake's benchmark files: `latent-atlas
# resources` writes this after a run. Seconds of train are for an epoch of 60,000 images, those of invariance_epochs for
# an epoch, those of the stages that compare all manifolds for one manifold. latent_atlas/study/resources.py asks for
# more, and for more with each attempt.
"""
ENDING = ".benchmark.tsv"


@click.command()
def resources() -> None:
    """Write workflow/resources.yaml from the benchmark files of a finished run.

    These measurements are what clusters are asked for, times a margin.
    """
    from latent_atlas.files import write_text
    from latent_atlas.study import schema as config
    from latent_atlas.study.resources import MEASURED, read

    params = config.load("params.yaml")
    measured = (read() if MEASURED.exists() else {}) | measure(Path("logs"), params)
    text = io.StringIO()
    for rule, entry in sorted(measured.items()):
        text.write(f"{rule}: {{seconds: {entry['seconds']:g}, memory_mb: {entry['memory_mb']:g}}}\n")
    write_text(MEASURED, HEADER + text.getvalue())
    click.echo(f"{len(measured)} rules: {MEASURED}")


def measure(logs: Path, params: Any) -> dict[str, dict[str, float]]:
    """The largest time and memory of each rule's jobs: seconds for a unit of work, memory for a job."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(logs.rglob(f"*{ENDING}")):
        rule, *wildcards = path.relative_to(logs).as_posix().removesuffix(ENDING).split("/")
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        units = size(rule, wildcards[0] if wildcards else "", params)
        entry = found.setdefault(rule, {"seconds": 0.0, "memory_mb": 0.0})
        for row in rows:
            entry["seconds"] = max(entry["seconds"], round(float(row["s"]) / units, 1))
            if row["max_rss"] not in ("NA", "-"):  # jobs that end before they are looked at
                entry["memory_mb"] = max(entry["memory_mb"], round(float(row["max_rss"])))
    return found

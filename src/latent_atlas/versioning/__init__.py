"""One lock file for two engines: Snakemake and DVC both decide by ``dvc.lock`` which jobs are up to date.

By default Snakemake decides by modification times and its own records, DVC by the content hashes in ``dvc.lock``.
After a clone, a checkout or an edit the two can disagree. Here both use ``dvc.lock``. ``engine`` lets Snakemake compare
a job with its entry there, and write the entry when the job has succeeded. ``pipeline`` derives ``dvc.yaml`` from
Snakemake's jobs, so that the Snakefile is the only definition. ``lock_file`` reads and writes ``dvc.lock``.
"""

from collections.abc import Callable, Mapping
from typing import Any


def attach(workflow: Any, extras_file: str, times: Callable[[], Mapping[str, tuple[float, float]]] = dict) -> None:
    """Let a workflow use ``dvc.lock``: see :func:`.engine.attach`. Called at the end of a Snakefile."""
    from latent_atlas.versioning import engine

    engine.attach(workflow, extras_file, times)

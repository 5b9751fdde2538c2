"""One memory for two engines: Snakemake and DVC both judge by ``dvc.lock``.

Left alone, Snakemake judges by modification times and its own records, DVC by the content hashes in
``dvc.lock``, and the two contradict each other after a clone, a checkout or an edit. Here ``dvc.lock`` is the
only memory. ``engine`` lets Snakemake ask it whether a job is current, and write to it when a job has ended;
``pipeline`` derives ``dvc.yaml`` from Snakemake's jobs, so that the Snakefile stays the one definition; ``lock_file``
reads and writes what DVC remembers.
"""

from typing import Any


def attach(workflow: Any, extras_file: str) -> None:
    """Let a workflow share its memory with DVC: see :func:`.engine.attach`. Called at the end of a Snakefile."""
    from latent_atlas.versioning import engine

    engine.attach(workflow, extras_file)

"""Where jobs run: on the GPUs of this machine, or on a cluster."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from latent_atlas.cluster import fork_server, run, slurm
from latent_atlas.versioning import engine

CHECK_VARIABLE = "LATENT_ATLAS_CHECK_SITE"  # set by the doctor: ask the cluster in a dry run too


def attach(workflow: Any) -> None:
    """Fit a workflow to where it runs, once its jobs are known. Called at the end of the Snakefile."""
    fork_server.forget()
    try:
        engine.run_submission_here(workflow)
        if workflow.is_main_process:
            engine.when_planned(workflow, lambda: _fit(workflow))
        engine.when_planned(workflow, lambda: _load_once(workflow))
    except AttributeError as error:
        engine.workflow_log(f"this Snakemake has another structure ({error}): no GPUs are counted, SLURM is not asked")


def submits(workflow: Any) -> bool:
    """Whether the jobs of a workflow are, or would be, submitted to a cluster."""
    return workflow.remote_exec or not workflow.local_exec or CHECK_VARIABLE in os.environ


def _load_once(workflow: Any) -> None:
    """Where several jobs run here, let one process load their packages for all of them."""
    here = workflow.local_exec or engine.in_submission(workflow)
    if here and not workflow.dryrun and sum(job.is_shell for job in workflow.dag.needrun_jobs()) > 1:
        fork_server.start()


def _fit(workflow: Any) -> None:
    if workflow.local_exec and "gpu" not in workflow.global_resources and (gpus := visible_gpus()):
        workflow.register_resource("gpu", gpus)  # as many trainings at once; --resources gpu=N says otherwise
    if workflow.executor_plugin.name == "slurm" or os.environ.get(CHECK_VARIABLE) == "slurm":
        slurm.ask(workflow)
        engine.run_forced(workflow)
        if not workflow.dryrun:
            slurm.cancel_left_behind(Path.cwd())


def visible_gpus() -> int:
    """Number of NVIDIA GPUs that a process on this machine may use, found without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shutil.which("nvidia-smi") is None or (visible is not None and visible.strip() in ("", "-1")):
        return 0
    listed = run("nvidia-smi", "--list-gpus")
    there = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    return min(there, len(visible.split(","))) if visible else there

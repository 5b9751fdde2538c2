"""Before a run on SLURM: check that it accepts the jobs, and cancel the jobs of a run that was killed."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ruamel.yaml import YAML
from snakemake.exceptions import WorkflowError

from latent_atlas.cluster import run
from latent_atlas.versioning import engine

CANCEL_S = 120

# The parts of a request that SLURM may refuse, the most likely first: the keys of a profile that set it, and a word of
# SLURM's message that names it. If the message names no part, the request is tried without each part in turn.
SUSPECTS = {
    "account": (("slurm_account",), "account"),
    "partition": (("slurm_partition",), "partition"),
    "time": (("runtime",), "time limit"),
    "GPU": (("gres", "gpu"), "gres"),
    "memory": (("mem_mb",), "memory"),
    "number of cores": (("threads", "cpus_per_task"), "cpu count"),
}


def ask(workflow: Any) -> None:
    """Ask SLURM for each kind of planned job whether any node could run it; nothing is submitted.

    Raises
    ------
    WorkflowError
        With SLURM's message, the part of the request that it refuses, and the line of the profile that sets it; also
        if the script of a job would be started more than once.
    """
    if shutil.which("sbatch") is None:
        raise WorkflowError("there is no sbatch here: start this where jobs are submitted from, or use another profile")
    submissions = list(_submissions(workflow))
    for job in submissions:
        if trouble := repeated(dict(job.resources.items())):
            rules = sorted({single.rule.name for single in (job if job.is_group() else [job])})
            key = "tasks" if job.resources.get("tasks_per_gpu") is None else "tasks_per_gpu"
            place = next(filter(None, (where_set(rule, key) for rule in rules)), "the profile")
            raise WorkflowError(f"SLURM would run {', '.join(rules)} {trouble}. Change {place}: remove {key}")
    if getattr(workflow.executor_settings, "status_command", None) == "sacct":
        done = run("sacct", "--noheader", "-X")
        if done.returncode:
            raise WorkflowError(
                f"sacct does not answer ({' '.join(done.stderr.split())}), so that the end of a job would not be "
                f"noticed: add slurm-status-command: squeue to {profiles()[-1]}"
            )
    for call, job in {_request(job, {}): job for job in submissions}.items():
        if refusal := _refusal(call):
            raise WorkflowError(_explain(job, refusal))


def repeated(resources: Mapping[str, Any]) -> str:
    """How often SLURM would start the script of a job that requests GPUs, if more than once; else nothing.

    Snakemake's plugin asks for as many tasks for each GPU as ``tasks_per_gpu`` or else ``tasks`` says. Each task is a
    process of the script with GPUs of its own, and all of them would write the same files.
    """
    count = str(resources.get("gpu") or resources.get("gres") or 0).partition("(")[0].rpartition(":")[2]
    gpus = int(count) if count.isdecimal() else int("gpu" in count)  # gpu:a100 is one
    asked = resources.get("tasks_per_gpu")
    tasks = int((resources.get("tasks") if asked is None else asked) or 0)
    if gpus * tasks <= 1:
        return ""
    return f"{gpus * tasks} times at once: {gpus} GPU{'s' * (gpus > 1)}, with {tasks} task{'s' * (tasks > 1)} for each"


def cancel_left_behind(folder: Path) -> None:
    """Cancel the jobs of a killed run that are still in SLURM's queue, so that no file is written by two jobs at once.

    Jobs are recognized by their folder and by the comment that Snakemake's plugin gives them. A cancelled training
    continues from its last completed epoch when it is submitted again.

    Raises
    ------
    WorkflowError
        If the jobs do not end.
    """
    left = _left_behind(folder)
    if not left:
        return
    run("scancel", *left)
    deadline = time.monotonic() + CANCEL_S
    while _left_behind(folder):
        if time.monotonic() > deadline:
            raise WorkflowError(f"jobs of an earlier run do not end within {CANCEL_S} s: scancel {' '.join(left)}")
        time.sleep(1)
    engine.workflow_log(f"Cancelled {len(left)} jobs that an earlier run had left in the queue: {', '.join(left)}")


def _left_behind(folder: Path) -> list[str]:
    """Numbers of this user's jobs in SLURM's queue that belong to a folder."""
    listed = run("squeue", "--me", "--noheader", "--format=%i|%k|%Z").stdout.splitlines()
    jobs = (line.strip().split("|", 2) for line in listed)
    return [number for number, comment, place in jobs if comment.startswith("rule_") and Path(place) == folder]


def _submissions(workflow: Any) -> Iterator[Any]:
    """What will be submitted: jobs, and groups of jobs."""
    jobs = (job for job in workflow.dag.needrun_jobs() if job.output and not engine.is_local(workflow, job))
    yield from dict.fromkeys(workflow.dag.get_job_group(job) or job for job in jobs)


def _request(job: Any, instead: Mapping[str, Any]) -> str:
    """The command with which Snakemake's plugin would submit a job, with ``--test-only``.

    Parameters
    ----------
    job : snakemake.jobs.Job or GroupJob
    instead : mapping of resource to value
        Values that replace those of the job; None removes one.
    """
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    values = {key: value for key, value in {**dict(job.resources.items()), **instead}.items() if value is not None}
    resources = type(job.resources)(fromdict=values)
    asked = SimpleNamespace(threads=values.pop("threads", job.threads), resources=resources)
    words = {
        "run_uuid": "check",
        "slurm_logfile": os.devnull,
        "comment_str": "check",
        "account": _option("-A", resources.get("slurm_account")),
        "partition": _option("-p", resources.get("slurm_partition")),
        "workdir": None,
    }
    return f"{get_submit_command(asked, words)}{set_gres_string(asked)} --test-only --wrap=true"


def _option(flag: str, value: Any) -> str:
    return f" {flag} {shlex.quote(str(value))}" if value else ""


def _refusal(call: str) -> str | None:
    """SLURM's message about a request that it refuses; None if it accepts it."""
    done = run(*shlex.split(call))
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.replace("allocation failure: ", "").replace("sbatch: error: ", "").split())


def _explain(job: Any, refusal: str) -> str:
    """The message about a refused request: the part that is refused, and where it is set."""
    singles = list(job) if job.is_group() else [job]
    rules = sorted({single.rule.name for single in singles})
    head = f"SLURM cannot run {', '.join(rules)}: {refusal}."
    what, keys = _culprit(job, refusal)
    if not what:
        return f"{head} See default-resources and set-resources in the profile"
    values = {key: job.threads if key == "threads" else job.resources.get(key) for key in keys}
    asked = ", ".join(f"{key}={value}" for key, value in values.items() if value) or f"no {keys[0]}"

    def size(single: Any) -> float:
        value = single.resources.get(keys[0], 0)
        return value if isinstance(value, (int, float)) else 0

    largest = max(singles, key=size).rule.name
    place = next(filter(None, (where_set(largest, key) for key in keys)), None)
    place = place or f"the profile: add {keys[0]} to set-resources for {largest}, or default-resources"
    return f"{head} At fault is the {what} ({asked}). Change {place}"


def _culprit(job: Any, refusal: str) -> tuple[str, tuple[str, ...]]:
    """The part of a request that SLURM names, or without which it would accept the request."""
    for what, (keys, word) in SUSPECTS.items():
        if word in refusal.lower():
            return what, keys
    least = {"mem_mb": 1, "threads": 1, "cpus_per_task": 1, "runtime": 1}
    for what, (keys, _) in SUSPECTS.items():
        if _refusal(_request(job, {key: least.get(key) for key in keys})) is None:
            return what, keys
    return "", ("slurm_partition",)


def where_set(rule: str, key: str) -> str | None:
    """File, line and text of the entry in the profile that sets a resource for a rule."""
    for path in profiles():
        if not path.is_file():
            continue
        values = YAML().load(path.read_text(encoding="utf-8")) or {}
        places = [((values.get("set-resources") or {}).get(rule), key), (values.get("default-resources"), key)]
        if key == "threads":
            places = [(values.get("set-threads"), rule)]
        for section, entry in places:
            if isinstance(section, Mapping) and entry in section:
                line = section.lc.key(entry)[0] + 1  # type: ignore[attr-defined]
                return f"{path}, line {line}: {entry}: {section[entry]}"
    return None


def profiles() -> list[Path]:
    """The files of the profiles of this command line, in order of precedence."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workflow-profile")
    parser.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE"))
    named, _ = parser.parse_known_args()
    chosen = [named.workflow_profile or "profiles/default", named.profile]
    return [Path(name) / "config.yaml" for name in chosen if name and name != "none"]

"""SLURM, asked beforehand whether it can run a study, and rid of what a killed run left in its queue."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from snakemake.exceptions import WorkflowError

from latent_atlas.versioning import engine

CANCEL_S = 120

# What of a request may be refused, in the order of suspicion: the keys of a profile that say it, and the words by which
# SLURM gives it away. Where it says no more than that no node will do, the request is tried without each in turn.
SUSPECTS = {
    "account": (("slurm_account",), "account"),
    "partition": (("slurm_partition",), "partition"),
    "time": (("runtime",), "time limit"),
    "GPU": (("gres", "gpu"), "gres"),
    "memory": (("mem_mb",), "memory"),
    "number of cores": (("threads", "cpus_per_task"), "cpu count"),
}


def ask(workflow: Any) -> None:
    """Ask SLURM of each kind of job that is to run whether any node could ever run it; nothing is submitted.

    Raises
    ------
    WorkflowError
        With SLURM's own words, what of the request it refuses, and the line of the profile that says it.
    """
    if shutil.which("sbatch") is None:
        raise WorkflowError("there is no sbatch here: start this where jobs are submitted from, or use another profile")
    if getattr(workflow.executor_settings, "status_command", None) == "sacct":
        done = subprocess.run(["sacct", "--noheader", "-X"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkflowError(
                f"sacct does not answer ({' '.join(done.stderr.split())}), so that the end of a job would not be "
                f"noticed: add slurm-status-command: squeue to {profiles()[-1]}"
            )
    asked = set()
    for job in _submissions(workflow):
        call = _request(job, {})
        if call in asked:
            continue
        asked.add(call)
        refusal = _refusal(call)
        if refusal:
            raise WorkflowError(_explain(job, refusal))


def cancel_left_behind(folder: Path) -> None:
    """Cancel what a run that was killed has left in SLURM's queue: nothing may be made twice at the same time.

    Jobs are known by their folder and by the comment that Snakemake's plugin gives them. The trainings among them go on
    from their last whole epoch when they are submitted anew.

    Raises
    ------
    WorkflowError
        If they do not end.
    """
    left = _left_behind(folder)
    if not left:
        return
    subprocess.run(["scancel", *left], capture_output=True, check=False)
    deadline = time.monotonic() + CANCEL_S
    while _left_behind(folder):
        if time.monotonic() > deadline:
            raise WorkflowError(f"jobs of an earlier run do not end within {CANCEL_S} s: scancel {' '.join(left)}")
        time.sleep(1)
    engine.workflow_log(f"Cancelled {len(left)} jobs that an earlier run had left in the queue: {', '.join(left)}")


def _left_behind(folder: Path) -> list[str]:
    """Jobs of this user's that SLURM still holds for a folder."""
    listed = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%k|%Z"], capture_output=True, text=True, check=False
    )
    jobs = (line.strip().split("|", 2) for line in listed.stdout.splitlines())
    return [number for number, comment, place in jobs if comment.startswith("rule_") and Path(place) == folder]


def _submissions(workflow: Any) -> Iterator[Any]:
    """What is to be submitted: jobs, and groups of jobs once each."""
    seen = set()
    for job in workflow.dag.needrun_jobs():
        if job.output and not engine.is_local(workflow, job):
            one = workflow.dag.get_job_group(job) or job
            if one not in seen:
                seen.add(one)
                yield one


def _request(job: Any, instead: Mapping[str, Any]) -> str:
    """The call that Snakemake's plugin would submit a job with, made one that only asks.

    Parameters
    ----------
    job : snakemake.jobs.Job or GroupJob
    instead : mapping of resource to value
        What to ask for otherwise than the job does.
    """
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    asked = _Asked(job, instead)
    words = {
        "run_uuid": "check",
        "slurm_logfile": os.devnull,
        "comment_str": "check",
        "account": _option("-A", asked.resources.get("slurm_account")),
        "partition": _option("-p", asked.resources.get("slurm_partition")),
        "workdir": None,
    }
    return f"{get_submit_command(asked, words)}{set_gres_string(asked)} --test-only --wrap=true"


class _Asked:
    """A job as far as the plugin looks at it to write a request."""

    def __init__(self, job: Any, instead: Mapping[str, Any]) -> None:
        self.threads = instead.get("threads", job.threads)
        self.resources = _Resources({key: value for key, value in job.resources.items() if key not in instead})
        self.resources |= {key: value for key, value in instead.items() if value is not None and key != "threads"}


class _Resources(dict):
    """Resources by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def _option(flag: str, value: Any) -> str:
    return f" {flag} {shlex.quote(str(value))}" if value else ""


def _refusal(call: str) -> str | None:
    """What SLURM says against a request; None if it would take it."""
    done = subprocess.run(shlex.split(call), capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.replace("allocation failure: ", "").replace("sbatch: error: ", "").split())


def _explain(job: Any, refusal: str) -> str:
    """What of a refused request is at fault, and where it is said."""
    singles = list(job) if job.is_group() else [job]
    rules = sorted({single.rule.name for single in singles})
    head = f"SLURM cannot run {', '.join(rules)}: {refusal}."
    what, keys = _culprit(job, refusal)
    if not what:
        return f"{head} See default-resources and set-resources in the profile"
    values = {key: job.threads if key == "threads" else job.resources.get(key) for key in keys}
    asked = ", ".join(f"{key}={value}" for key, value in values.items() if value) or f"no {keys[0]}"

    def size(single: Any) -> float:
        wish = single.resources.get(keys[0], 0)
        return wish if isinstance(wish, (int, float)) else 0

    largest = max(singles, key=size).rule.name
    places = [place for key in keys if (place := where_said(largest, key))]
    place = places[0] if places else f"the profile: add {keys[0]} to set-resources for {largest}, or default-resources"
    return f"{head} At fault is the {what} ({asked}). Change {place}"


def _culprit(job: Any, refusal: str) -> tuple[str, tuple[str, ...]]:
    """The part of a request that SLURM names, or without which it would take it."""
    for what, (keys, word) in SUSPECTS.items():
        if word in refusal.lower():
            return what, keys
    least = {"mem_mb": 1, "threads": 1, "cpus_per_task": 1, "runtime": 1}
    for what, (keys, _) in SUSPECTS.items():
        if _refusal(_request(job, {key: least.get(key) for key in keys})) is None:
            return what, keys
    return "", ("slurm_partition",)


def where_said(rule: str, key: str) -> str | None:
    """File and line of the profile that sets a resource for a rule, with what stands there."""
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
    """The profiles of the command line that runs, the stronger one first."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workflow-profile")
    parser.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE"))
    named, _ = parser.parse_known_args()
    chosen = [named.workflow_profile or "profiles/default", named.profile]
    return [Path(name) / "config.yaml" for name in chosen if name and name != "none"]

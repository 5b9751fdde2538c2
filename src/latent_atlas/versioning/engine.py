"""Snakemake, asking ``dvc.lock`` instead of its own records. All that touches Snakemake's private parts is here.

Snakemake decides whether a job must run from three sources: missing outputs, inputs newer than
outputs unless their checksum is the recorded one, and differences to its record of the job. The last two it asks of
its persistence; that object is given another class here, whose answers come from :class:`~.memory.Memory`. Nothing
else of Snakemake is changed, and nothing at all in the processes that run single jobs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import snakemake
from ruamel.yaml import YAML
from snakemake.exceptions import WorkflowError
from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange
from snakemake.persistence.file import FilePersistence
from snakemake.settings.types import ExecMode
from snakemake.utils import format as snakemake_format

from latent_atlas.core.errors import LatentAtlasError
from latent_atlas.tools.pipeline import MODE_VARIABLE
from latent_atlas.versioning import pipeline
from latent_atlas.versioning.memory import COMMAND, PARAMS, Memory, VersioningError, available
from latent_atlas.versioning.pipeline import Job

TESTED_VERSION = "9.27.1"


def attach(workflow: Any, extras_file: str) -> None:
    """Let a workflow share its memory with DVC. Called at the end of the Snakefile.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    extras_file : str
        YAML with what ``dvc.yaml`` says beyond the stages: see :func:`.pipeline.render`.

    Raises
    ------
    WorkflowError
        With a Snakemake other than the tested one.
    """
    if snakemake.__version__ != TESTED_VERSION:
        raise WorkflowError(
            f"this is Snakemake {snakemake.__version__}; sharing one memory with DVC reaches into its private parts "
            f"and was tested with {TESTED_VERSION} only: pip install snakemake=={TESTED_VERSION}"
        )
    if workflow.exec_mode != ExecMode.DEFAULT:
        return
    root = Path.cwd()
    if not available(root):
        if workflow.is_main_process:
            workflow_log(f"{root} is no DVC repository under git: nothing is versioned, all else works")
        return
    build = workflow._build_dag
    extras = YAML(typ="safe", pure=True).load(Path(extras_file).read_text(encoding="utf-8"))

    def build_with_shared_memory() -> None:
        persistence = workflow._persistence
        if not isinstance(persistence, FilePersistence):
            raise WorkflowError("versioning works with Snakemake's file-based records only: leave out --persistence")
        persistence.__class__ = SharedPersistence
        persistence.share(Memory(root, extras.get("in_git", [])))
        try:
            persistence.memory.entries  # noqa: B018 -- a damaged lock file is to be told before the jobs are looked at
            build()
            persistence.settle(workflow, extras)
        except LatentAtlasError as error:
            raise WorkflowError(str(error)) from error

    workflow._build_dag = build_with_shared_memory


def workflow_log(message: str) -> None:
    """Say something in Snakemake's own log."""
    from snakemake.logging import logger

    logger.info(message)


class SharedPersistence(FilePersistence):
    """Snakemake's records, judged by what DVC remembers."""

    memory: Memory
    max_checksum_file_size: int
    _facts: dict[Any, Job]
    _verdicts: dict[Any, str | None]

    def share(self, memory: Memory) -> None:
        """Start to answer from a memory."""
        self.memory = memory
        self._facts, self._verdicts = {}, {}

    def settle(self, workflow: Any, extras: dict[str, Any]) -> None:
        """Once all jobs are known: bring ``dvc.yaml`` up to date and take over what a killed run has left."""
        dag = workflow.dag
        jobs = {self.facts(job).name: self.facts(job) for job in dag.jobs if job.output}
        foreign = next((dep for job in jobs.values() for dep in job.deps if Path(dep).is_absolute()), None)
        if foreign:
            raise VersioningError(
                f"{foreign} lies outside {self.memory.root}, so that it cannot be versioned here: run the "
                f"snakemake of this folder's own environment (make install, then .venv/bin/snakemake)"
            )
        whole = any(job.rule.name == workflow.default_target for job in dag.jobs)
        if whole:
            text = pipeline.render(jobs.values(), extras)
            path = self.memory.root / "dvc.yaml"
            if os.environ.get(MODE_VARIABLE) == "check":
                if pipeline.current(path) != text:
                    raise WorkflowError(f"{path} is not what the Snakefile says: run latent-atlas pipeline")
            elif pipeline.write(path, text):
                workflow_log("dvc.yaml brought up to date with the Snakefile")
            self.memory.take_over(jobs.values())

    def facts(self, job: Any) -> Job:
        """What both engines know of a Snakemake job."""
        if job not in self._facts:
            import json

            name = "-".join([job.rule.name, *(str(value) for value in job.wildcards)])
            values = getattr(job.params, "values", None)
            params = json.loads(values) if isinstance(values, str) else {}
            deps, outs = (tuple(dict.fromkeys(map(str, files))) for files in (job.input, job.output))
            # Neither threads nor resources may stand in a command: they are this machine's, not the study's.
            command = snakemake_format(
                job.rule.shellcmd,
                input=job.input,
                output=job.output,
                params=job.params,
                wildcards=job._format_wildcards,
                log=job.log,
            )
            self._facts[job] = Job(name, command, deps, outs, params)
        return self._facts[job]

    def verdict(self, job: Any) -> str | None:
        """Why a job must run, or None."""
        if not job.output:
            return None
        if job not in self._verdicts:
            self._verdicts[job] = self.memory.stale(self.facts(job))
        return self._verdicts[job]

    # what Snakemake asks when it decides which jobs must run

    def has_metadata(self, job: Any) -> bool:
        return True

    def has_outdated_metadata(self, job: Any) -> bool:
        return False

    def code_changed(self, job: Any, file: Any = None) -> Iterable[bool]:
        return [self.verdict(job) == COMMAND]

    def input_changed(self, job: Any, file: Any = None) -> Iterable[bool]:
        return [self.verdict(job) not in (None, COMMAND, PARAMS)]

    def software_stack_changed(self, job: Any, file: Any = None) -> Iterable[bool]:
        return []

    def params_changed(self, job: Any, file: Any = None) -> Any:
        if self.verdict(job) != PARAMS:
            return NO_PARAMS_CHANGE
        return ParamsChange(only_old=set(), only_new={str(job.params.values)}, files=set(job.output))

    def input_checksums(self, job: Any, input_path: Any) -> set[str | None]:
        known = self.memory.recorded(self.facts(job), str(input_path))
        return {f"md5:{known}" if known else None}

    async def incomplete(self, job: Any) -> list[Any]:
        return [] if self.verdict(job) is None else await super().incomplete(job)

    # what Snakemake tells when a job starts and ends

    def started(self, job: Any, external_jobid: str | None = None) -> None:
        super().started(job, external_jobid)
        if not job.output:
            return
        self.memory.started(self.facts(job))

    async def finished(self, job: Any) -> None:
        threshold, self.max_checksum_file_size = self.max_checksum_file_size, 0  # its checksums are not needed
        await super().finished(job)
        self.max_checksum_file_size = threshold
        if not job.output:
            return
        self._verdicts.pop(job, None)
        self.memory.ended(self.facts(job))

    def unlock(self) -> None:
        self.memory.flush()
        super().unlock()

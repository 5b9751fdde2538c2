"""Snakemake, asking ``dvc.lock`` instead of its own records. All that touches Snakemake's private parts is here.

Snakemake decides whether a job must run from three sources: missing outputs, inputs newer than
outputs unless their checksum is the recorded one, and differences to its record of the job. The last two it asks of
its persistence; that object is given another class here, whose answers come from :class:`~.lock_file.LockFile`. The
end of a job is heard of by wrapping ``finish`` of the job graph, which also leaves out jobs that were planned only
because of those before them and turn out to be current. Dates of files fail no job, and failures are shown also where
Snakemake is to be quiet. Nothing else of it is changed.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import snakemake

from latent_atlas.versioning import pipeline
from latent_atlas.versioning.command import MODE_VARIABLE
from latent_atlas.versioning.common import VersioningError, read_yaml
from latent_atlas.versioning.lock_file import COMMAND, INPUT, OUTPUT, PARAMS, UNKNOWN, LockFile, available
from latent_atlas.versioning.pipeline import Job

try:
    from snakemake.exceptions import WorkflowError
    from snakemake.logging import DefaultFilter
    from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange
    from snakemake.persistence.file import FilePersistence
    from snakemake.settings.enums import Quietness
    from snakemake.utils import format as snakemake_format
    from snakemake_interface_logger_plugins.common import LogEvent
except (ImportError, AttributeError) as error:
    LACKS, FilePersistence = str(error), object
else:
    LACKS = ""

TESTED_VERSIONS = ("9.27.1", "9.27.0", "9.26.1")


def attach(workflow: Any, extras_file: str) -> None:
    """Let a workflow share its memory with DVC. Called at the end of the Snakefile.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    extras_file : str
        YAML with what ``dvc.yaml`` says beyond the stages: see :func:`.pipeline.render`.
    """
    main, root = workflow.is_main_process, Path.cwd()
    aside = stands_aside()
    if main and not aside:
        show_failures()
    if aside := aside or _not_versioned(workflow, root):
        if main:
            workflow_log(aside)
        return
    disregard_clocks()
    if not main:
        return
    build = workflow._build_dag
    try:
        extras = read_yaml(Path(extras_file))
    except VersioningError as error:
        raise WorkflowError(str(error)) from error

    def build_with_shared_memory() -> None:
        persistence = workflow._persistence
        if not isinstance(persistence, FilePersistence):
            raise WorkflowError("versioning works with Snakemake's file-based records only: leave out --persistence")
        persistence.__class__ = SharedPersistence
        runs = workflow.executor_plugin is not None and not (workflow.dryrun or workflow.touch)
        persistence.share(LockFile(root, extras.get("in_git", [])), records=runs)
        try:
            persistence.memory.entries  # noqa: B018 -- a damaged lock file is to be told before the jobs are looked at
            build()
            persistence.settle(workflow, extras)
        except VersioningError as error:
            raise WorkflowError(str(error)) from error
        persistence.follow(workflow.dag)
        persistence.lists = workflow.executor_plugin is None

    workflow._build_dag = build_with_shared_memory


def stands_aside() -> str | None:
    """Why nothing is versioned by this Snakemake or in this environment, or None."""
    if os.environ.get("LATENT_ATLAS_VERSIONING") == "off":
        return "LATENT_ATLAS_VERSIONING is off: nothing is versioned, all else works"
    if snakemake.__version__ not in TESTED_VERSIONS:
        return (
            f"versioning was tested with Snakemake {', '.join(TESTED_VERSIONS)}, and this is {snakemake.__version__}: "
            f"nothing is versioned, all else works"
        )
    if LACKS:
        return f"this Snakemake lacks what versioning needs ({LACKS}): nothing is versioned, all else works"
    return None


def _not_versioned(workflow: Any, root: Path) -> str | None:
    """Why the files of this folder are not versioned, or None."""
    if not available(root):
        return f"{root} is no DVC repository under git: nothing is versioned, all else works"
    if not Path(workflow.basedir).resolve().is_relative_to(root):
        return f"the Snakefile is in {workflow.basedir}, not in {root}: nothing is versioned, all else works"
    if workflow.storage_settings.default_storage_provider is not None:
        return "files lie in object storage, not in this folder: nothing is versioned, all else works"
    return None


def show_failures() -> None:
    """Let Snakemake tell which job failed, and where its logs are, also if it is to be quiet about rules."""
    judged = DefaultFilter.filter
    if getattr(judged, "shows_failures", False):
        return

    def failures_and(self: DefaultFilter, record: logging.LogRecord) -> bool:
        failure = getattr(record, "event", None) in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
        return judged(self, record) if not failure or Quietness.ALL in self.quiet else True

    failures_and.shows_failures = True  # type: ignore[attr-defined]
    DefaultFilter.filter = failures_and


def disregard_clocks() -> None:
    """Let a job succeed whose input is dated later than its output: contents decide what is current, not dates.

    A source or a dataset dated in the future, by a clock that was wrong or an archive, would fail each job that reads
    it until that time comes.
    """

    from snakemake.dag import DAG  # a circle of imports, where Snakemake itself was not loaded first

    async def accept(self: DAG, job: Any, expanded_output: Any) -> None: ...

    DAG.check_output_mtime = accept


def when_planned(workflow: Any, then: Callable[[], None]) -> None:
    """Call a function once, when the jobs of a workflow and their groups are known and none has started.

    By then the workflow holds its lock, unless it is a dry run.
    """
    build = workflow._build_dag

    def build_and_watch() -> None:
        build()
        finish_plan = workflow.dag.postprocess

        async def finish_plan_and_then(*arguments: Any, **options: Any) -> None:
            await finish_plan(*arguments, **options)
            workflow.dag.postprocess = finish_plan
            then()

        workflow.dag.postprocess = finish_plan_and_then

    workflow._build_dag = build_and_watch


def is_local(workflow: Any, job: Any) -> bool:
    """Whether a job runs where Snakemake does, whatever the executor."""
    return job.rule.group is None and job.rule.name in workflow._localrules


def workflow_log(message: str) -> None:
    """Say something in Snakemake's own log."""
    from snakemake.logging import logger

    logger.info(message)


class SharedPersistence(FilePersistence):
    """Snakemake's records, judged by what DVC remembers."""

    memory: LockFile
    max_checksum_file_size: int
    lists: bool  # whether jobs are only listed from now on, not planned
    _records: bool
    _facts: dict[Any, Job]
    _verdicts: dict[Any, list[str]]

    def share(self, memory: LockFile, records: bool) -> None:
        """Start to answer from a memory, and to write to it if ``records``."""
        self.memory, self._records = memory, records
        self._facts, self._verdicts, self.lists = {}, {}, False

    def settle(self, workflow: Any, extras: dict[str, Any]) -> None:
        """Once all jobs are known and are to run: update ``dvc.yaml``, and record what a killed run has left.

        A dry run writes nothing, unless ``latent-atlas pipeline`` has started it to write ``dvc.yaml``.
        """
        jobs = {self.facts(job).name: self.facts(job) for job in workflow.dag.jobs if job.output}
        foreign = next((dep for job in jobs.values() for dep in job.deps if Path(dep).is_absolute()), None)
        if foreign:
            raise VersioningError(
                f"{foreign} lies outside {self.memory.root}, so that it cannot be versioned here: copy it into this "
                f"folder; if it is one of the project's own sources, use the snakemake of this folder's environment "
                f"(make install, then .venv/bin/snakemake)"
            )
        path = self.memory.root / "dvc.yaml"
        batched = getattr(workflow.dag_settings, "batch", None) is not None
        whole = not batched and any(job.rule.name == workflow.default_target for job in workflow.dag.jobs)
        mode = os.environ.get(MODE_VARIABLE)
        if not (self._records or mode):
            return
        rules = [rule.name for rule in workflow.rules]
        text = pipeline.render(jobs.values(), extras, pipeline.current(path), rules) if whole else ""
        if mode == "check":
            if not whole or not pipeline.same(pipeline.current(path), text):
                raise WorkflowError(f"{path} is not what the Snakefile says: run latent-atlas pipeline")
            return
        if whole:
            if pipeline.write(path, text):
                workflow_log("dvc.yaml brought up to date with the Snakefile")
        elif not pipeline.holds(path, jobs.values(), extras):
            subprocess.run([sys.executable, "-m", "latent_atlas.versioning.command"], check=False, capture_output=True)
        if self._records or not self.locked:
            self.tell(lambda: self.memory.take_over(jobs.values()))

    def follow(self, dag: Any) -> None:
        """Hear of each job that ends well, and leave out those after it whose inputs came out the same."""
        finish = dag.finish

        async def finish_and_remember(job: Any, **options: Any) -> Any:
            result = await finish(job, **options)
            if self._records:
                for single in job if job.is_group() else [job]:
                    if single.output:
                        self._verdicts.pop(single, None)
                        self.tell(functools.partial(self.memory.succeeded, self.facts(single)))
                await leave_out()
            return result

        async def leave_out() -> None:
            while current := [job for job in dag.ready_jobs if self.current_after_all(dag, job)]:
                for job in current:
                    workflow_log(f"Left out {self.facts(job).name}: what it depends on came out the same")
                    dag._ready_jobs.discard(job)
                    dag._running.add(job)
                    await finish(job)

        dag.finish = finish_and_remember

    def current_after_all(self, dag: Any, job: Any) -> bool:
        """Whether a job that was to run because of those before it is current, now that those have ended."""
        return (
            not job.is_group()
            and bool(job.output)
            and not dag.reason(job).forced
            and self.memory.stale(self.facts(job)) is None
        )

    def tell(self, write: Callable[[], None]) -> None:
        """Write to the memory; a failure is told and costs nothing but the record."""
        try:
            write()
        except VersioningError as error:
            workflow_log(f"Warning: {error}")

    def facts(self, job: Any) -> Job:
        """What both engines know of a Snakemake job."""
        if job not in self._facts:
            import json

            name = "-".join([job.rule.name, *(str(value) for value in job.wildcards)])
            values = getattr(job.params, "values", None)
            params = json.loads(values) if isinstance(values, str) else {}
            deps, outs = (tuple(dict.fromkeys(map(str, files))) for files in (job.input, job.output))
            if job.rule.shellcmd is None:
                raise VersioningError(f"rule {job.rule.name} has no shell command, which DVC needs to run it")
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

    def verdict(self, job: Any) -> list[str]:
        """All that says that a job must run."""
        if not job.output:
            return []
        if job not in self._verdicts:
            self._verdicts[job] = list(self.memory.changes(self.facts(job)))
        return self._verdicts[job]

    def changed(self, job: Any, file: Any, *changes: str) -> Any:
        """As Snakemake has it: whether one output is affected by any of these changes, or the outputs that are."""
        found = not {*changes}.isdisjoint(self.verdict(job))
        return found if file is not None else list(job.output) * found

    # what Snakemake asks when it decides which jobs must run

    def has_metadata(self, job: Any) -> bool:
        return True

    def has_outdated_metadata(self, job: Any) -> bool:
        return False

    def code_changed(self, job: Any, file: Any = None) -> Any:
        return self.changed(job, file, COMMAND)

    def input_changed(self, job: Any, file: Any = None) -> Any:
        """To plan, this stands also for outputs that changed and for jobs that are not known; to list, it does not."""
        return self.changed(job, file, INPUT, *([] if self.lists else [OUTPUT, UNKNOWN]))

    def software_stack_changed(self, job: Any, file: Any = None) -> Iterable[bool]:
        return []

    def params_changed(self, job: Any, file: Any = None) -> Any:
        if PARAMS not in self.verdict(job):
            return NO_PARAMS_CHANGE
        return ParamsChange(only_old=set(), only_new={str(job.params.values)}, files=set(job.output))

    def input_checksums(self, job: Any, input_path: Any) -> set[str | None]:
        known = self.memory.recorded(self.facts(job), str(input_path))
        return {f"md5:{known}" if known else None}

    async def incomplete(self, job: Any) -> list[Any]:
        return [] if not self.verdict(job) else await super().incomplete(job)

    # what Snakemake tells when a job starts and ends

    def started(self, job: Any, external_jobid: str | None = None) -> None:
        super().started(job, external_jobid)
        if job.output and self._records:
            before = ((maker, files) for maker, files in job.dag.dependencies[job].items() if job.dag.needrun(maker))
            unfinished = {str(file) for maker, files in before if not job.dag.finished(maker) for file in files}
            self.memory.started(self.facts(job), unfinished)

    async def finished(self, job: Any) -> None:
        """Called also for jobs that failed: what counts as success is heard of in :meth:`follow`."""
        threshold, self.max_checksum_file_size = self.max_checksum_file_size, 0  # its checksums are not needed
        try:
            await super().finished(job)
        finally:
            self.max_checksum_file_size = threshold

    def unlock(self) -> None:
        if self._records and self.memory.journal.exists():
            self.tell(self.memory.flush)
        super().unlock()

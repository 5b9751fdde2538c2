"""Snakemake with ``dvc.lock`` in place of its own records. All code that uses Snakemake's private interfaces is here.

Snakemake decides whether a job must run from three sources: missing outputs, inputs newer than outputs unless their
checksum is the recorded one, and differences to its record of the job. For the last two it calls its persistence
object. This module gives that object another class, which answers from :class:`~.lock_file.LockFile`. It wraps
``finish`` of the job graph to record the jobs that succeed, and to leave out jobs that were planned only because of
those before them and are up to date after all. No job fails because of modification times. Failures are shown even
with ``--quiet``. Nothing else in Snakemake is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import snakemake

from latent_atlas.errors import OutputError
from latent_atlas.versioning import ended, lists, pipeline, turns
from latent_atlas.versioning.command import MODE_VARIABLE
from latent_atlas.versioning.common import VersioningError, read_yaml, regular, values_at
from latent_atlas.versioning.lock_file import COMMAND, INPUT, OUTPUT, PARAMS, UNKNOWN, LockFile, available
from latent_atlas.versioning.pipeline import Job

try:
    from snakemake.exceptions import WorkflowError
    from snakemake.io import is_flagged
    from snakemake.logging import DefaultFilter
    from snakemake.persistence import NO_PARAMS_CHANGE, MetadataRecord, ParamsChange
    from snakemake.persistence.file import FilePersistence
    from snakemake.settings.enums import Quietness
    from snakemake.utils import format as snakemake_format
    from snakemake_interface_logger_plugins.common import LogEvent
except (ImportError, AttributeError) as error:
    LACKS, FilePersistence = str(error), object
else:
    LACKS = ""


class Refused(Exception if LACKS else WorkflowError):  # type: ignore[misc]
    """What a user can correct. Snakemake shows the message alone, for it finds no traceback."""

    __traceback__ = property(lambda self: None, lambda self, value: None)


# What SLURM has granted to a submission, by the name of Snakemake's resource.
GRANTED = {"_cores": "SLURM_CPUS_ON_NODE", "mem_mb": "SLURM_MEM_PER_NODE", "gpu": "SLURM_GPUS_ON_NODE"}
TESTED_VERSIONS = ("9.27.1", "9.27.0", "9.26.1")


def attach(workflow: Any, extras_file: str, times: Callable[[], Mapping[str, tuple[float, float]]]) -> None:
    """Let a workflow use ``dvc.lock``. Called at the end of the Snakefile.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    extras_file : str
        YAML file with the content of ``dvc.yaml`` other than the stages: see :func:`.pipeline.render`. Relative to the
        Snakefile that calls this, which another one may include.
    times : callable
        Gives, by stage, when jobs that Snakemake has no record of began and ended, in seconds since 1970.
    """
    main, root = workflow.is_main_process, Path.cwd()
    aside = stands_aside()
    if main and not aside:
        show_failures()
        take_turns(workflow)
    if aside := aside or _not_versioned(workflow, root):
        if main:
            workflow_log(f"{aside}: nothing is versioned, all else works")
        return
    ignore_modification_times()
    if not main:
        return
    build = workflow._build_dag
    try:
        extras = read_yaml(Path(str(workflow.current_basedir)) / extras_file)
    except VersioningError as error:
        raise Refused(str(error)) from error

    def build_with_lock_file() -> None:
        persistence = workflow._persistence
        if not isinstance(persistence, FilePersistence):
            raise Refused("versioning works with Snakemake's file-based records only: leave out --persistence")
        persistence.__class__ = LockFilePersistence
        runs = workflow.executor_plugin is not None and not (workflow.dryrun or workflow.touch)
        persistence.use(LockFile(root, extras.get("in_git", []), workflow_warning), runs, times)
        try:  # what DVC could not use is reported before the jobs are planned
            persistence.lock_file.repo  # noqa: B018
            persistence.lock_file.entries  # noqa: B018
            pipeline.current(root / "dvc.yaml")
            build()
            persistence.update_pipeline(workflow, extras)
        except VersioningError as error:
            raise Refused(str(error)) from error
        persistence.watch(workflow.dag)
        persistence.lists = workflow.executor_plugin is None

    workflow._build_dag = build_with_lock_file


def stands_aside() -> str | None:
    """Why nothing is versioned by this Snakemake or in this environment, or None."""
    if os.environ.get("LATENT_ATLAS_VERSIONING") == "off":
        return "LATENT_ATLAS_VERSIONING is off"
    if snakemake.__version__ not in TESTED_VERSIONS:
        return f"versioning was tested with Snakemake {', '.join(TESTED_VERSIONS)}, and this is {snakemake.__version__}"
    return f"this Snakemake lacks what versioning needs ({LACKS})" if LACKS else None


def _not_versioned(workflow: Any, root: Path) -> str | None:
    """Why the files of this folder are not versioned, or None."""
    if not available(root):
        return f"{root} is no DVC repository under git"
    if not Path(workflow.basedir).resolve().is_relative_to(root):
        return f"the Snakefile is in {workflow.basedir}, not in {root}, where one that includes it would do"
    if workflow.storage_settings.default_storage_provider is not None:
        return "files are in object storage, not in this folder"
    return None


def show_failures() -> None:
    """Let Snakemake show which job failed, and where its logs are, even with ``--quiet rules``."""
    original = DefaultFilter.filter
    if getattr(original, "shows_failures", False):
        return

    def failures_and(self: DefaultFilter, record: logging.LogRecord) -> bool:
        failure = getattr(record, "event", None) in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
        return original(self, record) if not failure or Quietness.ALL in self.quiet else True

    failures_and.shows_failures = True  # type: ignore[attr-defined]
    DefaultFilter.filter = failures_and


def take_turns(workflow: Any) -> None:
    """Let a run say at once, before it looks at the files, that another one is at work in this folder."""
    build = workflow._build_dag

    def build_in_turn() -> None:
        runs = workflow.executor_plugin is not None and not workflow.dryrun
        if runs and workflow.execution_settings.lock:
            turn = contextlib.ExitStack()
            try:
                turn.enter_context(turns.alone(Path(".snakemake", "latent-atlas.lock")))
            except VersioningError as error:
                raise Refused(str(error)) from error
            unlock = workflow.persistence.unlock

            def unlock_and_end_turn() -> None:
                unlock()
                turn.close()

            workflow.persistence.unlock = unlock_and_end_turn
        build()

    workflow._build_dag = build_in_turn


def ignore_modification_times() -> None:
    """Let a job succeed even if an input has a later modification time than an output: only contents count.

    Otherwise a source file or a dataset with a time in the future, from a wrong clock or an archive, would fail each
    job that reads it until that time.
    """
    from snakemake.dag import DAG  # here, because of a circular import if Snakemake was not loaded first

    async def accept(self: DAG, job: Any, expanded_output: Any) -> None: ...

    DAG.check_output_mtime = accept


def when_planned(workflow: Any, then: Callable[[], Any]) -> None:
    """Call a function, which may be a coroutine, once: when jobs and groups are known and none has started.

    At that time the workflow holds its lock, unless it is a dry run.
    """
    build = workflow._build_dag

    def build_and_watch() -> None:
        build()
        finish_plan = workflow.dag.postprocess

        async def finish_plan_and_then(*arguments: Any, **options: Any) -> None:
            await finish_plan(*arguments, **options)
            workflow.dag.postprocess = finish_plan
            if asyncio.iscoroutine(result := then()):
                await result

        workflow.dag.postprocess = finish_plan_and_then

    workflow._build_dag = build_and_watch


def in_submission(workflow: Any) -> bool:
    """Whether this process is what a submission to SLURM has started on a node, to run one job or a group of jobs."""
    plugin = workflow.executor_plugin
    return not workflow.is_main_process and plugin is not None and plugin.name == "slurm-jobstep"


def run_submission_here(workflow: Any) -> None:
    """Let a submission to SLURM run its jobs by itself; the plugin would start srun and one more Snakemake for each.

    They run side by side as far as the cores, the memory and the GPUs that SLURM has granted suffice. A job that fails
    does not keep the others of its group from running. If the group is started again, those that have ended well are
    left out.
    """
    build = workflow._build_dag

    def build_for_here() -> None:
        if in_submission(workflow):
            workflow.localrules(*(rule.name for rule in workflow.rules))
            workflow.execution_settings.keep_going = True
            granted = {name: os.environ.get(variable, "") for name, variable in GRANTED.items()}
            if granted["_cores"].isdigit():
                workflow.register_resource("_nodes", None)
            for name, value in granted.items():
                if value.isdigit():
                    workflow.register_resource(name, int(value))
        build()

    async def leave_out_ended() -> None:
        dag = workflow.dag
        finish = dag.finish

        async def finish_and_note(job: Any, **options: Any) -> Any:
            result = await finish(job, **options)
            ended.note(job)
            return result

        if not in_submission(workflow):
            return
        await _leave_out(dag, finish, ended.noted, lambda job: f"{job}: it has ended well before")
        dag.finish = finish_and_note

    workflow._build_dag = build_for_here
    when_planned(workflow, leave_out_ended)


async def _leave_out(dag: Any, finish: Any, which: Callable[[Any], bool], why: Callable[[Any], str]) -> None:
    """End jobs of a kind that are ready, and those that this makes ready, without running them."""
    while found := [job for job in dag.ready_jobs if which(job)]:
        for job in found:
            workflow_log(f"Left out {why(job)}")
            dag._ready_jobs.discard(job)
            dag._running.add(job)
            await finish(job)


def run_forced(workflow: Any) -> None:
    """Let jobs that were asked for by ``--force`` and the like run again on their node."""
    if not workflow.dryrun:
        for job in workflow.dag.needrun_jobs():
            if workflow.dag.reason(job).forced:
                ended.forget(job)


def write_values(file: str, values: Mapping[str, Any]) -> None:
    """As :func:`.lists.write_values`; VersioningError if it cannot be written."""
    try:
        lists.write_values(file, values)
    except OutputError as error:
        raise VersioningError(str(error)) from error


def is_local(workflow: Any, job: Any) -> bool:
    """Whether a job runs on the machine of Snakemake with any executor."""
    return job.rule.group is None and job.rule.name in workflow._localrules


def workflow_log(message: str) -> None:
    """Write a message to Snakemake's own log."""
    from snakemake.logging import logger

    logger.info(message)


def workflow_warning(message: str) -> None:
    """Write a warning to Snakemake's own log."""
    from snakemake.logging import logger

    logger.warning(f"Warning: {message}")


class LockFilePersistence(FilePersistence):
    """Snakemake's persistence, which answers from ``dvc.lock``."""

    lock_file: LockFile
    max_checksum_file_size: int
    lists: bool  # whether jobs are only listed from now on, not planned
    _records: bool
    _times: Callable[[], Mapping[str, tuple[float, float]]]
    _definitions: dict[Any, Job]
    _written: set[str]
    _changes: dict[Any, list[str]]

    def use(self, lock_file: LockFile, records: bool, times: Callable[[], Mapping[str, tuple[float, float]]]) -> None:
        """Start to answer from a lock file, and to write to it if ``records``."""
        self.lock_file, self._records, self._times = lock_file, records, times
        self._definitions, self._written, self._changes, self.lists = {}, set(), {}, False

    def update_pipeline(self, workflow: Any, extras: dict[str, Any]) -> None:
        """Update ``dvc.yaml`` when all jobs are known, and record jobs that ended in a run that was killed.

        A dry run writes nothing, unless ``latent-atlas pipeline`` has started it to write ``dvc.yaml``.
        """
        jobs = {self.definition(job).name: self.definition(job) for job in workflow.dag.jobs if job.output}
        inputs = pipeline.inputs_of(jobs.values())
        jobs |= {inputs.name: inputs} if inputs else {}
        deps = (Path(dep) for job in jobs.values() for dep in job.deps)
        if foreign := next((dep for dep in deps if dep.is_absolute() and dep.suffix == ".py"), None):
            raise VersioningError(
                f"{foreign} is a source file outside {self.lock_file.root}, and would be used in place of its own: use "
                f"the snakemake of this folder's environment (make install, then .venv/bin/snakemake)"
            )
        path = self.lock_file.root / "dvc.yaml"
        batched = getattr(workflow.dag_settings, "batch", None) is not None
        whole = not batched and any(job.rule.name == workflow.default_target for job in workflow.dag.jobs)
        mode = os.environ.get(MODE_VARIABLE)
        if not (self._records or mode):
            return
        rules = [rule.name for rule in workflow.rules]
        text = pipeline.render(jobs.values(), extras, pipeline.current(path), rules) if whole else ""
        if mode == "check":
            if not whole or not pipeline.same(pipeline.current(path), text):
                raise Refused(f"{path} does not agree with the Snakefile: run latent-atlas pipeline")
            return
        if whole:
            update = functools.partial(self.write_pipeline, path, text)
            update() if mode else self.record(update)
        elif not pipeline.holds(path, [job for job in jobs.values() if job.name != pipeline.INPUTS], extras):
            words = [sys.executable, "-m", "latent_atlas.versioning.command"]
            done = subprocess.run(words, check=False, capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
                workflow_warning(f"{path} is not brought up to date: {reason}")
        if inputs and not whole:
            self.record(lambda: jobs.update({pipeline.INPUTS: self.inputs_of_all(path)}))
        if self._records or not self.locked:
            self.record(lambda: self.lock_file.take_over(jobs.values()))

    def inputs_of_all(self, path: Path) -> Job:
        """The stage of ``dvc.yaml`` that makes what stands for sources and parameters, with the latter up to date; the
        Snakefile has written all lists of sources.
        """
        values = read_yaml(self.lock_file.root / pipeline.PARAMS_FILE)
        inputs = pipeline.inputs_in(regular(path) or "", values)
        if inputs is None:
            raise VersioningError(f"{path} has no stage {pipeline.INPUTS}: run latent-atlas pipeline")
        for file in filter(lists.has_values, inputs.outs):
            write_values(file, values_at(values, *lists.keys(file)))
        return inputs

    def write_pipeline(self, path: Path, text: str) -> None:
        """Write ``dvc.yaml`` where it has changed, and remove what stands for sources and parameters of no job."""
        lists.remove_others()
        if pipeline.write(path, text):
            workflow_log("dvc.yaml brought up to date with the Snakefile")

    def watch(self, dag: Any) -> None:
        """Record each job that succeeds, and leave out jobs after it whose inputs have not changed."""
        finish = dag.finish

        async def finish_and_record(job: Any, **options: Any) -> Any:
            result = await finish(job, **options)
            if self._records:
                for single in job if job.is_group() else [job]:
                    if single.output:
                        self._changes.pop(single, None)
                        self.record(functools.partial(self.lock_file.succeeded, self.definition(single)))
                await leave_out()
            return result

        async def leave_out() -> None:
            await _leave_out(
                dag,
                finish,
                functools.partial(self.current_after_all, dag),
                lambda job: f"{self.definition(job).name}: its inputs have not changed",
            )

        dag.finish = finish_and_record

    def current_after_all(self, dag: Any, job: Any) -> bool:
        """Whether a job that was planned because of those before it is up to date, now that those have ended."""
        return (
            not job.is_group()
            and bool(job.output)
            and not dag.reason(job).forced
            and self.lock_file.stale(self.definition(job)) is None
        )

    def record(self, write: Callable[[], None]) -> None:
        """Write to the lock file; an error is shown as a warning, and the run continues."""
        try:
            write()
        except VersioningError as error:
            workflow_warning(str(error))

    def definition(self, job: Any) -> Job:
        """The definition of a Snakemake job that both engines use."""
        if job not in self._definitions:
            import json

            name = "-".join([job.rule.name, *(str(value) for value in job.wildcards)])
            values = getattr(job.params, "values", None)
            params = json.loads(values) if isinstance(values, str) else {}
            stand_in = lists.values_file(params) if params else None
            if stand_in and stand_in not in self._written:  # of other jobs it has the same values
                write_values(stand_in, params)
                self._written.add(stand_in)
            inputs = [*job.input, stand_in] if stand_in else job.input
            deps, outs = (tuple(dict.fromkeys(map(self.as_dvc_writes, files))) for files in (inputs, job.output))
            if job.rule.shellcmd is None:
                raise VersioningError(f"rule {job.rule.name} has no shell command, which DVC needs to run it")
            # No threads or resources: they belong to the machine, so a command may not contain them.
            command = pipeline.FIND + snakemake_format(
                job.rule.shellcmd,
                input=job.input,
                output=job.output,
                params=job.params,
                wildcards=job._format_wildcards,
                log=job.log,
            )
            kept = frozenset(self.as_dvc_writes(file) for file in job.output if is_flagged(file, "update"))
            self._definitions[job] = Job(name, command, deps, outs, params, stand_in, kept)
        return self._definitions[job]

    def as_dvc_writes(self, file: Any) -> str:
        """A path as DVC writes it: relative to the repository if it lies there, however the rule names it."""
        if not str(file).startswith("/"):  # without a Path, of which large studies would need hundreds of thousands
            return str(file)
        path, root = Path(str(file)), self.lock_file.root
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(file)

    def changes(self, job: Any) -> list[str]:
        """All reasons why a job must run."""
        if not job.output:
            return []
        if job not in self._changes:
            self._changes[job] = list(self.lock_file.changes(self.definition(job)))
        return self._changes[job]

    def affected(self, job: Any, file: Any, *changes: str) -> Any:
        """In Snakemake's form: whether one output is affected by any of these changes, or the affected outputs."""
        found = not {*changes}.isdisjoint(self.changes(job))
        return found if file is not None else list(job.output) * found

    # called by Snakemake to decide which jobs must run

    def has_metadata(self, job: Any) -> bool:
        return True

    def has_outdated_metadata(self, job: Any) -> bool:
        return False

    def code_changed(self, job: Any, file: Any = None) -> Any:
        return self.affected(job, file, COMMAND)

    def input_changed(self, job: Any, file: Any = None) -> Any:
        """For planning, changed outputs and jobs without an entry count too; for listing, they do not."""
        return self.affected(job, file, INPUT, *([] if self.lists else [OUTPUT, UNKNOWN]))

    def software_stack_changed(self, job: Any, file: Any = None) -> Iterable[bool]:
        return []

    def params_changed(self, job: Any, file: Any = None) -> Any:
        if PARAMS not in self.changes(job):
            return NO_PARAMS_CHANGE
        return ParamsChange(only_old=set(), only_new={str(job.params.values)}, files=set(job.output))

    def input_checksums(self, job: Any, input_path: Any) -> set[str | None]:
        known = self.lock_file.recorded(self.definition(job), self.as_dvc_writes(input_path))
        return {f"md5:{known}" if known else None}

    async def incomplete(self, job: Any) -> list[Any]:
        return [] if not self.changes(job) else await super().incomplete(job)

    def _read_record(self, key: str) -> Any:
        """Snakemake's own record; one that is no record is as none. Snakemake itself ignores only what is no JSON."""
        try:
            return super()._read_record(key)
        except (ValueError, RecursionError) as error:  # no text, or JSON of another kind
            reason = str(error).partition("\n")[0]
            workflow_warning(
                f"{self._record_path(self._metadata_path, key)} is no record ({reason}), and is written anew"
            )
            return None

    # called by Snakemake for its report

    def metadata(self, target: Any) -> Any:
        """Snakemake's own record of an output, or, where DVC or somebody else made it, the record of its job in git."""
        return super().metadata(target) or self.recorded_elsewhere.get(str(target))

    @functools.cached_property
    def recorded_elsewhere(self) -> dict[str, Any]:
        """When the jobs of all outputs ran by another's record, in Snakemake's form."""
        times = self._times()
        return {
            str(file): MetadataRecord(rule=job.rule.name, job_hash=hash(job), starttime=began, endtime=ended)
            for job in self.dag.jobs
            if job.output and self.definition(job).name in times
            for began, ended in [times[self.definition(job).name]]
            for file in job.output
        }

    # called by Snakemake when a job starts and ends

    def started(self, job: Any, external_jobid: str | None = None) -> None:
        super().started(job, external_jobid)
        if job.output and self._records:
            before = ((maker, files) for maker, files in job.dag.dependencies[job].items() if job.dag.needrun(maker))
            unfinished = {str(file) for maker, files in before if not job.dag.finished(maker) for file in files}
            self.lock_file.started(self.definition(job), unfinished)

    async def finished(self, job: Any) -> None:
        """Called for failed jobs too: success is recorded in :meth:`watch`; here, that of jobs in a failed group."""
        threshold, self.max_checksum_file_size = self.max_checksum_file_size, 0  # its checksums are not needed
        try:
            await super().finished(job)
        finally:
            self.max_checksum_file_size = threshold
        if self._records and self.dag.get_job_group(job) and ended.noted(job):
            self._changes.pop(job, None)
            self.record(functools.partial(self.lock_file.succeeded, self.definition(job)))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Snakemake's lock, and DVC's for the files of the jobs that will run."""
        jobs = [self.definition(job) for job in self.dag.needrun_jobs() if job.output] if self._records else []
        writes = {str(self.lock_file.root / path) for job in jobs for path in job.outs}
        reads = {str(self.lock_file.root / path) for job in jobs for path in job.deps} - writes
        try:
            with super().lock(), turns.busy(self.lock_file.repo, reads, writes) as warning:
                if warning:
                    workflow_warning(warning)
                yield
        except VersioningError as error:
            raise Refused(str(error)) from error

    def unlock(self) -> None:
        if self._records and self.lock_file.pending:
            self.record(self.lock_file.flush)
        super().unlock()

"""What a run shows in the terminal: a line for each job that has ended, failures, and how to go on after Ctrl-C.

A logger plugin of Snakemake, which ``profiles/*/config.yaml`` name. Dry runs and ``--verbose`` are shown as Snakemake
shows them, and so is what this module does not know. Snakemake's own log in ``.snakemake/log`` stays complete.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter, format_percentage, get_event
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from latent_atlas.study.starting import RUN, started, unless_interrupted

# What Snakemake says on its way that tells nothing of the study.
NOISE = re.compile(
    r"Assuming unrestricted|Building DAG|Using shell|Provided (cores|remote)|Rules claiming|Conda environments: ignored"
    r"|Singularity containers: ignored|Select jobs|Execute \d+ jobs|Complete log|Elapsed time|Using workflow specific"
    r"|Job stats|The code used to generate|Removing output files|Exiting because a job|Shutting down, this might"
    r"|Cannot restore|(WorkflowError:\n)?At least one job did not complete"
)
# Not said in a dry run either: it advises options that do not go with dvc.lock.
NEVER = re.compile(r"Some jobs were triggered by provenance|Rules with provenance triggered|The code used to generate")
INTERRUPTED = "Terminating processes on user request"
FAILURES = {LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR}  # of the jobs that Ctrl-C has stopped
# The message of an error in params.yaml, which Snakemake shows between the lines of the rules that have read it.
OF_PARAMETERS = re.compile(r'WorkflowError in file "[^"]*common\.smk", line \d+:\n(.*?)(\n  File "[^\n]*)*', re.DOTALL)
OF_COMMAND = re.compile(r"RuleException:\nCalledProcessError")  # after the failure of the job itself
TARGETS = ("all", "study")  # rules that only name what is asked for
KEPT = "Finished jobs are kept, and a training goes on from its last whole epoch."


class LogHandler(LogHandlerBase):
    """Shows what happens in a run; see :mod:`snakemake_logger_plugin_latent_atlas`."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        quiet = set(settings.quiet or ())
        self.rules = not settings.dryrun and not settings.verbose and Quietness.RULES in quiet
        stream = sys.stdout if settings.stdout else sys.stderr
        self.screen = ColorizingTextHandler(nocolor=settings.nocolor, stream=stream, formatter=_Text(self))
        self.usual = DefaultFilter(
            quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds
        )
        self.default = DefaultFormatter(quiet, settings.show_failed_logs)
        self.jobs: dict[int, str] = {}  # what each job that has started is called
        self.ended: list[str] = []  # jobs since the last line of progress
        self.failed: dict[str, None] = {}  # jobs, in order
        self.begun = time.monotonic()
        self.progress = ""
        self.interrupted = False
        sys.excepthook = unless_interrupted

    writes_to_stream = has_filter = has_formatter = True
    writes_to_file = needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        event, values = get_event(record), vars(record)
        if event == LogEvent.JOB_INFO:
            started()  # of a Snakefile that does not say so
            chosen = (str(value) for _, value in (values["wildcards"] or {}).items())
            self.jobs[values["jobid"]] = " ".join([values["rule_name"], *chosen])
        if NEVER.match(str(record.msg or "").strip()) and not self.common_settings.verbose:
            return
        if self.usual.filter(record) or (event in FAILURES and Quietness.ALL not in self.usual.quiet):
            self.screen.emit(record)

    def text(self, record: logging.LogRecord) -> str:
        """What is shown of a record; nothing if it is empty."""
        event, message = get_event(record), str(record.msg or "")
        if found := OF_PARAMETERS.fullmatch(message.strip()):
            return f"error: {found.group(1)}"
        if not self.rules:
            return self.default.format(record)
        values: Mapping[str, Any] = vars(record)
        if message.startswith(INTERRUPTED):
            self.interrupted = True
            return "\nInterrupted: waiting for the running jobs to stop"
        if event == LogEvent.RUN_INFO:
            stats = dict(values.get("stats", {}))
            total = stats.pop("total", sum(stats.values()))
            rules = ", ".join(f"{key} {count}" for key, count in stats.items() if key not in TARGETS)
            return f"{total} job{'s' * (total != 1)}: {rules}"
        if event == LogEvent.JOB_FINISHED:
            self.ended.append(self.jobs.get(values["job_id"], message))
            return ""
        if event == LogEvent.PROGRESS:
            return self.line(values["done"], values["total"])
        if event == LogEvent.JOB_ERROR and not self.interrupted:
            self.failed[name := self.jobs.get(values["jobid"], values["rule_name"])] = None
            if values["log"] and not values["aux"]:  # else it ran elsewhere, or has said nothing of its own
                return f"failed: {name}; its log: {', '.join(map(str, values['log']))}"
        if (event in FAILURES and self.interrupted) or OF_COMMAND.match(message) or NOISE.match(message.strip()):
            return ""
        return self.default.format(record)

    def line(self, done: int, total: int) -> str:
        """The jobs that have ended, and how far the run is."""
        ended = [name for name in self.ended if name not in TARGETS]
        self.ended.clear()
        self.progress = f"{done} of {total} jobs"
        minutes, seconds = divmod(round(time.monotonic() - self.begun), 60)
        count = f"[{done:{len(str(total))}}/{total}  {format_percentage(done, total):>4}  {minutes}:{seconds:02d}]"
        return f"{count} {', '.join(ended) or 'all done'}"

    def close(self) -> None:
        """The last line: what is kept, and how to go on."""
        after = f" after {self.progress}" if self.progress else ""
        again = f"To go on: {os.environ.get(RUN) or shlex.join(['snakemake', *sys.argv[1:]])}\n"
        if self.interrupted:
            self.screen.stream.write(f"Interrupted{after}. {KEPT} {again}")
        elif self.failed and self.rules:
            self.screen.stream.write(f"Failed{after}: {', '.join(self.failed)}. {KEPT} {again}")
        self.interrupted, self.failed = False, {}
        super().close()


class _Text(logging.Formatter):
    """Gives the text of the handler that it belongs to."""

    def __init__(self, handler: LogHandler) -> None:
        super().__init__()
        self.handler = handler

    def format(self, record: logging.LogRecord) -> str:
        return self.handler.text(record)

"""What all commands share: the parameter file, the log, the metadata of the job, and how errors are shown."""

from __future__ import annotations

import functools
import json
import logging
import os
import resource
import socket
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from latent_atlas import STARTED
from latent_atlas.errors import LatentAtlasError, LatentAtlasWarning
from latent_atlas.files import write_text
from latent_atlas.kernels.allocation import keep_freed_memory

log = logging.getLogger("latent_atlas")

IN = click.Path(dir_okay=False, path_type=Path)
OUT = click.Path(dir_okay=False, path_type=Path)


def stage(subject: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """Turn a function into a command of the pipeline, called with ``params`` and its own options.

    Parameters
    ----------
    subject : str, optional
        The option that names what this call works on; its value is in the prefix of each line of progress.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.command(name=function.__name__.replace("_", "-").rstrip("-"))
        @click.option("--params", "params_file", type=IN, default=Path("params.yaml"), show_default=True,
                      help="The parameter file.")  # fmt: skip
        @click.option("--log", "log_file", type=OUT, help="Also write the progress, with times, to this file.")
        @functools.wraps(function)
        def command(params_file: Path, log_file: Path | None, **options: Any) -> None:
            prefix = f"{command.name} {options.get(subject) or ''}" if subject else f"{command.name}"
            with _Logging(prefix.strip(), log_file), _JobMetadata(log_file):
                from latent_atlas.study import schema as config

                keep_freed_memory()
                function(config.load(params_file), **options)

        return command

    return decorate


def folder_option(name: str, text: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A required option that names a folder."""
    return click.option(name, type=click.Path(file_okay=False, path_type=Path), required=True, help=text)


def manifold_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a command that measures one manifold: ``name``, ``manifold``, ``images`` and ``folder``."""
    for decorate in (
        folder_option("--folder", "Where to write this manifold's results."),
        click.option("--images", type=IN, required=True, help="The dataset, as written by fetch."),
        click.option("--manifold", type=IN, required=True, help="The manifold (safetensors)."),
        click.option("--name", required=True, help="What to call the manifold in the tables."),
    ):
        function = decorate(function)
    return function


def summary_options(function: Callable[..., None]) -> Callable[..., None]:
    """The option of a command that compares all manifolds: the ``folder`` that holds a folder of each."""
    text = "The stage's results: a folder for each manifold, and what is written here."
    return folder_option("--folder", text)(function)


class _Logging:
    """Progress on standard error, with the stage as prefix of each line; the same with times in a file."""

    def __init__(self, prefix: str, path: Path | None) -> None:
        self.handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
        self.handlers[0].setFormatter(logging.Formatter(f"[{prefix}] %(message)s"))
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.handlers.append(_LogFile(path, mode="w", encoding="utf-8"))
            except OSError as error:
                text = f"cannot write the log {path}: {error.strerror}; going on without it"
                self.handlers[0].handle(log.makeRecord(log.name, logging.WARNING, "", 0, text, (), None))
            else:
                self.handlers[1].setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> None:
        log.setLevel(logging.INFO)
        log.handlers = self.handlers
        self.show, warnings.showwarning = warnings.showwarning, self._show

    def _show(self, message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
        if issubclass(category, LatentAtlasWarning):
            log.warning("warning: %s", message)
        else:
            self.show(message, category, *place, **options)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        warnings.showwarning = self.show
        status = None
        if isinstance(error, LatentAtlasError):
            log.error("error: %s", error)
            status = 1
        elif isinstance(error, Exception) and not isinstance(error, click.exceptions.ClickException):
            log.error("unexpected error", exc_info=error)
            status = 70
        for handler in self.handlers:
            handler.close()
        log.handlers = []
        if status is not None:
            sys.exit(status)


class _JobMetadata:
    """Node, device, time and memory of a job: a small file beside its log, written when the job has succeeded.

    It is no output of the job, since it differs from run to run. ``latent-atlas records`` collects these files.
    """

    def __init__(self, log_file: Path | None) -> None:
        self.path = log_file and log_file.with_suffix(".record.json")

    def __enter__(self) -> None:
        _metadata.clear()
        self.started = _starts.pop() if _starts else time.time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.path is None or kind is not None:
            return
        usage = resource.getrusage(resource.RUSAGE_SELF)
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
        metadata = {
            # a node that SLURM simulates on a host has a name of its own
            "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "job_id": os.environ.get("SLURM_JOB_ID"),
            "device": "cpu",
            "started_utc": f"{datetime.fromtimestamp(self.started, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3],
            "wall_s": round(time.time() - self.started, 2),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_memory_mib": round(peak),
        }
        with suppress(LatentAtlasError):  # a folder that cannot be written to was reported with the log
            write_text(self.path, json.dumps(metadata | _metadata) + "\n")


_metadata: dict[str, Any] = {}
_starts = [STARTED]  # the first command of a process began with it


def add_metadata(**entries: Any) -> None:
    """Add entries to the metadata of the running job, such as the device it computes on."""
    _metadata.update(entries)


class _LogFile(logging.FileHandler):
    """A log file that ignores write errors, such as a full disk: the terminal still shows everything."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()

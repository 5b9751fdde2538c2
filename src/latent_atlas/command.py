"""What all commands share: the parameter file, the log, the metadata of the job, and how errors are shown."""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click

from latent_atlas import STARTED
from latent_atlas.errors import LatentAtlasError, LatentAtlasWarning
from latent_atlas.files import kind_of, sealed, write_text
from latent_atlas.imports import place
from latent_atlas.kernels.allocation import keep_freed_memory

log = logging.getLogger("latent_atlas")
SECONDS = 5.0  # between lines of progress in the terminal
AGAIN_S = 1.0  # until Ctrl-C is raised again


class Place(click.Path):
    """A path at which nothing stands yet, or something of one kind; reading a pipe or a device might never end."""

    def __init__(self, what: str, *others: str) -> None:
        super().__init__(path_type=Path)
        self.what, self.kinds = what, (None, what, *others)
        self.name = "directory" if what == "a folder" else "file"  # as the help shows it

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if (found := kind_of(value)) not in self.kinds:
            self.fail(f"{str(value)!r} is {found}: name {self.what}", param, ctx)
        return super().convert(value, param, ctx)


IN = Place("a file")
OUT = Place("a file", "a device")  # a log may go to /dev/null


def run(
    name: str,
    load: Callable[[], Callable[..., None]],
    params_file: Path,
    log_file: Path | None,
    options: dict[str, Any],
) -> None:
    """Call a stage with the parameter file and its options, as a job of the pipeline.

    Parameters
    ----------
    name : str
        Of the command; with the option ``name``, if it has one, the prefix of each line of progress.
    load : callable
        Gives the stage's function. It is called within the job, so that loading counts and can fail like the rest.
    """
    with _Logging(f"{name} {options.get('name') or ''}".strip(), log_file), _JobMetadata(log_file):
        from latent_atlas.study import schema

        params = schema.load(params_file)  # first: a wrong one is told before anything is loaded
        keep_freed_memory()
        function = _at_once(load)
        try:
            with _interruptible():
                function(params, **options)
        except SystemExit as stop:  # no code here says so: a network, an objective or a function of the user's does
            raise LatentAtlasError(
                f"code of yours ended the process by sys.exit({stop.code!r}) ({place(stop)}): let it raise an error"
            ) from stop
        finally:
            atexit.unregister(_ignore_an_interrupt)
            atexit.register(_ignore_an_interrupt)  # after all that packages register, and so called first


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the work in the block for sure.

    Python raises it as an exception wherever the program is. In a destructor or a callback of a weak reference it is
    shown and forgotten, and a library may catch it. So it is raised again, each second, until the block ends.
    """
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        raise KeyboardInterrupt

    def show(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            usual_hook(unraisable)

    signal.signal(signal.SIGINT, interrupt)
    alarm, usual_hook = signal.signal(signal.SIGALRM, interrupt), sys.unraisablehook
    sys.unraisablehook = show
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        signal.signal(signal.SIGINT, usual)
        sys.unraisablehook = usual_hook


def _ignore_an_interrupt() -> None:
    """Let packages tidy up at the end of a process, when all is written. A second Ctrl-C ends it."""
    signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL))


def _at_once(load: Callable[[], Callable[..., None]]) -> Callable[..., None]:
    """Load a stage so that Ctrl-C ends the process at once: nothing is written yet, and imports may swallow it."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:  # ignored, or in somebody else's program
        return load()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return load()
    finally:
        signal.signal(signal.SIGINT, handler)


def report_progress(text: str) -> None:
    """Tell how far the work is. The terminal shows this once in :data:`SECONDS` at most, the log all of it."""
    log.info(text, extra={"progress": True})


class _Sparse:
    """A filter that lets lines of progress pass now and then, and all others."""

    def __init__(self) -> None:
        self.last = -math.inf

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(record, "progress", False):
            return True
        if record.created - self.last < SECONDS:
            return False
        self.last = record.created
        return True


class _Logging:
    """Progress on standard error, with the stage as prefix of each line; the same with times in a file."""

    def __init__(self, prefix: str, path: Path | None) -> None:
        self.handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
        self.handlers[0].setFormatter(logging.Formatter(f"[{prefix}] %(message)s"))
        self.handlers[0].addFilter(_Sparse().filter)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.handlers.append(_LogFile(path, self.handlers[0]))
            except OSError as error:
                _without(self.handlers[0], path, error)
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
        elif isinstance(error, KeyboardInterrupt):
            log.error("interrupted: no file is half-written; run the same command again to go on")
            status = 130
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
        self.log_file, self.path = log_file, log_file and log_file.with_suffix(".record.json")

    def __enter__(self) -> None:
        _metadata.clear()
        self.started = _starts.pop() if _starts else time.time()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.path is None or kind is not None or kind_of(self.log_file or "") == "a device":
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
        try:
            write_text(self.path, sealed(metadata | _metadata) + "\n")
        except LatentAtlasError as error:
            log.warning("warning: %s; going on without the record of this job", error)


_metadata: dict[str, Any] = {}
_starts = [STARTED]  # the first command of a process began with it


def add_metadata(**entries: Any) -> None:
    """Add entries to the metadata of the running job, such as the device it computes on."""
    _metadata.update(entries)


class _LogFile(logging.FileHandler):
    """A log file that may fail, such as on a full disk: that is said once, and the terminal still shows everything."""

    def __init__(self, path: Path, terminal: logging.Handler) -> None:
        super().__init__(path, mode="w", encoding="utf-8")
        self.path, self.terminal, self.failed = path, terminal, False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self._fail(sys.exception())

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        if isinstance(error, OSError) and not self.failed:
            self.failed = True
            _without(self.terminal, self.path, error)


def _without(terminal: logging.Handler, path: Path, error: OSError) -> None:
    text = f"warning: cannot write the log {path}: {error.strerror or error}; going on without it"
    terminal.handle(log.makeRecord(log.name, logging.WARNING, "", 0, text, (), None))

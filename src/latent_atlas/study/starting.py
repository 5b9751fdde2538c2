"""Snakemake, started so that Ctrl-C ends it with one sentence from its first moment on."""

from __future__ import annotations

import os
import runpy
import signal
import sys
from types import FrameType, TracebackType

from latent_atlas.cluster.ending import after

RUN = "LATENT_ATLAS_RUN"  # the command that was typed, where it was not snakemake


def go_on() -> str:
    """How to go on after Ctrl-C while nothing runs yet."""
    again = f" To go on: {os.environ[RUN]}" if RUN in os.environ else ""
    return f"Interrupted before a job has started: nothing has changed.{again}\n"


def end(number: int, frame: FrameType | None) -> None:
    """End the process: a handler of a signal, while modules are loaded, which may swallow exceptions."""
    os.write(2, f"\n{go_on()}".encode())
    os._exit(128 + number)


def unless_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what ends Snakemake; of Ctrl-C while it reads the rules and plans, one line."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(go_on())
    else:
        sys.__excepthook__(kind, error, trace)


def start() -> None:
    """Load Snakemake, then let it run with the arguments of this process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is not ignored
        signal.signal(signal.SIGINT, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # a signal that came meanwhile arrives here
    sys.excepthook = unless_interrupted
    after(lambda: runpy.run_module("snakemake", run_name="__main__", alter_sys=True))


def started() -> None:
    """Leave Ctrl-C to Snakemake: called when the Snakefile is read, before anything is locked."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)

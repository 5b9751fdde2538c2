"""What the fuzz tests share: how bytes are damaged, the limits of a case, and the figures of a run."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some

from latent_atlas.errors import LONGEST, LatentAtlasError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # of each test, in a long search
SECONDS, BYTES = 10, 2**30  # of processor time and of memory that a case may take
PATIENCE = 6  # how much longer a case may last on a machine that is busy
WORDS = (0, 1, 2, 3, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
LIBC = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "malloc_trim") else None
T = TypeVar("T")


class TooLongError(BaseException):
    """A case that went beyond :data:`SECONDS`; nothing that catches errors of files catches it."""


def quick(examples: int) -> settings:
    """So many examples, always the same ones; in a long search :data:`EXAMPLES`, others each time."""
    return settings(
        max_examples=EXAMPLES or examples, deadline=None, derandomize=not EXAMPLES,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip


def no_files(folder: Path, ending: str) -> list[Path]:
    """A named pipe, a device, a circle of links, a folder, and a path at which nothing stands."""
    pipe, device, loop, below = (folder / f"{kind}{ending}" for kind in ("pipe", "device", "loop", "folder"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    below.mkdir()
    return [pipe, device, loop, below, folder / f"gone{ending}"]


class Tally:
    """The cases of one kind of input: how many, and what became of them."""

    def __init__(self, kind: str) -> None:
        self.figures: dict[str, Any] = {
            "kind": kind, "cases": 0, "refused": 0, "equal": 0, "seconds": 0.0, "mib": 0.0,
        }  # fmt: skip

    def case(self, attempt: Callable[[], T], same: Callable[[T], object], names: Iterable[object] = ()) -> str | None:
        """The message by which an attempt was refused, which holds one of ``names``; None if ``same`` passes.

        Any error but those of this package, more than :data:`SECONDS` or :data:`BYTES` fail the test. ``same`` asserts
        that what was read is what the input says, by another way of reading it.
        """
        message = None
        with self.limits():
            try:
                found = attempt()
            except LatentAtlasError as error:
                message = str(error)
        self.figures["cases"] += 1
        if message is None:
            same(found)
            self.figures["equal"] += 1
        else:
            check_message(message, names)
            self.figures["refused"] += 1
        return message

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Fail if the block takes more than :data:`SECONDS` or :data:`BYTES`."""
        if LIBC is not None:
            LIBC.malloc_trim(0)  # what earlier cases have freed does not count
        before, start = _memory("VmRSS"), time.process_time()
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the largest memory counts from here
        old = signal.signal(signal.SIGALRM, _alarm)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * SECONDS)
        faulthandler.dump_traceback_later(2 * PATIENCE * SECONDS, exit=True)  # where no signal is heard
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        grown, took = _memory("VmHWM") - before, time.process_time() - start
        self.figures["seconds"] = max(self.figures["seconds"], took)
        self.figures["mib"] = max(self.figures["mib"], grown / 2**20)
        assert grown < BYTES, f"{grown / 2**20:.0f} MiB"
        assert took < SECONDS, f"{took:.0f} s"


def _alarm(*_: object) -> None:
    raise TooLongError


def _memory(key: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def check_message(message: str, names: Iterable[object] = ()) -> None:
    """A message for a user: not empty, not long, without a traceback, with one of ``names``."""
    assert message.strip()
    assert "Traceback" not in message
    assert len(message) <= LONGEST, message
    assert not (names := [str(name) for name in names]) or any(name in message for name in names), message


class Process:
    """A command as a process of its own, with its status, its words, and its largest memory."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        out, error = folder / ".out", folder / ".err"
        start = time.monotonic()
        with out.open("wb") as stdout, error.open("wb") as stderr:
            child = os.posix_spawn(
                command[0], command, os.environ | environment | {"PWD": str(folder)},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, stdout.fileno(), 1), (os.POSIX_SPAWN_DUP2, stderr.fileno(), 2),
                ],
            )  # fmt: skip
        status: int | None = None
        while status is None:
            found, state, usage = os.wait4(child, os.WNOHANG)
            if found:
                status = os.waitstatus_to_exitcode(state)
            elif time.monotonic() - start > PATIENCE * SECONDS:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise TooLongError(command)
            else:
                time.sleep(0.01)
        self.status, self.bytes, self.seconds = status, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime
        self.output, self.errors = out.read_text(errors="replace"), error.read_text(errors="replace")


# bytes

Change = tuple[str, float, int, bytes]
CHANGES = some.tuples(
    some.sampled_from(["cut", "flip", "set", "word", "swapped word", "insert", "delete", "repeat", "append", "zero"]),
    some.floats(0, 1, exclude_max=True),
    some.sampled_from(WORDS),
    some.binary(min_size=1, max_size=8),
)


def damage(size: int = 3) -> some.SearchStrategy[list[Change]]:
    """One to ``size`` changes of bytes."""
    return some.lists(CHANGES, min_size=1, max_size=size)


def damaged(content: bytes, changes: Iterable[Change]) -> bytes:
    """The bytes with these changes, whose places are shares of the length."""
    for how, share, word, more in changes:
        at = int(share * len(content))
        match how:
            case "cut":
                content = content[:at]
            case "flip":
                content = content[:at] + bytes(b ^ (1 << (word % 8)) for b in content[at : at + 1]) + content[at + 1 :]
            case "set":
                content = content[:at] + more + content[at + len(more) :]
            case "word" | "swapped word":
                size = 1 << (len(more) % 4)
                raw = (word % (1 << 8 * size)).to_bytes(size, "little" if how == "word" else "big")
                content = content[:at] + raw + content[at + size :]
            case "insert":
                content = content[:at] + more + content[at:]
            case "delete":
                content = content[:at] + content[at + len(more) :]
            case "repeat":
                content = content[:at] + content[at : at + 64] * 2 + content[at + 64 :]
            case "append":
                content += more * 9
            case _:
                content = content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]
    return content


# figures


def figures(reports: Iterable[pytest.TestReport]) -> list[str]:
    """A line for each kind of input in the reports of tests."""
    sums: dict[str, dict[str, Any]] = {}
    for report in reports:
        for name, found in report.user_properties:
            if name == "fuzz":
                assert isinstance(found, dict)
                row = sums.setdefault(found["kind"], dict.fromkeys(found, 0) | {"kind": found["kind"]})
                row |= {key: row[key] + found[key] for key in ("cases", "refused", "equal")}
                row |= {key: max(row[key], found[key]) for key in ("seconds", "mib")}
    rows = [*sums.values()]
    if rows:
        total = {key: sum(row[key] for row in rows) for key in ("cases", "refused", "equal")}
        rows.append({"kind": "all", **total, **{key: max(row[key] for row in rows) for key in ("seconds", "mib")}})
    return [
        f"{row['kind']:<22}{row['cases']:>7} cases{row['refused']:>7} refused{row['equal']:>7} accepted and equal"
        f"{row['seconds']:>7.1f} s{row['mib']:>6.0f} MiB at most"
        for row in rows
    ]

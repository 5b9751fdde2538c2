"""What disturbs the jobs of the small study of ``repository.py``: their names, and calls that write and fail."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

WAIT_S = 300
# One job of each rule.
JOBS = (
    "explorer-fc4", "explorer_summary", "fetch", "geodesics-fc4", "geodesics_summary", "interpolate-fc4",
    "interpolate_pixels", "interpolate_summary", "invariance-fc4", "invariance_epochs-fc4", "invariance_summary",
    "jacobian-fc4", "jacobian_summary", "known_answers", "layers-fc4", "layers_summary", "pca", "reconstruct-fc4",
    "reconstruct_summary", "report", "tangents-fc4", "tangents_shared", "tangents_summary", "train-fc4",
    "train_summary",
)  # fmt: skip


def command(root: Path, job: str) -> tuple[list[str], list[str]]:
    """The words of a job's command, and its outputs, as ``dvc.yaml`` in a folder has them."""
    stage = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][job]
    outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
    return shlex.split(stage["cmd"].partition("; ")[2]), outs


class Call(NamedTuple):
    """A call that writes: open, write, fsync, rename, link, mkdir, unlink or rmdir, and its path below a folder."""

    process: int
    name: str
    path: str

    @property
    def removes(self) -> bool:
        """Whether it removes a file or a folder, which a full disk allows."""
        return self.name in ("unlink", "rmdir")

    @property
    def named(self) -> str:
        """What a message must name."""
        folder, _, name = self.path.rpartition("/")
        name = re.sub(r"^\.(.+)\.\d+\.part(\.\w+)?$", r"\1\2", name)
        return folder if name.startswith(".fetch-") else f"{folder}/{name}".strip("/")


class Ended(NamedTuple):
    """How a copy of a process ended, in which calls failed."""

    status: int
    said: str
    failed: list[Call]


# Lets a copy of the process that makes a call see it fail with an errno; if true, also all after it but removals.
Copy = Callable[[int, bool], Ended]
# What becomes of a call: the errno with which it fails, 0 if it is made.
Answer = Callable[[Call, Copy], int]


def made(call: Call, copy: Copy) -> int:
    """The answer that lets all calls be made."""
    return 0


def noted(calls: list[Call]) -> Answer:
    """The answer that lets all calls be made, and adds them to a list."""

    def answer(call: Call, copy: Copy) -> int:
        calls.append(call)
        return 0

    return answer


class Door(socketserver.ThreadingUnixStreamServer):
    """Answers the calls of processes that are started with its ``environment`` and the preloaded library.

    Parameters
    ----------
    below : Path
        The folder whose calls are asked about.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, below: Path) -> None:
        place = tempfile.mkdtemp(prefix="door-")  # the path of a socket must be short
        self.said = Path(place) / "said"
        self.environment = {"FAULT_BELOW": str(below), "FAULT_DOOR": f"{place}/door", "FAULT_SAID": str(self.said)}
        self.answer: Answer = made
        self.trouble: list[BaseException] = []
        super().__init__(f"{place}/door", _Asked)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """End the server."""
        self.shutdown()
        self.server_close()
        shutil.rmtree(self.said.parent)

    @contextlib.contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Answer in this way during the block; what was raised by an answer is raised at the end."""
        before, self.answer = self.answer, answer
        try:
            yield
        finally:
            self.answer = before
        if self.trouble:
            raise self.trouble[0]


class _Asked(socketserver.StreamRequestHandler):
    """One call, whose process waits."""

    server: Door
    timeout = WAIT_S

    def handle(self) -> None:
        process, name, path = os.fsdecode(self.rfile.readline()).rstrip("\n").split("\t", 2)
        call, answer = Call(int(process), name, path), 0
        try:
            answer = self.server.answer(call, functools.partial(self.copy, call))
        except BaseException as error:
            self.server.trouble.append(error)
        self.say(answer)

    def copy(self, call: Call, error: int, on: bool) -> Ended:
        """See ``Copy``."""
        failed = [call]

        def later(call: Call, _: Copy) -> int:
            if not on or call.removes:
                return 0
            failed.append(call)
            return error

        with self.server.answering(later):
            self.say(-error)
            status = int(self.rfile.readline())
        return Ended(status, self.server.said.read_text(encoding="utf-8"), failed)

    def say(self, answer: int) -> None:
        self.wfile.write(f"{answer}\n".encode())

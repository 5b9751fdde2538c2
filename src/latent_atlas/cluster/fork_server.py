"""Jobs in processes that have loaded torch already: a server for each run of Snakemake on a machine, which forks.

Most of a short job is the start of Python, torch and pandas. While Snakemake runs jobs on a machine, one process loads
these packages once, and of this package only how a process ends. It forks for each ``latent-atlas`` command. The
command that Snakemake starts only hands over its arguments, working directory, environment, umask and streams; it
passes signals on and ends as the forked process ends. A signal that comes while the server still loads ends the command
by itself. The forked process runs the same script as an interpreter of its own would, so that seeds give the same
bytes. It has no CUDA context and no thread of the server, and claims a GPU by itself.

The server listens in a folder that only its user can enter, and ends with Snakemake. A command runs in its own
interpreter, as ever, where there is no server, or where another environment was set for what is read when libraries are
loaded, such as another number of threads. ``LATENT_ATLAS_FORK_SERVER=off`` asks for that.

This file is both: imported by the command, and run by itself as the server. It uses the standard library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import marshal
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

VARIABLE = "LATENT_ATLAS_FORK_SERVER"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
     "NUMEXPR_NUM_THREADS"),
    "1",
)  # fmt: skip  # as Snakemake sets them for a job of one thread
# What libraries read when they are loaded: a command with other values is not run here.
READ_AT_LOAD = (
    "ATEN_", "DNNL_", "GLIBC_", "GOMP_", "GOTO_", "KMP_", "LANG", "LC_", "LD_", "MALLOC_", "MKL_", "MPL", "NUMEXPR_",
    "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHON", "PYTORCH_", "TORCH", "TZ", "VECLIB_",
)  # fmt: skip
# What a training loads; the first backward pass and the first optimizer load torch._dynamo.
FIRST = (
    *("torch", "numpy", "pandas", "click", "ruamel.yaml", "pydantic.main", "pydantic.functional_validators"),
    *("safetensors.torch", "pyarrow.parquet", "pyarrow.pandas_compat", "pandas.io.formats.csvs", "torch._dynamo"),
    *("torch.fx.experimental.symbolic_shapes", "torch.utils.serialization"),
)
# What other stages load: while no command waits.
THEN = (
    *("torch.func", "scipy.special", "scipy.integrate", "scipy.ndimage", "scipy.stats", "scipy.interpolate"),
    *("scipy.sparse.csgraph", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("matplotlib.backends.backend_svg", "PIL.Image", "jinja2", "altair"),
)
FORKED_SAFELY = ("jemalloc_bg_thd",)  # of pyarrow's allocator, which provides for forks
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
LONGEST_PATH = 100  # of a UNIX socket
PR_SET_PDEATHSIG = 1
BEGUN = b"+"  # said by the server when it has forked


class Request(NamedTuple):
    """A command as it was called."""

    words: list[str]  # sys.argv
    path: list[str]  # sys.path
    executable: str
    folder: str
    environment: dict[str, str]
    umask: int
    ignored: Sequence[int]  # signals


# by the run of Snakemake

_servers: list[subprocess.Popen[bytes]] = []  # their standard inputs close with this process, and so they end


def start() -> None:
    """Start the server of this process, and let commands that are started from now on find it.

    Nothing is started on another system than Linux, if the variable says ``off``, or if a socket would have too long a
    path; jobs then load what they need by themselves.
    """
    if sys.platform != "linux" or os.environ.get(VARIABLE) == "off":
        return
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    try:
        folder = tempfile.mkdtemp(prefix="latent-atlas-", dir=runtime if os.access(runtime, os.W_OK) else None)
        with socket.socket(socket.AF_UNIX) as door:
            if len(folder) > LONGEST_PATH:
                raise OSError("too long a path")
            door.bind(f"{folder}/server")
            door.listen(128)
            server = subprocess.Popen(
                [sys.executable, "-P", __file__, folder, str(door.fileno())],
                env=os.environ | ONE_THREAD | {"MPLBACKEND": "agg"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[door.fileno()],
                start_new_session=True,  # Ctrl-C is for the commands, which pass it on
            )
    except OSError:
        return
    _servers.append(server)
    os.environ[VARIABLE] = folder


def forget() -> None:
    """Let commands not use the server of another run, in whose environment this one was started."""
    if os.environ.get(VARIABLE) != "off":
        os.environ.pop(VARIABLE, None)


# by a command


def hand_over() -> None:
    """Let the server run this command, and end as it ends there; return if there is no server for it."""
    folder = os.environ.get(VARIABLE, "off")
    if folder == "off" or Path(sys.argv[0]).name != "latent-atlas":
        return
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as server:
        status = Path(folder).stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return
        server.connect(f"{folder}/server")
        ignored = [int(number) for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
        umask = os.umask(0)
        os.umask(umask)
        words = (sys.argv, sys.path, sys.executable, str(Path.cwd()), dict(os.environ), umask, ignored)
        request = marshal.dumps(words)  # of a Request
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
        begun = threading.Event()
        passed: list[int] = []
        for number in {*PASSED_ON, signal.SIGCONT, signal.SIGTSTP} - {*ignored}:
            signal.signal(number, lambda number, _: _pass_on(server, number, begun, passed))
        answer = b""
        with contextlib.suppress(OSError):
            if server.recv(len(BEGUN)) == BEGUN:
                begun.set()
                answer = server.recv(16)
        if answer:
            _end(int(answer))
        if asked := [number for number in passed if number in PASSED_ON]:  # the server has ended before it could
            _end(-asked[0])
    for number in {*PASSED_ON, signal.SIGCONT, signal.SIGTSTP}:  # the server is gone, or does not want it
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _pass_on(server: socket.socket, number: int, begun: threading.Event, passed: list[int]) -> None:
    if number in PASSED_ON and not begun.is_set():
        _end(-number)
    passed.append(number)
    with contextlib.suppress(OSError):
        server.sendall(bytes([signal.SIGSTOP if number == signal.SIGTSTP else number]))
    if number == signal.SIGTSTP:
        os.kill(os.getpid(), signal.SIGSTOP)


def _end(code: int) -> None:
    """End as a process with this return code of :mod:`subprocess` ended."""
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)  # nothing was written here


# the server


class Server:
    """Forks for each command that connects, until the standard input closes and no command is left.

    Parameters
    ----------
    door : socket
        It listens.
    environment : mapping of str to str
        That of this process before it loaded anything.
    """

    def __init__(self, door: socket.socket, environment: Mapping[str, str]) -> None:
        self.door, self.environment = door, environment
        self.running: dict[int, socket.socket] = {}  # by process
        self.events = selectors.DefaultSelector()
        self.ended, write = os.pipe()
        os.set_blocking(write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for file, attend in ((door, self._accept), (sys.stdin, self._stop), (self.ended, self._reap)):
            self.events.register(file, selectors.EVENT_READ, attend)

    def serve(self) -> Request | None:
        """Serve; returns in a forked process with what it is to run, in the server with None."""
        todo = list(THEN)
        while self.door.fileno() >= 0 or self.running:
            for key, _ in self.events.select(0 if todo else None):
                if request := key.data(key.fileobj):
                    return request
            if todo:
                _load(todo.pop(0))
                if not todo:
                    gc.collect()
                    gc.freeze()
        return None

    def _stop(self, _: object) -> None:
        """Snakemake has ended: serve no more commands."""
        self.events.unregister(sys.stdin)
        self.events.unregister(self.door)
        self.door.close()

    def _reap(self, _: object) -> None:
        os.read(self.ended, 1024)
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if connection := self.running.pop(found[0], None):
                    self.events.unregister(connection)
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(str(os.waitstatus_to_exitcode(found[1])).encode())

    def _signal(self, connection: socket.socket) -> None:
        """Pass on signals to the process of a connection; if whoever waits for it was killed, kill it too."""
        try:
            numbers = connection.recv(64)
        except OSError:
            numbers = b""
        process = next((process for process, its in self.running.items() if its is connection), None)
        if process is None:  # it has ended while this event waited for its turn
            return
        for number in numbers or bytes([signal.SIGKILL]):
            os.kill(process, number)
        if not numbers:
            self.events.unregister(connection)
            connection.close()
            del self.running[process]

    def _accept(self, _: object) -> Request | None:
        connection, _address = self.door.accept()
        streams: list[int] = []
        try:
            _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if user != os.geteuid():
                raise ValueError("another user")
            connection.settimeout(10)
            head, streams, _, _ = socket.recv_fds(connection, 8, 3)
            text = b""
            while len(text) < int.from_bytes(head, "big"):
                text += connection.recv(1 << 16) or _fail()
            request = Request(*marshal.loads(text))  # noqa: S302  # of the same user and interpreter
            fits = request.executable == sys.executable and _at_load(request.environment) == _at_load(self.environment)
            connection.setblocking(False)
            fits = fits and not _gone(connection)
        except (OSError, ValueError, EOFError, TypeError):
            fits = False
        process = os.fork() if fits else -1
        if process == 0:
            self._become(request, streams, connection)
            return request
        for stream in streams:
            os.close(stream)
        if process < 0:
            connection.close()
            return None
        connection.setblocking(True)
        with contextlib.suppress(OSError):  # it has ended, which the next event tells
            connection.sendall(BEGUN)
        self.running[process] = connection
        self.events.register(connection, selectors.EVENT_READ, self._signal)
        return None

    def _become(self, request: Request, streams: list[int], connection: socket.socket) -> None:
        """Make this forked process the one that was asked for."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in PASSED_ON:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in request.ignored else usual)
        self.events.close()
        for other in (self.door, connection, *self.running.values()):
            other.close()
        os.close(self.ended)
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        if os.isatty(1):
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        os.umask(request.umask)
        os.chdir(request.folder)
        set_by_packages = {name: value for name, value in os.environ.items() if name not in self.environment}
        os.environ.clear()
        os.environ.update(set_by_packages | request.environment)
        del os.environ[VARIABLE]


def _fail() -> bytes:
    raise EOFError


def _gone(connection: socket.socket) -> bool:
    """Whether the command has ended while it waited, and nothing is to be run for it."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _at_load(environment: Mapping[str, str]) -> dict[str, str]:
    """What libraries read when they are loaded. The way of drawing is the command line's own choice."""
    return {key: value for key, value in environment.items() if key.startswith(READ_AT_LOAD) and key != "MPLBACKEND"}


def _load(name: str) -> None:
    with contextlib.suppress(Exception):  # a package that no stage of this study may need; the stage says so
        importlib.import_module(name)


def _load_ending() -> None:
    """Load the module that ends forked processes, which comes before all others, and nothing else of its package."""
    name = "latent_atlas.cluster.ending"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("ending.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def main(folder: str, door: socket.socket) -> None:
    """Load the packages and serve; what is forked runs its script and ends here too."""
    for number in PASSED_ON:  # a scheduler signals all processes of a job; the commands pass theirs on
        signal.signal(number, signal.SIG_IGN)
    environment = dict(os.environ)
    _load_ending()
    gc.disable()
    for name in FIRST:
        _load(name)
    gc.enable()
    gc.freeze()
    torch = sys.modules.get("torch")
    request = None
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    alone = len([name for name in threads if name not in FORKED_SAFELY]) == 1  # else a lock may be held at the fork
    if alone and not (torch and torch.cuda.is_initialized()):
        request = Server(door, environment).serve()
    if request is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # each process has its own, as if it had loaded numpy
    importlib.invalidate_caches()
    sys.argv, sys.path = request.words, request.path
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))

"""Commands in interpreters that have loaded the packages already, for tests that run hundreds of commands.

Most of the time of a command is the start of Python, torch, Snakemake and DVC. Here a server loads these once, without
anything of this package, and forks for each command. The sources, the working directory, the environment, the streams
and the exit code are those of the command; what it starts in turn is run in the same way.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import marshal
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

POSSIBLE = sys.platform == "linux"  # elsewhere a process that has loaded so much does not survive a fork
PYTHON = sys.executable
BIN = Path(PYTHON).parent
COMMANDS = ("dvc", "latent-atlas", "snakemake")
PACKAGES = (
    *("click", "grimp", "jinja2", "numpy", "pandas", "PIL.JpegImagePlugin", "pyarrow.parquet", "pyarrow.pandas_compat"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "pydantic"),
    *("ruamel.yaml", "safetensors.torch", "scipy.linalg", "scipy.special", "scipy.stats", "sklearn.datasets"),
    *("torch.func", "torch._dynamo", "torch.export._trace", "torch.onnx._internal.exporter._core"),
    *("onnxscript.function_libs.torch_lib.ops", "altair", "docutils.core", "platformdirs", "smart_open", "yte"),
    *("dvc.cli.parser", "dvc.data_cloud", "dvc.lock", "dvc.repo.index", "dvc.repo.plots", "dvc.repo.stage"),
    *("dvc.output", "dvc.rwlock", "dvc.scm", "dvc.stage", "dvc.commands.status", "dvc.commands.repro"),
    *("snakemake.cli", "snakemake.dag", "snakemake.executors.local", "snakemake.profiles", "snakemake.report"),
    *("snakemake.storage", "snakemake.workflow"),
)
CLIENT = """\
#!{python} -IS
import marshal, os, socket, sys
folder, name = os.path.split(sys.argv[0])
if name == "python" and sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.path.join({folder!r}, "server"))
    request = marshal.dumps(([name, *sys.argv[1:]], os.getcwd(), dict(os.environ)))
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    code = int(server.recv(16) or 70)
sys.exit(code if code >= 0 else 128 - code)
"""


SERVERS: list[subprocess.Popen[bytes]] = []  # their standard inputs close with this process
SHARED = "LATENT_ATLAS_TESTS_TOOLS"  # the folder of a server that all processes use which share the tests


def share() -> None:
    """Let the processes that are started from now on use one server, that of this process."""
    if POSSIBLE and SHARED not in os.environ:
        os.environ[SHARED] = str(tools())


@functools.cache
def tools(preload: str = "") -> Path:
    """A folder for PATH with the commands; their server runs until this process ends, with a library loaded first."""
    if not preload and SHARED in os.environ:
        return Path(os.environ[SHARED])
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    client = CLIENT.format(python=PYTHON, folder=str(folder))
    for name in ("python", *COMMANDS):
        (folder / name).write_text(client, encoding="utf-8")
        (folder / name).chmod(0o755)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "server"))
        door.listen(64)
        one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        server = subprocess.Popen(
            [PYTHON, __file__, str(folder), str(door.fileno())],
            env=environment | one | {"MPLBACKEND": "agg"} | ({"LD_PRELOAD": preload} if preload else {}),
            stdin=subprocess.PIPE,
            pass_fds=[door.fileno()],
            start_new_session=True,
        )
    SERVERS.append(server)
    return folder


def serve(folder: Path, door: socket.socket) -> None:
    """Fork for each command, until standard input closes."""
    for name in PACKAGES:
        importlib.import_module(name)
    assert not any(name.partition(".")[0] == "latent_atlas" for name in sys.modules)
    assert threading.active_count() == 1
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in (ready := select.select([door, sys.stdin], [], [])[0]):
        if door in ready:
            connection, _ = door.accept()
            with connection:
                if os.fork() == 0:
                    door.close()
                    _attend(folder, connection)
    shutil.rmtree(folder)


def _attend(folder: Path, connection: socket.socket) -> None:
    """Run the command of a connection, and send its exit code; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = b""
    while len(request) < int.from_bytes(head, "big"):
        request += connection.recv(1 << 16)
    runner = os.fork()
    if runner == 0:
        connection.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        code = _run(folder, *marshal.loads(request))  # noqa: S302
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                file.flush()
        os._exit(code)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(runner)
    if ended not in select.select([connection.fileno(), ended], [], [])[0]:  # whoever asked for it has been killed
        os.killpg(runner, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(runner, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def _run(folder: Path, words: list[str], cwd: str, environment: dict[str, str]) -> int:
    """What the interpreter does with ``-m MODULE`` or a command's script; the exit code."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.executable = str(folder / "python")
    name, *arguments = words
    of_module = name == "python"
    sources = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [cwd if of_module else str(BIN), *sources]
    try:
        if of_module:
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [str(BIN / name), *arguments]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        code: Any = stop.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
        return code if isinstance(code, int) else 0 if code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))

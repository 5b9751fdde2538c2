"""Commands in forked processes that have loaded torch: as in an interpreter of their own, whatever happens to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import Repository

from latent_atlas.cluster import fork_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no such server")

HEAD = """\
#!{python}
import json, os, sys, time
from latent_atlas.cluster import fork_server
fork_server.hand_over()
"""
TELL = """
mask = os.umask(0)
print(json.dumps([os.getppid(), os.getcwd(), sys.argv[1:], os.environ.get("MARK"), mask, "torch" in sys.modules,
                  sys.path, sys.stdin.read(), __name__, os.environ.get("LATENT_ATLAS_FORK_SERVER")]))
print("told", file=sys.stderr)
"""


@contextlib.contextmanager
def started() -> Iterator[subprocess.Popen[bytes]]:
    """A server, and an environment in which commands find it, until the block ends."""
    before = dict(os.environ)
    os.environ.update(fork_server.ONE_THREAD)
    os.environ.pop(fork_server.VARIABLE, None)
    fork_server.start()
    found = fork_server._servers.pop()
    try:
        yield found
    finally:
        assert found.stdin is not None
        found.stdin.close()
        assert found.wait(60) is not None
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def own_server() -> Iterator[subprocess.Popen[bytes]]:
    """A server that the commands of this process find, and that a test may end."""
    with started() as found:
        yield found


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    """A server for all tests that leave it at work, and the variables by which commands find it."""
    before = dict(os.environ)
    with started() as found:
        variables = {name: os.environ[name] for name in (fork_server.VARIABLE, *fork_server.ONE_THREAD)}
        os.environ.clear()
        os.environ.update(before)
        yield found, variables


@pytest.fixture
def server(
    shared: tuple[subprocess.Popen[bytes], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> subprocess.Popen[bytes]:
    """A server that the commands of this process find."""
    found, variables = shared
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert found.poll() is None
    return found


def script(folder: Path, text: str) -> list[str]:
    """A command of this text."""
    path = folder / "latent-atlas"
    path.write_text(HEAD.format(python=sys.executable) + text, encoding="utf-8")
    path.chmod(0o755)
    return [str(path)]


def told(*command: str, **options: object) -> list:
    """What TELL tells."""
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, **options)  # type: ignore[call-overload]
    assert done.stderr == "told\n"
    return json.loads(done.stdout)


def wait_for(path: Path) -> str:
    """The text of a file that is written soon."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} is not written"
        time.sleep(0.05)
    return path.read_text()


def alive(process: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def ended(process: int) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + 60
    while alive(process):
        assert time.monotonic() < deadline, f"process {process} goes on"
        time.sleep(0.05)


def test_a_command_finds_all_as_in_an_interpreter_of_its_own(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    call = [*script(tmp_path, TELL), "a b", "--c"]
    options = {"cwd": tmp_path, "env": os.environ | {"MARK": "here"}, "input": "text", "umask": 0o027}
    forked = told(*call, **options)
    own = told(*call, **options | {"env": os.environ | {"MARK": "here", fork_server.VARIABLE: "off"}})
    assert forked[0] == server.pid
    assert own[0] == os.getpid()
    assert [forked[5], own[5]] == [True, False]  # torch is there
    assert forked[1:5] == own[1:5] == [str(tmp_path), ["a b", "--c"], "here", 0o027]
    assert forked[6:9] == own[6:9]
    assert forked[9] is None


ENDS = """
import atexit, tempfile, threading, time

from latent_atlas.cluster.ending import after

class Held:
    def __del__(self):
        print("deleted")

def later():
    time.sleep(0.2)
    print("a thread")

held, scratch = Held(), tempfile.TemporaryDirectory(prefix="scratch-", dir=".")
threading.Thread(target=later).start()
atexit.register(print, "at exit")
after(lambda: print(os.getppid(), "torch" in sys.modules))
"""


def test_what_is_registered_for_the_end_is_called(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Also what packages of the server have registered; but nothing is deleted object by object."""
    done = subprocess.run(script(tmp_path, ENDS), cwd=tmp_path, text=True, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (f"{server.pid} True\na thread\nat exit\n", "")
    assert not [*tmp_path.glob("scratch-*")]


def test_signals_that_are_ignored_stay_so(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """As those of ``nohup``, and of a command that a shell runs in the background."""
    text = "import signal\nprint(os.getppid(), *(signal.getsignal(n) is signal.SIG_IGN for n in (1, 2, 15)))\n"
    call = ["sh", "-c", "trap '' HUP INT; exec \"$@\"", "sh", *script(tmp_path, text)]
    said = subprocess.run(call, cwd=tmp_path, text=True, capture_output=True, check=True).stdout
    assert said.split() == [str(server.pid), "True", "True", "False"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sys.exit(3)", 3),
        ("pass", 0),
        ("sys.exit('what is wrong')", 1),
        ("1 / 0", 1),
        ("os.kill(os.getpid(), 15)", -15),
        ("os.kill(os.getpid(), 9)", -9),
    ],
)
def test_a_command_ends_as_its_process_ends(
    server: subprocess.Popen[bytes], tmp_path: Path, text: str, code: int
) -> None:
    assert server.poll() is None
    done = subprocess.run(script(tmp_path, text), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code
    assert ("what is wrong" in done.stderr) == ("what" in text)
    assert ("ZeroDivisionError" in done.stderr) == ("/" in text)


SLEEP = """
from pathlib import Path
Path("process").write_text(str(os.getpid()))
try:
    time.sleep(600)
except KeyboardInterrupt:
    Path("interrupted").write_text("yes")
    sys.exit(130)
"""


def heard() -> None:
    """Listen to signals also where a shell runs the tests in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def caught(process: int) -> set[str]:
    """Names of the signals that a process handles by itself."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return {number.name for number in signal.Signals if mask >> (number - 1) & 1}


def sleeping(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A command that sleeps, and the process that does so for it."""
    command = subprocess.Popen(script(folder, SLEEP), cwd=folder, preexec_fn=heard)
    process = int(wait_for(folder / "process"))
    assert process != command.pid
    return command, process


def test_an_interrupt_reaches_the_process(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    command, process = sleeping(tmp_path)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
    assert (tmp_path / "interrupted").read_text() == "yes"
    ended(process)
    assert server.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_who_kills_a_command_kills_its_process(
    server: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    command, process = sleeping(tmp_path)
    command.send_signal(number)
    assert command.wait(60) == -number
    deadline = time.monotonic() + 60
    while alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_command_that_waits_for_the_server_ends_at_once(
    server: subprocess.Popen[bytes], tmp_path: Path, number: signal.Signals
) -> None:
    """While the server loads its packages; nothing is run for it later."""
    told(*script(tmp_path, TELL), input="")  # it has loaded
    server.send_signal(signal.SIGSTOP)
    try:
        command = subprocess.Popen(script(tmp_path, SLEEP), cwd=tmp_path, preexec_fn=heard)
        deadline = time.monotonic() + 60
        while "SIGHUP" not in caught(command.pid):  # Python itself handles SIGINT
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command.send_signal(number)
        assert command.wait(20) == -number
    finally:
        server.send_signal(signal.SIGCONT)
    assert told(*script(tmp_path, TELL), input="")[0] == server.pid  # after the one before it
    assert not (tmp_path / "process").exists()


def test_a_command_with_other_threads_runs_by_itself(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    call = script(tmp_path, TELL)
    assert told(*call, input="")[0] == server.pid
    assert told(*call, input="", env=os.environ | {"OMP_NUM_THREADS": "2"})[0] == os.getpid()


def test_a_folder_that_others_can_enter_is_not_used(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    folder = Path(os.environ[fork_server.VARIABLE])
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert told(*script(tmp_path, TELL), input="")[0] == os.getpid()
    folder.chmod(0o700)
    assert told(*script(tmp_path, TELL), input="")[0] == server.pid


def test_the_server_ends_with_its_snakemake_and_lets_commands_end(
    own_server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = Path(os.environ[fork_server.VARIABLE])
    command, process = sleeping(tmp_path)
    assert own_server.stdin is not None
    own_server.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        own_server.wait(1)
    assert alive(process)
    command.terminate()
    assert command.wait(60) == -signal.SIGTERM
    own_server.wait(60)
    assert not folder.exists()


def test_signals_to_all_processes_are_for_the_commands(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    command, process = sleeping(tmp_path)
    server.terminate()  # as SLURM signals each process of a job that it cancels
    assert told(*script(tmp_path, TELL), input="")[0] == server.pid
    command.terminate()
    assert command.wait(60) == -signal.SIGTERM
    ended(process)
    assert server.poll() is None


def test_a_command_that_is_to_end_does_not_go_on_by_itself(own_server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    command, process = sleeping(tmp_path)
    own_server.send_signal(signal.SIGSTOP)  # it cannot pass the signal on
    command.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(1)
    own_server.kill()
    assert command.wait(60) == -signal.SIGTERM
    ended(process)
    assert int((tmp_path / "process").read_text()) == process


def test_a_command_goes_on_by_itself_if_the_server_is_killed(
    own_server: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    text = SLEEP.replace(
        "time.sleep(600)", "time.sleep(600 if os.environ.get('LATENT_ATLAS_FORK_SERVER') is None else 0)"
    )
    command = subprocess.Popen(script(tmp_path, text), cwd=tmp_path)
    process = int(wait_for(tmp_path / "process"))
    own_server.kill()
    assert command.wait(60) == 0
    ended(process)
    assert int((tmp_path / "process").read_text()) == command.pid


OBJECTIVE = """\
import os
from pathlib import Path

from torch.nn.functional import mse_loss

with Path("parents.txt").open("a") as file:
    file.write(f"{Path(f'/proc/{os.getppid()}/cmdline').read_text().count('fork_server.py')}\\n")


def loss(model, x, generator):
    return mse_loss(model(x), x), {}
"""


def make_three(values: dict) -> None:
    """Three small models, the first of which is there already."""
    values["models"] = {f"fc{k}": dict(values["models"]["fc4"], latent_dim=k) for k in (4, 2, 3)}


@pytest.mark.engines
def test_the_bytes_are_those_of_interpreters_of_their_own(tmp_path: Path) -> None:
    study = Repository.make(tmp_path / "study")
    (study.root / "mine.py").write_text(OBJECTIVE, encoding="utf-8")
    study.edit_params(lambda values: values["training"].update(objective="mine:loss"))
    study.commit("an objective")
    other = study.copy(tmp_path / "other")
    study.warm = other.warm = False
    other.extra = {fork_server.VARIABLE: "off"}
    targets = [f"results/{stage}/summary.csv" for stage in ("train", "jacobian", "invariance")]
    for each in (study, other):
        each.snakemake(*targets)
    made = study.contents(whole=False)
    assert {*targets, "results/checkpoints/fc4.safetensors"} <= made.keys()
    assert made == other.contents(whole=False)
    checkpoints = [f"results/checkpoints/fc{k}.safetensors" for k in (2, 3)]
    for each in (study, other):
        each.edit_params(make_three)
        each.snakemake(*checkpoints)  # two trainings at a time
    assert all((study.root / path).read_bytes() == (other.root / path).read_bytes() for path in checkpoints)
    parents, others = ({*(each.root / "parents.txt").read_text().split()} for each in (study, other))
    assert (parents, others) == ({"1"}, {"0"})

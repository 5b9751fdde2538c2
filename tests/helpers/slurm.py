"""A real SLURM for tests: three nodes on this machine, one of them with a pretended GPU, all in one folder.

Debian's packages slurmctld, slurmd, slurm-client and munge are needed, and root, as whom slurmd runs jobs.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "sinfo", "squeue", "scontrol")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db")
CPU_NODES, GPU_NODE = ("cpu1", "cpu2"), "gpu1"
NODES = (*CPU_NODES, GPU_NODE)
NODE_MB = 16000  # more than there may be: SLURM takes our word for it

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
# no cgroups: memory is watched by looking once a second
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
# faults are to show soon, and ended jobs to stay visible
SlurmctldTimeout=30
SlurmdTimeout=10
BatchStartTimeout=10
MessageTimeout=20
KillWait=2
InactiveLimit=0
WaitTime=0
MinJobAge=3600
ReturnToService=2
JobRequeue=1
EnforcePartLimits=ALL
GresTypes=gpu
{accounting}
{nodes}
PartitionName=cpu Nodes={cpu_nodes} Default=YES LLN=YES DefaultTime=10 MaxTime=600 DefMemPerCPU=100 State=UP
PartitionName=gpu Nodes={gpu_node} DefaultTime=10 MaxTime=600 DefMemPerCPU=100 State=UP
"""

WITHOUT_ACCOUNTS = "AccountingStorageType=accounting_storage/none"
WITH_ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge.sock
AccountingStorageEnforce=associations"""
DATABASE_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/log/slurmdbd.log
CommunicationParameters=NoInAddrAny
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_accounts
"""


def missing(accounts: bool = False) -> str | None:
    """Why no SLURM, with accounts if wished for, can be started here, or None."""
    lacking = [name for name in (*PROGRAMS, *(ACCOUNTING_PROGRAMS if accounts else ())) if shutil.which(name) is None]
    if lacking:
        packages = "slurmctld slurmd slurm-client munge" + " slurmdbd mariadb-server" * accounts
        return f"{', '.join(lacking)} not installed (Debian: {packages})"
    return None if os.geteuid() == 0 else "slurmd must run as root"


class Cluster:
    """A SLURM of a controller and three nodes, each daemon a process of its own.

    Parameters
    ----------
    folder : Path
        For its state; the path must be short, since a socket lies in it.
    accounts : bool
        Whether jobs need an account; there is one, ``lab``, to which root belongs.
    """

    def __init__(self, folder: Path, accounts: bool = False) -> None:
        self.folder = folder
        self.accounts = accounts
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    # its parts

    @property
    def environment(self) -> dict[str, str]:
        """What commands need to find it."""
        return {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]]),
        }

    def run(self, *command: str) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def start(self) -> None:
        """Write its configuration and start everything."""
        for name in ("log", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        *ports, database_port = _free_ports(2 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory={NODE_MB} "
            f"{'Gres=gpu:1 ' if name == GPU_NODE else ''}State=UNKNOWN"
            for name, port in zip(NODES, ports[1:], strict=True)
        ]
        text = CONFIGURATION.format(
            host=host,
            folder=self.folder,
            controller_port=ports[0],
            nodes="\n".join(nodes),
            accounting=WITH_ACCOUNTS.format(port=database_port, folder=self.folder)
            if self.accounts
            else WITHOUT_ACCOUNTS,
            cpu_nodes=",".join(CPU_NODES),
            gpu_node=GPU_NODE,
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(f"NodeName={GPU_NODE} Name=gpu Count=1 File=/dev/null\n")
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        # Snakemake's jobs call srun without SLURM_CONF; a real site's lies in /etc
        wrapper = self.folder / "bin" / "srun"
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        wrapper.chmod(0o755)
        self._spawn(
            "munged",
            *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.sock"),
            *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/log/munged.log"),
            f"--seed-file={self.folder}/munged.seed",
        )
        _wait("munge", lambda: (self.folder / "munge.sock").exists())
        if self.accounts:
            self._start_accounting(host, database_port)
        self.start_controller()
        for name in NODES:
            self.start_node(name)
        _wait("idle nodes", lambda: self.states() == dict.fromkeys(NODES, "idle"))

    def stop(self) -> None:
        """Stop everything, jobs included."""
        for process in self._steps(""):
            _kill_tree(process)
        for daemon in reversed(self.daemons.values()):
            daemon.kill()
            daemon.wait()
        for process in self._steps(""):
            _kill_tree(process)

    def start_controller(self) -> None:
        """Start the controller, with the state that it left."""
        self._spawn("slurmctld", "slurmctld", "-D", "-f", f"{self.folder}/slurm.conf")
        _wait("the controller", lambda: "UP" in self.run("scontrol", "ping"))

    def kill_controller(self) -> None:
        """Kill the controller at once."""
        self._kill("slurmctld")

    def start_node(self, name: str) -> None:
        """Start a node."""
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        self._spawn(name, "slurmd", "-D", "-N", name, "-f", f"{self.folder}/slurm.conf")

    def kill_node(self, name: str) -> None:
        """A power cut: the node's daemon and everything that runs below it, at once."""
        steps = self._steps(name)
        self._kill(name)
        for process in steps:
            _kill_tree(process)

    def states(self) -> dict[str, str]:
        """State of each node."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return {name: state.rstrip("*") for name, state in (line.split() for line in lines)}

    def jobs(self, state: str = "all") -> dict[str, dict[str, str]]:
        """Jobs that the controller knows, ended ones included, by id: ``comment``, ``state``, ``nodes``."""
        lines = self.run("squeue", "--noheader", f"--states={state}", "--format=%i|%k|%T|%N").splitlines()
        found = (line.split("|") for line in lines)
        return {number: {"comment": text, "state": now, "nodes": nodes} for number, text, now, nodes in found}

    def wait_for_job(self, comment: str, state: str = "RUNNING", seconds: float = 120) -> str:
        """Wait until a job whose comment holds a text is in a state; its id."""

        def found() -> list[str]:
            return [n for n, job in self.jobs().items() if comment in job["comment"] and job["state"] == state]

        _wait(f"a job {comment} that is {state}", lambda: bool(found()), seconds)
        return found()[-1]

    # how

    def _start_accounting(self, host: str, port: int) -> None:
        """A database, SLURM's daemon before it, and one account in it."""
        data, socket_file = self.folder / "database", self.folder / "database.sock"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=socket"],
            check=True, capture_output=True,
        )  # fmt: skip
        self._spawn("mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}",
                    f"--socket={socket_file}", "--skip-networking", "--innodb-buffer-pool-size=64M",
                    f"--pid-file={self.folder}/mariadbd.pid")  # fmt: skip
        _wait("the database", socket_file.exists)
        path = self.folder / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(DATABASE_DAEMON.format(folder=self.folder, host=host, port=port))
        found = {"SLURM_CONF": str(path), "MYSQL_UNIX_PORT": str(socket_file)}
        self._spawn("slurmdbd", "slurmdbd", "-D", environment=found)
        for words in (("cluster", "tests"), ("account", "lab"), ("user", "root", "account=lab", "defaultaccount=lab")):
            add = functools.partial(self.run, "sacctmgr", "-i", "add", *words)
            _wait(f"sacctmgr to add {words[0]}", lambda add=add: bool(add()))  # type: ignore[misc]

    def _spawn(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command,
                env=os.environ | {"SLURM_CONF": f"{self.folder}/slurm.conf"} | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # what tests start in the background may ignore this, and jobs must not
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def _kill(self, name: str) -> None:
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _steps(self, node: str) -> list[psutil.Process]:
        """The processes that watch over the jobs of a node (all nodes: ""): they hold the node's log open."""
        log = f"{self.folder}/log/{node}"
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == "slurmstepd" and any(f.path.startswith(log) for f in process.open_files()):
                    found.append(process)
        return found


@contextmanager
def running(folder: Path, accounts: bool = False) -> Iterator[Cluster]:
    """A cluster that is stopped at the end."""
    with ExitStack() as stack:
        cluster = Cluster(folder, accounts)
        stack.callback(cluster.stop)
        cluster.start()
        yield cluster


def _kill_tree(process: psutil.Process) -> None:
    with suppress(psutil.Error):
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.Error):
                one.kill()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(subprocess.CalledProcessError):
            if condition():
                return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what} in vain")
        time.sleep(0.2)

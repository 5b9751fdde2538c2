"""Two runs in one folder: the second says who is at work, and how to go on; neither engine shows a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import Repository

from latent_atlas.versioning import turns
from latent_atlas.versioning.common import VersioningError

SNAKEFILE = """
from latent_atlas.versioning import attach
rule slow:
    output: "slow.txt"
    shell: "touch started; while [ ! -e go ]; do sleep 0.1; done; echo done > {output}"
attach(workflow, "extras.yaml")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one rule, which runs until there is a file ``go``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "extras.yaml").write_text("in_git: []\n")
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        assert run(*command).returncode == 0
    return tmp_path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = Repository(Path.cwd()).environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def snakemake(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("snakemake", "--cores", "1", *arguments)


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        assert process.poll() is None, "the first run ended before its job began"


def test_the_second_run_names_the_first(folder: Path) -> None:
    with subprocess.Popen(["snakemake", "--cores", "1"], stderr=subprocess.DEVNULL) as first:
        wait_for(folder / "started", first)
        second = snakemake()
        repro = run("dvc", "repro")
        (folder / "go").touch()
    assert first.returncode == 0
    assert second.returncode == 1
    assert f"snakemake --cores 1, PID {first.pid} on " in second.stderr
    assert "wait until it ends, or end it, then run the same command again" in second.stderr
    assert f"(PID {first.pid}): snakemake --cores 1" in repro.stderr
    assert repro.returncode != 0
    assert not {"Traceback", "File"} & set((second.stderr + repro.stderr).replace('"', " ").split())
    assert snakemake().returncode == 0


def test_snakemake_beside_dvc_names_it(folder: Path) -> None:
    assert snakemake("--dry-run").returncode == 0
    assert run("latent-atlas", "pipeline").returncode == 0
    with subprocess.Popen(["dvc", "repro"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        wait_for(folder / "started", first)
        second = snakemake()
        (folder / "go").touch()
    assert first.returncode == 0
    assert second.returncode == 1
    assert "repro (PID " in second.stderr
    assert "slow.txt: wait until it ends" in second.stderr
    assert "Traceback" not in second.stderr
    assert (folder / "slow.txt").read_text() == "done\n"


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from latent_atlas.versioning.turns import alone\n"
    code += "with alone(Path(sys.argv[1])): print('held', flush=True); input()"
    lock = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(VersioningError, match=f"PID {other.pid} on "), turns.alone(lock):
            pass
        other.kill()
    with turns.alone(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b"17"])
def test_a_holder_that_does_not_say_who_it_is(tmp_path: Path, content: bytes) -> None:
    with turns.alone(tmp_path / "lock"):
        (tmp_path / "lock").write_bytes(content)
        with pytest.raises(VersioningError, match="another snakemake is at work in"), turns.alone(tmp_path / "lock"):
            pass


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_cannot_be_locked_stops_no_run(tmp_path: Path, make: object) -> None:
    make(tmp_path / "lock")  # type: ignore[operator]
    with turns.alone(tmp_path / "lock"):
        assert not (tmp_path / "elsewhere").exists()

"""What a run shows: a line for each job that has ended, and how to go on after Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import COMMAND, ROOT, Study

from snakemake_logger_plugin_latent_atlas import KEPT

TARGET = "results/train/summary.csv"


def snakemake(study: Study, *arguments: str) -> subprocess.Popen[str]:
    """``snakemake`` in a study, in a process group of its own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *arguments],
        cwd=study.folder, env=os.environ | {"PATH": path}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        # a shell's background jobs ignore this signal, and so would all that is started from them
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.fixture
def own(tmp_path: Path) -> Study:
    """A study that no other test uses."""
    return Study(tmp_path)


def test_each_job_is_a_line(own: Study) -> None:
    said = snakemake(own, TARGET).communicate()[0]
    done = re.findall(r"^\[(\d)/(\d) +\d+%  \d+:\d\d\] (.*)$", said, flags=re.MULTILINE)
    assert [int(one[0]) for one in done] == [1, 2, 3, 4]
    assert {one[1] for one in done} == {"4"}
    assert {one[2] for one in done} == {"fetch", "train fc2", "train fc4", "train_summary"}
    assert not re.search("Select jobs|Execute|jobid|Provided cores|Complete log", said)
    assert "Select jobs" in next((own.folder / ".snakemake" / "log").glob("*.log")).read_text()


def test_wrong_parameters_are_one_paragraph(own: Study) -> None:
    own.edit("training.epochs", 0)
    said = snakemake(own, TARGET).communicate()[0]
    assert said.endswith(
        "error: params.yaml cannot be used:\n  training.epochs: 0 is not allowed: input should be greater than 0\n"
    )
    assert "common.smk" not in said


def test_ctrl_c_says_how_to_go_on(own: Study) -> None:
    own.edit("training.epochs", 5000)
    run = snakemake(own, TARGET)
    while not [*own.folder.glob("results/checkpoints/[!.]*.resume")]:
        assert run.poll() is None
        time.sleep(0.05)
    interrupted = time.monotonic()
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=60)[0]
    assert run.returncode
    last = said.strip().splitlines()[-1]
    assert last.startswith("Interrupted after 1 of 4 jobs. Finished jobs are kept, and a training goes on from its")
    assert last.endswith(f"--cores 2 {TARGET}")
    assert not re.search("Traceback|Error|Aborted", said), said
    assert time.monotonic() - interrupted < 20  # two seconds where nothing else runs
    assert [*own.folder.glob("results/checkpoints/[!.]*.resume")]


@pytest.mark.parametrize(
    "moment",
    ["ast", "click", "latent_atlas.signatures", "latent_atlas.study.starting", "snakemake.common", "snakemake.workflow",
     "snakemake.cli", "snakemake.logging", "latent_atlas.study.schema", "latent_atlas.study.sources"],
)  # fmt: skip
def test_ctrl_c_while_it_starts_is_one_sentence(moment: str, own: Study) -> None:
    """Interrupted when a module has just been imported, by ``latent-atlas`` or by what it becomes."""
    run = subprocess.Popen(
        [COMMAND, "run", "--cores", "2", TARGET], cwd=own.folder, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert run.stderr is not None
    for line in run.stderr:
        if line.rpartition("|")[2].strip() == moment:
            break
    else:
        pytest.fail(f"{moment} was not imported")
    os.killpg(run.pid, signal.SIGINT)
    interrupted = time.monotonic()
    said = [line for line in run.communicate(timeout=60)[1].splitlines() if not line.startswith("import time:")]
    assert run.returncode
    assert "nothing has changed" in said[-1]
    assert said[-1].endswith(f"To go on: latent-atlas run --cores 2 {TARGET}")
    assert not re.search("Traceback|Error|Aborted", "\n".join(said))
    assert time.monotonic() - interrupted < 20  # two seconds where nothing else runs
    assert not (own.folder / "results").exists()


ENDS_SLOWLY = """\
import atexit
import os
import signal

from torch.nn.functional import mse_loss


@atexit.register
def tidy_up():
    os.kill(os.getpid(), signal.SIGINT)
    print("tidied up", flush=True)


def loss(model, x, generator):
    return mse_loss(model(x), x), {}
"""


def test_ctrl_c_while_a_process_ends_is_ignored(own: Study) -> None:
    (own.folder / "mine.py").write_text(ENDS_SLOWLY, encoding="utf-8")
    own.edit("training.objective", "mine:loss")
    said = snakemake(own, "results/train/fc2/curve.csv").communicate()[0]
    assert "\ntidied up\n" in said
    assert re.search("100% .* train fc2", said)
    assert "Traceback" not in said


SWALLOWS = """\
import os
import signal
import weakref

from torch.nn.functional import mse_loss


class Held:
    pass


sent = []


def forgotten(reference):
    if not sent:
        sent.append(os.kill(os.getpid(), signal.SIGINT))
        sum(range(10))
        os.write(2, b"in the callback of a weak reference")


def loss(model, x, generator):
    held = Held()
    watched = weakref.ref(held, forgotten)
    del held
    return mse_loss(model(x), x), {}
"""


def test_ctrl_c_that_code_swallows_ends_a_job(own: Study) -> None:
    """Python shows an exception in a callback of a weak reference, and goes on."""
    (own.folder / "mine.py").write_text(SWALLOWS, encoding="utf-8")
    own.edit("training.objective", "mine:loss")
    own.edit("training.epochs", 10**6)
    run = snakemake(own, "results/train/fc2/curve.csv")
    try:
        said = run.communicate(timeout=120)[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
    assert "[train fc2] interrupted: no file is half-written" in said
    assert "in the callback" not in said
    assert "Exception ignored" not in said


def test_failure_names_the_job_its_log_and_how_to_go_on(own: Study) -> None:
    own.edit("models.fc2.options", {"widths": [8]})
    said = snakemake(own, "--keep-going", TARGET).communicate()[0]
    assert "\nfailed: train fc2; its log: logs/train/fc2.log\n" in said
    assert "[train fc2] error: architecture 'fully_connected' is called with" in said
    assert said.endswith(f"Failed after 2 of 4 jobs: train fc2. {KEPT} To go on: snakemake --snakefile "
                         f"{ROOT / 'Snakefile'} --cores 2 --keep-going {TARGET}\n")  # fmt: skip
    assert "Traceback" not in said

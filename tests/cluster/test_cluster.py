"""A real SLURM runs the pipeline with the shipped profile, also after common failures of clusters."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from repository import Repository
from slurm import CPU_NODES, GPU_NODE, NODE_MB, Cluster, missing, running
from snakemake.exceptions import WorkflowError

from latent_atlas.cluster import gpus as module
from latent_atlas.cluster import slurm

# This SLURM has no accounts; the other options shorten the waiting times.
SITE = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "20")
PROFILE = ("--profile", "profiles/slurm", *SITE)
CHECKPOINT = "results/checkpoints/fc4.safetensors"

on_slurm = [
    pytest.mark.slurm,
    pytest.mark.skipif(missing() is not None, reason=f"NO REAL SLURM WAS TESTED: {missing()}"),
]
accounts = [
    *on_slurm,
    pytest.mark.skipif(missing(accounts=True) is not None, reason=f"NO ACCOUNTS WERE TESTED: {missing(accounts=True)}"),
]
faults = [*on_slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    """A SLURM for all tests of this file."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running(Path(folder)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A small study of which nothing has been made."""
    return Repository.make(tmp_path_factory.mktemp("cluster") / "study")


@pytest.fixture
def study(fresh: Repository, tmp_path: Path, site: Cluster) -> Repository:
    """A copy of the small study whose commands find the cluster."""
    copy = fresh.copy(tmp_path / "study")
    copy.extra, copy.warm = site.environment, False
    return copy


@pytest.fixture
def long(study: Repository) -> Repository:
    """The same with a training of half a minute, and everything before it made."""
    study.edit_params(lambda values: values["training"].update(epochs=120, batch_size=2))
    study.commit("a longer training")
    study.snakemake("data/images.safetensors")
    return study


def submit(study: Repository, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Snakemake with the shipped profile."""
    return study.run("snakemake", *PROFILE, *arguments, check=check)


def start(study: Repository, *arguments: str) -> subprocess.Popen[bytes]:
    """The same in the background."""
    return study.start("snakemake", *PROFILE, *arguments)


def undisturbed(study: Repository, folder: Path) -> bytes:
    """The checkpoint as an undisturbed training on this machine makes it."""
    copy = study.copy(folder)
    for path in (copy.root / CHECKPOINT, (copy.root / CHECKPOINT).with_suffix(".resume")):
        path.unlink(missing_ok=True)
    shutil.rmtree(copy.root / ".snakemake", ignore_errors=True)
    copy.extra = {}
    copy.snakemake(CHECKPOINT)
    return (copy.root / CHECKPOINT).read_bytes()


def set_measured(study: Repository, entry: str) -> None:
    """Set the measured time and memory of a training."""
    path = study.root / "workflow" / "resources.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("train:")]
    path.write_text("\n".join([*lines, f"train: {entry}"]) + "\n")


def epochs_begun(study: Repository) -> bool:
    """Whether the training has stored its state at least once."""
    return (study.root / CHECKPOINT).with_suffix(".resume").exists()


def wait(condition: object, seconds: float = 120) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "not true in time"
        time.sleep(0.2)


def nodes(study: Repository) -> dict[str, str]:
    """Which node made each stage."""
    table = pd.read_csv(study.root / "results" / "records.csv", keep_default_na=False)
    return dict(zip(table["stage"], table["node"], strict=True))


class TestPipeline:
    """The whole pipeline, by the profile as it is shipped."""

    pytestmark = on_slurm

    def test_runs_where_it_should_and_makes_the_same_bytes(
        self, study: Repository, fresh: Repository, site: Cluster, tmp_path: Path
    ) -> None:
        study.run("dvc", "remote", "add", "--default", "shared", str(tmp_path / "remote"))
        submit(study)
        made_by = nodes(study)
        assert made_by["train-fc4"] == GPU_NODE
        assert {made_by[stage] for stage in study.stages() - {"train-fc4", "fetch"}} <= set(CPU_NODES)
        assert set(made_by) == study.stages()
        assert len(site.jobs()) < len(study.stages())  # short jobs travelled together
        assert study.stale() == set()
        study.run("dvc", "push")
        assert list((tmp_path / "remote").rglob("*"))

        local = fresh.copy(tmp_path / "local")
        local.snakemake()
        assert local.contents() == study.contents()
        logs = {path.parent.relative_to(study.root / "logs" / "slurm").as_posix()
                for path in (study.root / "logs" / "slurm").rglob("*.log")}  # fmt: skip
        assert "rule_train/fc4" in logs

    def test_the_site_is_found_fit(self, study: Repository) -> None:
        said = study.run("latent-atlas", "doctor", "--profile", "profiles/slurm", "--on-nodes", check=False).stdout
        assert "ok  SLURM: would take every kind of job of this study" in said
        assert "ok  nodes with --partition=cpu: cpu" in said
        # the GPU of this cluster is simulated, which the test job detects
        assert "PROBLEM  nodes with --partition=gpu --gpus=1: gpu1: torch" in said
        assert "sees no GPU" in said


class TestRefusals:
    """Jobs that the cluster cannot run are reported before anything is submitted, with the line to change."""

    pytestmark = on_slurm

    def refused(self, study: Repository, site: Cluster) -> str:
        before = len(site.jobs())
        done = submit(study, check=False)
        assert done.returncode == 1
        assert len(site.jobs()) == before
        return " ".join((done.stdout + done.stderr).split())

    @staticmethod
    def line(study: Repository, text: str) -> str:
        path = "profiles/slurm/config.yaml"
        lines = (study.root / path).read_text().splitlines()
        number = next(n for n, line in enumerate(lines, 1) if line.strip().startswith(text))
        return f"{path}, line {number}: {text}"

    def test_partition_that_does_not_exist(self, study: Repository, site: Cluster) -> None:
        study.replace("profiles/slurm/config.yaml", "slurm_partition: gpu ", "slurm_partition: gpus ")
        said = self.refused(study, site)
        assert "SLURM cannot run train: invalid partition specified: gpus" in said
        assert (
            f"At fault is the partition (slurm_partition=gpus). Change {self.line(study, 'slurm_partition: gpus')}"
            in said
        )

    def test_gpu_where_there_is_none(self, study: Repository, site: Cluster) -> None:
        study.replace("profiles/slurm/config.yaml", "slurm_partition: gpu ", "slurm_partition: cpu ")
        said = self.refused(study, site)
        assert "SLURM cannot run train: Requested node configuration is not available" in said
        assert f"At fault is the GPU (gpu=1). Change {self.line(study, 'gpu: 1')}" in said

    def test_job_larger_than_any_node(self, study: Repository, site: Cluster) -> None:
        study.replace("profiles/slurm/config.yaml", "mem_mb=16000", "mem_mb=1600000")
        study.replace("profiles/slurm/config.yaml", "    gpu: 1 ", f"    mem_mb: {10 * NODE_MB}\n    gpu: 1 ")
        said = self.refused(study, site)
        assert f"At fault is the memory (mem_mb={10 * NODE_MB})" in said
        assert f"Change {self.line(study, f'mem_mb: {10 * NODE_MB}')}" in said

    def test_longer_than_the_partition_allows(self, study: Repository, site: Cluster) -> None:
        study.edit_params(lambda values: values["training"].update(epochs=1_000_000))
        said = self.refused(study, site)
        assert "At fault is the time (runtime=" in said
        assert "Change the profile: add runtime to set-resources for" in said

    def test_status_command_that_does_not_answer(self, study: Repository, site: Cluster) -> None:
        done = study.run("snakemake", "--profile", "profiles/slurm", "--slurm-status-command", "sacct", check=False)
        said = " ".join((done.stdout + done.stderr).split())
        assert done.returncode == 1
        assert "sacct does not answer" in said
        assert "add slurm-status-command: squeue to profiles/slurm/config.yaml" in said

    def test_the_other_flavour_of_gpu_request(self, study: Repository, site: Cluster) -> None:
        study.replace("profiles/slurm/config.yaml", "    gpu: 1  ", "    gpu: 0  ")
        study.replace("profiles/slurm/config.yaml", '    # gres: "gpu:1"', '    gres: "gpu:1"')
        submit(study, CHECKPOINT)
        assert nodes(study)["train-fc4"] == GPU_NODE


class TestAccounts:
    """A site where jobs need an account."""

    pytestmark = accounts

    def test_an_account_that_does_not_exist(self, fresh: Repository, tmp_path: Path) -> None:
        study = fresh.copy(tmp_path / "study")
        study.warm = False
        path = "profiles/slurm/config.yaml"
        study.replace(path, "  # slurm_account: lab     #", "  slurm_account: nobody    #")
        with tempfile.TemporaryDirectory(prefix="slurm-") as folder, running(Path(folder), accounts=True) as cluster:
            study.extra = cluster.environment
            done = study.run("snakemake", "--profile", "profiles/slurm", check=False)
            said = " ".join((done.stdout + done.stderr).split())
            assert done.returncode == 1
            assert "Invalid account" in said
            assert "At fault is the account (slurm_account=nobody)" in said
            assert f"Change {TestRefusals.line(study, 'slurm_account: nobody')}" in said
            assert not cluster.jobs()
            study.replace(path, "slurm_account: nobody", "slurm_account: lab")
            submitted = ("--slurm-init-seconds-before-status-checks", "3", "results/pca/summary.csv")
            study.run("snakemake", "--profile", "profiles/slurm", *submitted)
            assert (study.root / "results" / "pca" / "summary.csv").exists()


class TestFaults:
    """Common failures: each ends with the same bytes as an undisturbed run, and no job runs twice at the same time."""

    pytestmark = faults

    def test_a_job_that_fails(self, study: Repository) -> None:
        study.edit_params(lambda values: values["training"].update(peak_learning_rate=1e30))
        done = submit(study, "--retries", "0", CHECKPOINT, "results/pca/summary.csv", check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1
        assert "Error in rule train" in said
        assert "logs/train/fc4.log" in said
        assert "training diverged in epoch 1" in (study.root / "logs" / "train" / "fc4.log").read_text()
        assert (study.root / "results" / "pca" / "summary.csv").exists()  # what does not depend on it went on
        assert "train-fc4" in study.stale()
        study.edit_params(lambda values: values["training"].update(peak_learning_rate=5e-3))
        submit(study, CHECKPOINT)
        assert "train-fc4" not in study.stale()

    def test_a_job_that_is_cancelled(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        process = start(long, CHECKPOINT)
        number = site.wait_for_job("rule_train")
        wait(lambda: epochs_begun(long))
        site.run("scancel", number)
        assert process.wait(timeout=400) == 0
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")
        assert "train-fc4" not in long.stale()

    def test_a_job_that_runs_out_of_time(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        long.edit_params(lambda values: values["training"].update(epochs=400))
        long.replace("src/latent_atlas/study/resources.py", "SHORTEST_MIN = 2", "SHORTEST_MIN = 1")
        set_measured(long, "{seconds: 0, memory_mb: 700}")
        submit(long, CHECKPOINT)
        states = [job["state"] for job in site.jobs().values() if "rule_train" in job["comment"]]
        assert "TIMEOUT" in states
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")

    def test_a_job_that_runs_out_of_memory(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        long.replace("src/latent_atlas/study/resources.py", "OVERHEAD_MB = 500", "OVERHEAD_MB = 0")
        set_measured(long, "{seconds: 1, memory_mb: 300}")
        submit(long, CHECKPOINT)
        states = [job["state"] for job in site.jobs().values() if "rule_train" in job["comment"]]
        assert {"OUT_OF_MEMORY", "CANCELLED", "FAILED"} & set(states)
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")

    def test_a_node_that_dies(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        options = ("--set-resources", "train:slurm_partition=cpu", "train:gpu=0")
        process = start(long, CHECKPOINT, *options)
        number = site.wait_for_job("rule_train")
        wait(lambda: epochs_begun(long))
        dead = site.jobs()[number]["nodes"]
        site.kill_node(dead)
        try:
            assert process.wait(timeout=400) == 0
        finally:
            site.start_node(dead)
            wait(lambda: site.states()[dead] == "idle")
        assert nodes(long)["train-fc4"] in set(CPU_NODES) - {dead}
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")

    def test_the_controller_is_restarted(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        process = start(long, CHECKPOINT)
        site.wait_for_job("rule_train")
        wait(lambda: epochs_begun(long))
        site.kill_controller()
        time.sleep(5)
        site.start_controller()
        assert process.wait(timeout=400) == 0
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")

    def test_snakemake_is_killed_and_started_again(self, long: Repository, site: Cluster, tmp_path: Path) -> None:
        process = start(long, CHECKPOINT)
        left = site.wait_for_job("rule_train")
        wait(lambda: epochs_begun(long))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert site.jobs()[left]["state"] == "RUNNING"
        long.run("snakemake", "--unlock")
        done = submit(long, CHECKPOINT)
        assert f"had left in the queue: {left}" in done.stdout + done.stderr
        assert site.jobs()[left]["state"] == "CANCELLED"
        assert (long.root / CHECKPOINT).read_bytes() == undisturbed(long, tmp_path / "other")
        assert "train-fc4" not in long.stale()

    def test_snakemake_is_interrupted(self, long: Repository, site: Cluster) -> None:
        process = start(long, CHECKPOINT)
        number = site.wait_for_job("rule_train")
        wait(lambda: epochs_begun(long))
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)
        wait(lambda: site.jobs()[number]["state"] != "RUNNING")
        submit(long, CHECKPOINT)
        assert "train-fc4" not in long.stale()


class TestGroups:
    """Several trainings in one submission: what has ended well is not made again, whatever happens to the others."""

    pytestmark = faults
    models = ("fc2", "fc3", "fc4")
    targets = tuple(f"results/checkpoints/{name}.safetensors" for name in models)
    options = ("--groups", "train=train", "--group-components", "train=20", "--retries", "1")

    @pytest.fixture
    def three(self, study: Repository) -> Repository:
        def make(values: dict) -> None:
            values["models"] = {f"fc{k}": dict(values["models"]["fc4"], latent_dim=k) for k in (2, 3, 4)}

        study.edit_params(make)
        study.commit("three models")
        study.snakemake("data/images.safetensors")
        return study

    def jobs(self, study: Repository) -> dict[str, str]:
        """Which submission made each training."""
        table = pd.read_csv(study.root / "results" / "records.csv", dtype=str).set_index("stage")["job_id"]
        return {name: table.get(f"train-{name}") for name in self.models}

    def stale(self, study: Repository) -> set[str]:
        return study.stale() & {f"train-{name}" for name in self.models}

    def test_one_that_fails(self, three: Repository, site: Cluster) -> None:
        def diverge(values: dict) -> None:
            values["models"]["fc3"]["training"] = {"peak_learning_rate": 1e30}

        before = set(site.jobs())
        three.edit_params(diverge)
        done = submit(three, *self.options, *self.targets, check=False)
        assert done.returncode == 1
        assert "training diverged" in (three.root / "logs/train/fc3.log").read_text()
        first, second = sorted(set(site.jobs()) - before, key=int)
        assert {self.jobs(three)[name] for name in ("fc2", "fc4")} == {first}  # not made again by the second attempt
        said = "".join(path.read_text() for path in three.root.glob(f"logs/slurm/**/{second}.log"))
        assert said.count("it has ended well before") == 2
        assert self.stale(three) == {"train-fc3"}
        three.edit_params(lambda values: values["models"]["fc3"].pop("training"))
        submit(three, *self.options, *self.targets)
        assert self.stale(three) == set()
        assert {self.jobs(three)[name] for name in ("fc2", "fc4")} == {first}

    def test_one_that_is_cut(self, three: Repository, site: Cluster, tmp_path: Path) -> None:
        def lengthen(values: dict) -> None:
            for model in values["models"].values():
                model["training"] = {"epochs": 300, "batch_size": 2}  # many times KillWait

        def under_way() -> bool:
            """The second training has begun, and stored its state at least once."""
            whole = [path for path in self.targets if (three.root / path).exists()]
            return len(whole) == 1 and any((three.root / path).with_suffix(".resume").exists() for path in self.targets)

        three.edit_params(lengthen)
        process = start(three, *self.options, *self.targets)
        number = site.wait_for_job("rule_train")
        wait(under_way, 300)
        whole = next(name for name, path in zip(self.models, self.targets, strict=True) if (three.root / path).exists())
        site.run("scancel", number)
        assert process.wait(timeout=600) == 0
        made_by = self.jobs(three)
        assert {name for name in self.models if made_by[name] == number} == {whole}
        assert any("goes on after epoch" in (three.root / f"logs/train/{name}.log").read_text() for name in self.models)
        assert self.stale(three) == set()
        other = three.copy(tmp_path / "other")
        shutil.rmtree(other.root / "results" / "checkpoints")
        shutil.rmtree(other.root / ".snakemake")
        other.extra = {"LATENT_ATLAS_FORK_SERVER": "off"}
        other.snakemake(*self.targets)
        assert all((other.root / path).read_bytes() == (three.root / path).read_bytes() for path in self.targets)


class TestGPUsOfThisMachine:
    """How many trainings run at once, without a scheduler."""

    def test_as_many_as_the_driver_lists(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.simulate(tmp_path, 3)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert module.visible_gpus() == 3
        for visible, count in (("0,2", 2), ("", 0), ("-1", 0), ("0,1,2,3", 3)):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            assert module.visible_gpus() == count

    def test_none_without_a_driver(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert module.visible_gpus() == 0

    @staticmethod
    def simulate(folder: Path, count: int) -> None:
        lines = "\n".join(f"echo 'GPU {index}: Simulated (UUID: GPU-{index})'" for index in range(count))
        (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}\n")
        (folder / "nvidia-smi").chmod(0o755)

    @pytest.mark.engines
    @pytest.mark.parametrize("gpus", [1, 2])
    def test_so_many_trainings_run_at_once(self, gpus: int, fresh: Repository, tmp_path: Path) -> None:
        study = fresh.copy(tmp_path / "study")
        model = {"architecture": "fully_connected", "latent_dim": 4, "options": {"widths": [16, 8]}}
        study.edit_params(lambda values: values["models"].update({f"more{n}": dict(model) for n in range(4)}))
        study.edit_params(lambda values: values["training"].update(epochs=60))
        (study.root / "bin").mkdir()
        self.simulate(study.root / "bin", gpus)
        study.extra = {"PATH": str(study.root / "bin")}
        study.run("snakemake", "--cores", "8", *(f"results/checkpoints/more{n}.safetensors" for n in range(4)))
        table = pd.read_csv(study.root / "results" / "records.csv", keep_default_na=False)
        table = table[table["stage"].str.startswith("train-more")]
        begins = pd.to_datetime(table["started_utc"])
        ends = begins + pd.to_timedelta(pd.to_numeric(table["wall_s"]), unit="s")
        at_once = max(int(((begins <= moment) & (ends > moment)).sum()) for moment in begins)
        assert at_once == gpus


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkflowError, match="there is no sbatch here: start this where jobs are submitted from"):
        slurm.ask(None)


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"gpu": 1}, ""),
        ({"gpu": 2}, ""),  # one task, which sees both
        ({"gpu": 1, "tasks_per_gpu": 1}, ""),
        ({"gpu": 0, "tasks": 4}, ""),
        ({"gpu": 2, "tasks": 4, "tasks_per_gpu": 0}, ""),
        ({"gpu": 2, "tasks_per_gpu": 1}, "2 times at once: 2 GPUs, with 1 task for each"),
        ({"gpu": 2, "tasks": 1}, "2 times at once: 2 GPUs, with 1 task for each"),
        ({"gpu": 1, "tasks": 20}, "20 times at once: 1 GPU, with 20 tasks for each"),  # the sum of a group
        ({"gres": "gpu:a100", "tasks": 1}, ""),
        ({"gres": "gpu:a100:2", "tasks": 1}, "2 times at once: 2 GPUs, with 1 task for each"),
        ({"gres": "gpu:2(S:0)", "tasks_per_gpu": 2}, "4 times at once: 2 GPUs, with 2 tasks for each"),
    ],
)
def test_a_script_that_would_be_started_several_times(resources: dict[str, int | str], said: str) -> None:
    assert slurm.repeated(resources) == said

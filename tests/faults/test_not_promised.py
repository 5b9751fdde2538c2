"""What is not promised, by trying: docs/promises.md names these limits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from repository import Repository

pytestmark = pytest.mark.faults


def test_a_flipped_bit_with_the_same_size_and_date_in_a_file_that_no_job_reads(
    undisturbed: Repository, tmp_path: Path
) -> None:
    study = undisturbed.copy(tmp_path / "study")
    study.snakemake()
    path = study.root / "results/known_answers/summary.csv"
    status, whole = path.stat(), path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "Nothing to be done" in study.snakemake().stderr
    os.utime(path)  # with another date it is found
    study.snakemake()
    assert path.read_bytes() == whole


def test_jobs_outlive_a_snakemake_that_is_killed_alone(undisturbed: Repository, tmp_path: Path) -> None:
    study = undisturbed.copy(tmp_path / "study")
    study.edit_params(lambda values: values["training"].update(epochs=2000))
    process = study.start("snakemake", "--cores", "1", "results/checkpoints/fc4.safetensors")
    while not (study.root / "results/checkpoints/fc4.resume").exists():
        assert process.poll() is None
        time.sleep(0.01)
    jobs = [job for job in psutil.Process(process.pid).children(recursive=True) if "train" in job.cmdline()]
    assert jobs
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert all(job.is_running() for job in jobs)
    os.killpg(process.pid, signal.SIGKILL)

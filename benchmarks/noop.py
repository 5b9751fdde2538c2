"""What it costs to find that there is nothing to do, as the number of stages grows.

For each size a repository is made with so many models that the pipeline has about that many stages; its outputs are
placeholders, recorded in ``dvc.lock`` as if they had been made. Then the same question is asked in four ways, each
``repeats`` times, the median taken:

- ``snakemake -n`` by Snakemake's own records (the same folder without ``.dvc``): the baseline
- ``snakemake -n`` by the shared memory
- ``dvc status``
- ``dvc repro``

    .venv/bin/python benchmarks/noop.py --stages 90 300 3000

writes ``benchmarks/noop.csv``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
from repository import Repository

SHARED, PER_MODEL = 28, 10  # stages of no model, and those that each model adds


def with_models(values: dict[str, Any], count: int) -> None:
    """Fill the parameter file with so many small models."""
    model = dict(values["models"]["fc4"])
    values["models"] = {f"fc{number}": dict(model) for number in range(count)}


def prepare(root: Path, stages: int) -> Repository:
    """A repository of about so many stages, all of them current."""
    repository = Repository.make(root)
    repository.edit_params(lambda values: with_models(values, max(1, round((stages - SHARED) / PER_MODEL))))
    repository.run("latent-atlas", "pipeline")
    code = """
from pathlib import Path
from ruamel.yaml import YAML
from latent_atlas.study.schema import read
from latent_atlas.versioning.lock_file import LockFile
from latent_atlas.versioning.pipeline import INPUTS, Job
from latent_atlas.versioning.common import values_at

stages = YAML(typ="safe").load(Path("dvc.yaml").read_text())["stages"]
values, memory, jobs = read("params.yaml"), LockFile(Path.cwd()), []
for name, stage in stages.items():
    outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
    for path in map(Path, outs if name != INPUTS else []):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    params = values_at(values, *stage.get("params", []))
    jobs.append(Job(name, stage["cmd"], tuple(stage["deps"]), tuple(outs), params))
memory._last_flush = (float("inf"), 1.0)  # one flush at the end
for job in jobs:
    memory.started(job)
    memory.succeeded(job)
memory.flush()
"""
    repository.run(sys.executable, "-c", code)
    return repository


def seconds(repository: Repository, repeats: int, *command: str) -> float:
    """Median wall time of a command that must find nothing to do."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        repository.run(*command)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(stages: int, repeats: int) -> dict[str, float]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        repository = prepare(Path(folder) / "study", stages)
        assert repository.stale() == set()
        shared = seconds(repository, repeats, "snakemake", "--dry-run")
        status = seconds(repository, repeats, "dvc", "status")
        repro = seconds(repository, repeats, "dvc", "repro")
        count = len(repository.stages())
        repository.run("rm", "-rf", ".dvc")
        own = seconds(repository, repeats, "snakemake", "--dry-run")
    return {
        "stages": count,
        "snakemake_own_records_s": own,
        "snakemake_shared_memory_s": shared,
        "ratio": shared / own,
        "dvc_status_s": status,
        "dvc_repro_s": repro,
    }


def main() -> None:
    """Measure all sizes, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, nargs="+", default=[90, 300])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    table = pd.DataFrame([measure(stages, options.repeats) for stages in options.stages])
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.3f")
    print(table.to_string(index=False, float_format="{:.2f}".format))


if __name__ == "__main__":
    main()

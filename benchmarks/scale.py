"""What it costs to plan large studies, and to run many small trainings on a real SLURM.

The models of a study are seeds x architectures x latent dimensions. For each number of models ``snakemake -n`` plans
the whole pipeline from nothing; its time, its processor time and its peak memory are measured.

    .venv/bin/python benchmarks/scale.py --models 10 100 1000
    .venv/bin/python benchmarks/scale.py --trainings 200      # root and SLURM's packages are needed
    .venv/bin/python benchmarks/scale.py --trainings 200 --here
    .venv/bin/python benchmarks/scale.py --status 300 420

The first writes ``benchmarks/scale.csv`` and ``docs/pictures/scale.png``, the second ``benchmarks/scale_slurm.csv``,
the third, without SLURM, ``benchmarks/scale_here.csv``, the fourth ``benchmarks/scale_status.csv``: ``dvc status`` of
studies of so many finished stages, of as many bare stages with one input and one output each, and ``dvc --version``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))
from machine import processor
from noop import prepare
from repository import Repository

from latent_atlas.versioning.pipeline import INPUTS

HERE = Path(__file__).resolve().parent
PICTURES = HERE.parent / "docs" / "pictures"


def with_models(values: dict[str, Any], count: int) -> None:
    """Fill the parameter file with so many models: seeds x widths x latent dimensions."""
    made: dict[str, Any] = {}
    for seed, width, k in itertools.product(range(count), (8, 16), (2, 3, 4, 5, 6)):
        if len(made) == count:
            break
        made[f"fc{k}_w{width}_s{seed}"] = {
            "architecture": "fully_connected",
            "latent_dim": k,
            "options": {"widths": [16, width]},
            "training": {"seed": seed},
        }
    values["models"] = made


def plan(count: int) -> dict[str, float]:
    """Time, processor time and memory of planning a study of so many models, and a bare workflow of its graph."""
    with tempfile.TemporaryDirectory() as folder:
        study = Repository.make(Path(folder) / "study")
        study.warm = False  # a process of its own
        study.edit_params(lambda values: with_models(values, count))
        ours = planned(study, study.root)
        study.run("latent-atlas", "pipeline")  # which writes dvc.yaml: all jobs, with what they read and write
        floor = planned(study, bare(study, Path(folder, "bare")))
    assert floor["jobs"] == ours["jobs"], (floor, ours)
    return {"models": count, "jobs": ours["jobs"], "plan_s": ours["wall_s"], "plan_processor_s": ours["processor_s"],
            "peak_memory_mib": ours["peak_mib"], "floor_s": floor["wall_s"], "floor_processor_s": floor["processor_s"],
            "floor_memory_mib": floor["peak_mib"], "ratio": ours["processor_s"] / floor["processor_s"]}  # fmt: skip


def planned(study: Repository, folder: Path) -> dict[str, float]:
    """What ``snakemake -n`` takes in a folder."""
    start = time.perf_counter()
    with (folder / "plan.txt").open("w+", encoding="utf-8") as said:
        call = ["snakemake", "--dry-run", "--workflow-profile", str(study.root / "profiles" / "default")]
        process = subprocess.Popen(call, cwd=folder, env=study.environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    assert status == 0, text[-2000:]
    jobs = int(re.findall(r"^total +(\d+)$", text, re.MULTILINE)[-1])
    processor = usage.ru_utime + usage.ru_stime
    return {"jobs": jobs, "wall_s": wall, "processor_s": processor, "peak_mib": usage.ru_maxrss / 1024}


def bare(study: Repository, folder: Path) -> Path:
    """A folder with a Snakefile of the same jobs, their outputs and what they read of the data and of other jobs.

    Its rules have no functions, parameters, logs, resources or source files, and nothing is versioned. A rule for many
    models has a wildcard; the files of a single job are listed.
    """
    stages = YAML(typ="safe").load((study.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    del stages[INPUTS]
    of_rule: dict[str, list[str]] = {}
    for name in stages:
        of_rule.setdefault(name.partition("-")[0], []).append(name)
    made = {out for stage in stages.values() for out in _paths(stage)}
    text = ["rule all:\n    input:"]
    text += [f"        {_paths(stage)[0]!r}," for stage in stages.values()]
    for rule, names in of_rule.items():
        model = names[0].partition("-")[2]
        ours, one = stages[names[0]], [name.partition("-")[2] for name in names]
        inputs, outputs = [dep for dep in ours["deps"] if dep in made], _paths(ours)
        if model:  # of one model, as of all
            inputs, outputs = ([file.replace(model, "{manifold}") for file in files] for files in (inputs, outputs))
        text += [f"rule {rule}:"]
        text += ["    input:", *(f"        {file!r}," for file in inputs)] if inputs else []
        text += ["    output:", *(f"        {file!r}," for file in outputs)]
        text += [f"    wildcard_constraints:\n        manifold={'|'.join(one)!r}"] if model else []
        text += ["    shell:\n        'true'"]
    folder.mkdir()
    (folder / "Snakefile").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


def _paths(stage: dict[str, Any]) -> list[str]:
    return [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]


def exponent(table: pd.DataFrame, column: str) -> float:
    """The power of the number of models with which a column grows from 100 of them on, fitted in logarithms."""
    large = table.loc[table["models"] >= 100]
    return float(np.polyfit(np.log(large["models"]), np.log(large[column]), 1)[0]) if len(large) > 1 else float("nan")


def draw(table: pd.DataFrame) -> None:
    """The growth of both, on doubly logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, column, floor, label in (
        (axes[0], "plan_processor_s", "floor_processor_s", "processor time, seconds"),
        (axes[1], "peak_memory_mib", "floor_memory_mib", "MiB"),
    ):
        axis.loglog(table["models"], table[column], "o-", color="#2f6fb0", label="this project")
        axis.loglog(table["models"], table[floor], "s--", color="#8a8f98", label="bare Snakefile, same graph")
        axis.set(xlabel="models", ylabel=label)
        axis.grid(which="both", color="#e4e6ea")
    axes[0].legend(frameon=False)
    figure.suptitle("snakemake -n of a whole study")
    figure.savefig(PICTURES / "scale.png", dpi=110)


def status(study: Repository, rounds: int = 3) -> pd.DataFrame:
    """Processor time and time of ``dvc status`` of a finished study and of its floors: the least of the rounds."""
    with tempfile.TemporaryDirectory() as folder:
        stages = len(study.stages())
        floor = bare_stages(study, Path(folder, "bare"), stages)
        study.run("dvc", "status", "--json")  # which stores hashes
        calls = {
            "dvc --version": (study.root, ["dvc", "--version"]),
            "dvc status, one input and one output each": (floor, ["dvc", "status", "--json"]),
            "dvc status, this project": (study.root, ["dvc", "status", "--json"]),
        }
        found = [(name, *used(study, *call)) for _ in range(rounds) for name, call in calls.items()]
    table = pd.DataFrame(found, columns=["command", "wall_s", "processor_s"]).groupby("command", sort=False).min()
    return table.reset_index().assign(stages=stages, rounds=rounds, processor=processor())


def used(study: Repository, folder: Path, call: list[str]) -> tuple[float, float]:
    """Time and processor time of a command that must say nothing is out of date."""
    start = time.perf_counter()
    process = subprocess.Popen(call, cwd=folder, env=study.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, ended, usage = os.wait4(process.pid, 0)
    assert ended == 0, said
    assert call[1] != "status" or said.strip() == "{}", said
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime


def bare_stages(study: Repository, folder: Path, count: int) -> Path:
    """A repository of so many finished stages, each with an input, an output and no parameters."""
    folder.mkdir()
    made = Repository(folder)
    made.warm, made.extra = False, study.extra
    stages = {}
    for number in range(count):
        Path(folder, f"in{number}").write_text(f"{number}\n", encoding="utf-8")
        stages[f"s{number}"] = {"cmd": f"cp in{number} out{number}", "deps": [f"in{number}"], "outs": [f"out{number}"]}
        Path(folder, f"out{number}").write_text(f"{number}\n", encoding="utf-8")
    with Path(folder, "dvc.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump({"stages": stages}, file)
    made.run("git", "init", "--quiet")
    made.run("dvc", "init", "--quiet")
    made.run("dvc", "commit", "--force", "--quiet")
    return folder


def trainings(count: int, here: bool) -> dict[str, float]:
    """Run so many trainings on this machine, or on a real SLURM of this machine by the shipped profile."""
    from slurm import running

    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        study = Repository.make(Path(place) / "study")
        study.warm = False
        study.edit_params(lambda values: with_models(values, count))
        models = _checkpoints(study)
        call = ["snakemake", "--cores", "2"]
        if not here:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-"))
            cluster = stack.enter_context(running(Path(folder)))
            study.extra = cluster.environment
            call = [
                *("snakemake", "--profile", "profiles/slurm", "--slurm-status-command", "squeue"),
                *("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "20"),
                *("--groups", "train=train", "--group-components", "train=20"),
            ]
        start = time.perf_counter()
        study.run(*call, "--", *models)
        wall = time.perf_counter() - start
        submissions = 0 if here else len(cluster.jobs())
        table = pd.read_csv(study.root / "results" / "records.csv")
        work = table.loc[table["stage"].str.startswith("train-"), ["wall_s", "cpu_s"]].sum()
        made = sum((study.root / model).exists() for model in models)
    assert made == count
    return {
        "trainings": count,
        "submissions": submissions,
        "wall_s": wall,
        "own_work_s": float(work["wall_s"]),
        "own_processor_s": float(work["cpu_s"]),
    }


def _checkpoints(study: Repository) -> list[str]:
    from latent_atlas.study import schema as config

    return [f"results/checkpoints/{name}.safetensors" for name in config.load(study.root / "params.yaml").models]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="*", default=[])
    parser.add_argument("--trainings", type=int)
    parser.add_argument("--status", type=int, nargs="*", default=[], help="numbers of stages")
    parser.add_argument("--here", action="store_true", help="the trainings without SLURM")
    options = parser.parse_args()
    if options.models:
        table = pd.DataFrame([plan(count) for count in options.models])
        for name in ("plan", "floor"):
            table[f"{name}_exponent"] = exponent(table, f"{name}_processor_s")
        table["processor"] = processor()
        table.to_csv(HERE / "scale.csv", index=False, float_format="%.2f")
        draw(table)
        print(table.to_string(index=False, float_format="{:.1f}".format))
    if options.status:
        tables = []
        for stages in options.status:
            with tempfile.TemporaryDirectory() as folder:
                study = prepare(Path(folder) / "study", stages)
                study.warm = False
                tables.append(status(study))
        table = pd.concat(tables)
        table.to_csv(HERE / "scale_status.csv", index=False, float_format="%.2f")
        print(table.to_string(index=False, float_format="{:.1f}".format))
    if options.trainings:
        table = pd.DataFrame([trainings(options.trainings, options.here)])
        table.to_csv(HERE / f"scale_{'here' if options.here else 'slurm'}.csv", index=False, float_format="%.1f")
        print(table.to_string(index=False, float_format="{:.1f}".format))


if __name__ == "__main__":
    main()

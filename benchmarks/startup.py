"""How long each command takes until its function begins, in an interpreter of its own and in a forked process.

A command is called as a job calls it, with a parameter file, and stopped where its function would begin: all that it
loads is loaded then. Beside it stand the floors: Python, and what no torch or pandas stage can do without. The rounds
are interleaved; the least and the median of each are written, since other programs may use the same cores.

    .venv/bin/python benchmarks/startup.py --rounds 5      # writes benchmarks/startup.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import processor

from latent_atlas.cli import stages
from latent_atlas.cluster import fork_server

HERE = Path(__file__).resolve().parent
FLOORS = {"python -c pass": "pass", "import torch": "import torch", "import pandas": "import pandas"}
# A command as the script of the package is, which ends where the stage's function would begin.
SCRIPT = """\
#!{python}
import os, sys, time
from latent_atlas.cluster import fork_server
fork_server.hand_over()
import latent_atlas.command as command
from latent_atlas.cli import main

def end(name, load, params_file, log_file, options):
    from latent_atlas.study import schema
    schema.load(params_file)
    load()
    print(time.time(), time.process_time())
    sys.stdout.flush()
    os._exit(0)

import latent_atlas.signatures
latent_atlas.signatures.run = end
main()
"""


def measured(command: list[str]) -> tuple[float, float]:
    """Seconds of wall clock until the command's last line, and of processor time, of its own and of its client."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    ended, own = map(float, done.stdout.split()) if done.stdout else (time.time(), used)
    return ended - start, own if fork_server.VARIABLE not in os.environ else used + own


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commands", nargs="*", help="those to measure; all if left out")
    options = parser.parse_args()
    rounds = options.rounds
    os.environ.update(fork_server.ONE_THREAD)
    commands = {name: [sys.executable, "-c", code] for name, code in FLOORS.items()}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "latent-atlas")
        script.write_text(SCRIPT.format(python=sys.executable), encoding="utf-8")
        script.chmod(0o755)
        for name, stage in stages().items():
            if options.commands and name not in options.commands:
                continue
            words = [str(script), name, "--params", str(HERE.parent / "params.yaml")]
            for option, kind in stage.annotations.items():
                if kind != "bool" and "None" not in kind:  # files need not be there, for nothing is read
                    words += [f"--{option.replace('_', '-')}", {"str": "conv16", "int": "1"}.get(kind, "nowhere")]
            commands[name] = words
        fork_server.start()
        server = os.environ.pop(fork_server.VARIABLE, "")
        ways = {"own interpreter": {}, "forked": {fork_server.VARIABLE: server}}
        times: dict[tuple[str, str], list[tuple[float, float]]] = {}
        time.sleep(10)  # until the server has loaded all
        for _ in range(rounds):
            for name, command in commands.items():
                for way, variables in ways.items():
                    if name in FLOORS and way == "forked":
                        continue
                    os.environ.pop(fork_server.VARIABLE, None)
                    os.environ.update(variables)
                    times.setdefault((name, way), []).append(measured(command))
    with (HERE / "startup.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ["command", "process", "wall_s", "median_wall_s", "cpu_s", "median_cpu_s", "rounds", "processor"]
        )
        for (name, way), found in times.items():
            wall, cpu = zip(*found, strict=True)
            numbers = [f"{value:.2f}" for each in (wall, cpu) for value in (min(each), statistics.median(each))]
            row = [name, way, *numbers, rounds, processor()]
            table.writerow(row)
            print(*row, sep="  ")


if __name__ == "__main__":
    main()

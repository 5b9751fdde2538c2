"""How long each command takes until its function begins and after its end, in an interpreter of its own and forked.

A command is called as a job calls it, with a parameter file; in place of its function the time is printed: all that it
loads is loaded then. Beside it stand the floors: Python, and what no torch or pandas stage can do without; they end as
Python does. The rounds are interleaved; the least and the median of each are written, since other programs may use the
same cores.

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
TELL = "print(time.time(), time.process_time(), flush=True)"
FLOORS = {code: f"{code}; import time; {TELL}" for code in ("pass", "import torch", "import pandas")}
# A command as the script of the package is, which tells the time in place of the stage's function.
SCRIPT = """\
#!{python}
import time
from latent_atlas.cli import start

def tell(name, load, params_file, log_file, options):
    from latent_atlas.study import schema
    schema.load(params_file)
    load()
    {tell}

import latent_atlas.signatures
latent_atlas.signatures.run = tell
start()
"""


def measured(command: list[str]) -> tuple[float, float, float]:
    """Seconds of wall clock until the time is printed, of processor time until then, and of wall clock after it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    end = time.time()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    client = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told, own = map(float, done.stdout.split())
    return told - start, own if fork_server.VARIABLE not in os.environ else client + own, end - told


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
        script.write_text(SCRIPT.format(python=sys.executable, tell=TELL), encoding="utf-8")
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
        times: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
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
        kinds = ("wall_s", "median_wall_s", "cpu_s", "median_cpu_s", "end_wall_s", "median_end_wall_s")
        table.writerow(["command", "process", *kinds, "rounds", "processor"])
        for (name, way), found in times.items():
            columns = zip(*found, strict=True)
            numbers = [f"{value:.2f}" for each in columns for value in (min(each), statistics.median(each))]
            row = [name, way, *numbers, rounds, processor()]
            table.writerow(row)
            print(*row, sep="  ")


if __name__ == "__main__":
    main()

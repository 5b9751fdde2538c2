"""How long a run takes to end after Ctrl-C, at many moments from its start to its end.

The study of `make demo` is run in an empty folder. After a time the whole process group gets the signal that a terminal
sends. The same command then goes on, until it is interrupted after another time; a study that is finished is
begun anew. The times are drawn at random, most of them short, since loading is what cannot be interrupted everywhere.
At the end the study runs undisturbed, and all its tables are compared with those of a study that was never interrupted.

    .venv/bin/python benchmarks/interruptions.py --moments 100      # writes benchmarks/interruptions.csv
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).parent / "latent-atlas"
LONGEST_S = 12.0
UNUSUAL = re.compile("Traceback|Error|Aborted|Exception")


def start(folder: Path) -> subprocess.Popen[str]:
    """The run, in a process group of its own, with what it says in a file."""
    return subprocess.Popen(
        [COMMAND, "run", "--cores", "2"], cwd=folder, start_new_session=True, text=True,
        stdout=(folder / "said.txt").open("w"), stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def begun(folder: Path) -> Path:
    """An empty folder with the parameters of the study."""
    folder.mkdir()
    shutil.copy(HERE.parent / "studies" / "demo.yaml", folder / "params.yaml")
    return folder


def tables(folder: Path) -> dict[str, bytes]:
    """The bytes of all tables, but for those of times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.suffix in (".csv", ".parquet", ".safetensors") and path.name != "records.csv"
    }


def interrupted(folder: Path, moment_s: float) -> dict[str, object] | None:
    """What was seen after one interruption; nothing if the run ended before it."""
    run = start(folder)
    try:
        run.wait(timeout=moment_s)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGINT)
        sent = time.monotonic()
        status = run.wait(timeout=60)
        ended_s = time.monotonic() - sent
        left = alive(run.pid)
        said = (folder / "said.txt").read_text().strip().splitlines()
        return {
            "moment_s": f"{moment_s:.2f}", "ended_after_s": f"{ended_s:.2f}", "exit_status": status,
            "processes_left": left,
            "unusual": " / ".join(line for line in said if UNUSUAL.search(line)), "load": f"{os.getloadavg()[0]:.1f}",
            "last_line": said[-1] if said else "",
        }  # fmt: skip
    return None


def alive(group: int) -> int:
    """Processes of a group that are left."""
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return sum(line.split()[0] == str(group) and "Z" not in line.split()[1] for line in listed.splitlines())


def main() -> None:
    """Interrupt, compare and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # noqa: S311  # moments
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        undisturbed = begun(Path(scratch) / "undisturbed")
        assert start(undisturbed).wait() == 0, (undisturbed / "said.txt").read_text()
        studies, folder = 1, begun(Path(scratch) / "1")
        while len(rows) < options.moments:
            row = interrupted(folder, LONGEST_S * draw.random() ** 2)
            if row is None:
                assert tables(folder) == tables(undisturbed)
                studies += 1
                folder = begun(Path(scratch) / str(studies))
                continue
            rows.append({"study": studies, **row})
            print(*rows[-1].values(), sep="  ", flush=True)
        assert start(folder).wait() == 0, (folder / "said.txt").read_text()
        assert tables(folder) == tables(undisturbed)
    with (HERE / "interruptions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    times = sorted(float(str(row["ended_after_s"])) for row in rows)
    print(f"{len(rows)} interruptions of {studies} studies: median {times[len(times) // 2]} s, longest {times[-1]} s")
    print("all tables are equal to those of a run that was never interrupted")


if __name__ == "__main__":
    main()

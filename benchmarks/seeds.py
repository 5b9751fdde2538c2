"""Several seeds of a model trained at once, against one after another and against two processes side by side.

    python benchmarks/seeds.py [--device cuda] [--seeds 2 5 10 20] [--rounds 3]

Each training is a whole one: the trial step, the errors of both splits and the snapshot are included. The ways take
turns, and the medians of the rounds stand in the table, ``benchmarks/seeds.csv``: wall-clock time and processor time
for each training. What a process takes to start is measured beside them; it is counted once for each seed that is
trained alone, and once for all that are trained together. The floor is the arithmetic of the steps at the rate of a
product of two matrices of 2,048, in the same run. The images are random pixels.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from speed import hardware, product_rate
from torch.nn.functional import mse_loss
from torch.utils.flop_counter import FlopCounterMode

from latent_atlas.data.images import Images
from latent_atlas.kernels.allocation import keep_freed_memory
from latent_atlas.models.registry import build
from latent_atlas.training.loop import Schedule, train
from latent_atlas.training.together import together

HERE = Path(__file__).parent
START = ("-c", "import latent_atlas.stages.train, latent_atlas.study.schema")  # what a job loads before it trains


class Case(NamedTuple):
    """A model, the side of its images, their number, and how it is trained."""

    architecture: str
    latent_dim: int
    options: dict[str, int]
    side: int
    images: int
    batch_size: int
    steps: int
    most: int  # seeds at once


CASES = {
    "fc8, 8x8": Case("fully_connected", 8, {}, 8, 1500, 64, 160, 20),
    "conv8, 8x8": Case("convolutional", 8, {"kernel": 3}, 8, 1500, 64, 48, 20),
    "fc16, 28x28": Case("fully_connected", 16, {}, 28, 2560, 256, 20, 20),
    "conv16, 28x28": Case("convolutional", 16, {}, 28, 640, 64, 8, 5),
}


def single(name: str, seed: int, device: str) -> None:
    """One training."""
    case = CASES[name]
    train(lambda: made(case), images(case), replace(schedule(case), seed=seed), torch.device(device))


def all_at_once(name: str, seeds: int, device: str) -> None:
    """The trainings of a number of seeds together."""
    case = CASES[name]
    together(lambda: made(case), images(case), schedule(case), range(seeds), torch.device(device))


def made(case: Case) -> torch.nn.Module:
    return build(case.architecture, (1, case.side, case.side), case.latent_dim, case.options)


def schedule(case: Case) -> Schedule:
    return Schedule(None, case.batch_size, 5e-3, "float32", 0, steps=case.steps)


def images(case: Case) -> Images:
    draw = torch.Generator().manual_seed(0)
    shape = (case.images + 300, 1, case.side, case.side)
    pixels = torch.randint(256, shape, generator=draw, dtype=torch.uint8)
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    cut = case.images
    return Images("random", pixels[:cut], labels[:cut], pixels[cut:], labels[cut:], ("random",))


def operations(case: Case) -> int:
    """Multiplications and additions of a training's steps."""
    model, x = made(case), torch.rand(case.batch_size, 1, case.side, case.side)
    with FlopCounterMode(display=False) as counter:
        mse_loss(model(x), x).backward()
    return counter.get_total_flops() * case.steps


def rate(device: torch.device) -> float:
    """Operations a second of a large product; on a CPU of processor time, so that other programs make no difference."""
    if device.type != "cpu":
        return product_rate(torch.float32, device)
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / min(timed(lambda: a @ a)[1] for _ in range(6))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor time of a function; the latter without that of other processes."""
    before, start = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - start, time.process_time() - before


def starting() -> tuple[float, float]:
    """Wall-clock and processor time of loading what a job loads before it trains."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *START], check=True)
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ready() -> None:
    """Set up a worker as a job is set up."""
    keep_freed_memory()
    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2, 5, 10, 20])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes below
    ready()
    device = torch.device(arguments.device)
    named = hardware(device)
    rows = []
    with multiprocessing.get_context("spawn").Pool(2, ready) as pool:
        for name in arguments.only:
            case = CASES[name]
            starts = [starting() for _ in range(arguments.rounds)]
            pool.starmap(single, [(name, 0, arguments.device)] * 2, 1)  # loads what is loaded once
            single(name, 0, arguments.device)
            for seeds in [count for count in arguments.seeds if count <= case.most]:
                rounds = []
                for _ in range(arguments.rounds):
                    each = [(name, seed, arguments.device) for seed in range(seeds)]
                    one = timed(partial(list, itertools.starmap(single, each)))
                    batch = timed(partial(all_at_once, name, seeds, arguments.device))
                    two = timed(partial(pool.starmap, single, each, 1))
                    rounds.append([*one, *batch, two[0]])
                middle = [statistics.median(column) / seeds for column in zip(*rounds, strict=True)]
                start, start_processor = (statistics.median(column) for column in zip(*starts, strict=True))
                floor = operations(case) / rate(device)
                ours = middle[3 if device.type == "cpu" else 2]
                row = {
                    "model": name, "seeds": seeds, "steps": case.steps, "batch": case.batch_size,
                    "single_s": middle[0], "together_s": middle[2], "two_processes_s": middle[4],
                    "single_processor_s": middle[1], "together_processor_s": middle[3],
                    "single_over_together": statistics.median(each[0] / each[2] for each in rounds),
                    "single_over_together_processor": statistics.median(each[1] / each[3] for each in rounds),
                    "two_processes_over_together": statistics.median(each[4] / each[2] for each in rounds),
                    "start_processor_s": start_processor,
                    "with_start_processor": (middle[1] + start_processor) / (middle[3] + start_processor / seeds),
                    "floor_s": floor, "together_over_floor": ours / floor,
                    "hardware": named,
                }  # fmt: skip
                print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()},
                      f"start {start:.2f} s", flush=True)  # fmt: skip
                rows.append(row)
                suffix = "" if device.type == "cpu" else f"_{device.type}"
                pd.DataFrame(rows).to_csv(arguments.out / f"seeds{suffix}.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()

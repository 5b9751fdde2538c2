"""What the work costs, beside a baseline and beside the hardware's floor, all measured in one run.

    python benchmarks/speed.py [--results results] [--images data/images.safetensors] [--device cuda] [--only jacobians]
    OMP_NUM_THREADS=1 python benchmarks/speed.py --processor-time --only jacobians peers

It needs a finished run's checkpoints, and of the packages only those of the compute core: the same script runs on a
bare GPU machine (``PYTHONPATH=src``), and then names the GPU. The baseline is timed on a few images and scaled up,
which the table says; the floor is the arithmetic that the work cannot do without at the rate of a large matrix product,
measured in the same run and on the same threads. Each row names the processor and its vector instructions; rows of
other processors stay in the table. A processor with AVX-512 is limited to AVX2 by ``LIMITS`` of ``convolutions.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import baseline
import pandas as pd
import torch
from convolutions import capability
from machine import processor
from torch import Tensor, nn

from latent_atlas.data.images import Images, as_float
from latent_atlas.geometry import pca
from latent_atlas.geometry.chain import trace
from latent_atlas.geometry.manifold import Autoencoder, Manifold, load_manifold
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.kernels.allocation import keep_freed_memory
from latent_atlas.models import registry
from latent_atlas.training.loop import Progress, Schedule, train

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "pictures"
MODELS = ("conv16", "conv32", "conv128", "fc16", "fc32", "fc128")
FLAT = ("pca16", "pca32", "pca128")
STEPS = {name: (TRANSFORMATIONS[name], 1.0) for name in ("rotation", "shift_x", "shift_y")}
SCHEDULES = {  # those of params.yaml, which a bare GPU machine cannot read
    "fc16": Schedule(epochs=8, batch_size=256, peak_learning_rate=7e-3, precision="float32", seed=0),
    "conv16": Schedule(epochs=3, batch_size=64, peak_learning_rate=7e-3, precision="float32", seed=0),
}
KEY = ["part", "hardware", "capability"]  # a run replaces the rows that agree with its own in these
GIVEN_UP = 5.5  # times our time to the error, after which the baseline is stopped
CLOCKS = {"clock": time.perf_counter, "processor time": time.process_time}
clock = "clock"


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median time of a function, after one call that is not counted."""
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start = CLOCKS[clock]()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(CLOCKS[clock]() - start)
    return statistics.median(times)


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a product of two matrices of 2,048."""
    a = torch.randn(2048, 2048, device=device).to(dtype)
    return 2 * 2048**3 / seconds(lambda: a @ a, 7)


def row(work: str, subject: str, other: float | None, ours: float, floor: float | None, note: str = "") -> dict:
    shown = f"{work:24} {subject:10} baseline {other or float('nan'):10.3f} s  ours {ours:8.3f} s"
    print(f"{shown}  {(other or float('nan')) / ours:8.1f} x  {ours / floor if floor else float('nan'):5.2f} floors",
          flush=True)  # fmt: skip
    return {
        "work": work, "subject": subject, "baseline_s": other, "ours_s": ours, "floor_s": floor,
        "baseline_over_ours": other and other / ours, "ours_over_floor": floor and ours / floor, "note": note,
    }  # fmt: skip


class Bench:
    """The data and the manifolds that all parts work on."""

    def __init__(self, results: Path, images: Path, device: torch.device) -> None:
        self.images = Images.load(images)
        self.device = device
        self.paths = {name: results / "checkpoints" / f"{name}.safetensors" for name in (*MODELS, *FLAT)}

    def manifold(self, name: str) -> Manifold:
        return load_manifold(self.paths[name]).to(torch.float32, self.device)

    def test(self, count: int) -> Tensor:
        return as_float(self.images.test[:count].to(self.device))

    def jacobians(self) -> Iterator[dict]:
        """Of 256 images, against reverse mode for one image at a time."""
        rate = product_rate(torch.float32, self.device)
        x = self.test(256)
        for name in MODELS:
            surface = self.manifold(name)
            assert isinstance(surface, Autoencoder)
            codes = surface.encode(x)

            decoder = surface.decoder
            baseline_s = seconds(functools.partial(baseline.reverse_mode, decoder, codes[:4]), 1) * 64
            floor = 256 * surface.latent_dim * operations(surface) / rate
            ours = seconds(functools.partial(surface.jacobian, codes))
            yield row("Jacobians of 256 images", name, baseline_s, ours, floor, "baseline: 4 images, times 64")

    def peers(self) -> Iterator[dict]:
        """Packages made for the same work: stochman's Jacobians, geomstats' pullback metrics."""
        if importlib.util.find_spec("stochman") is None or importlib.util.find_spec("geomstats") is None:
            print("stochman and geomstats are not installed: left out", file=sys.stderr)
            return
        x = self.test(256)
        for name in MODELS:
            surface = self.manifold(name)
            assert isinstance(surface, Autoencoder)
            codes = surface.encode(x)
            theirs = baseline.stochman(surface.decoder, codes)
            assert torch.allclose(theirs(codes[:4]), surface.jacobian(codes[:4]), atol=1e-4)
            baseline_s = seconds(functools.partial(theirs, codes[:16])) * 16
            ours_s = seconds(functools.partial(surface.jacobian, codes))
            yield row("256 Jacobians, stochman", name, baseline_s, ours_s, None, "stochman: 16 images, times 16")
        for name in MODELS if clock == "clock" else ():  # geomstats runs in another process
            surface = self.manifold(name)
            assert isinstance(surface, Autoencoder)
            codes = surface.encode(x)
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # it changes torch's default dtype
                metrics, baseline_s = pool.apply(baseline.geomstats, (surface, codes[:4]))

            surface, codes = surface.to(torch.float64), codes.double()
            ours = functools.partial(metrics_of, surface, codes)
            assert torch.allclose(metrics.to(self.device), ours()[:4], rtol=1e-6, atol=1e-9)
            note = "geomstats: 4 images, times 64; both in float64"
            yield row("256 metrics, geomstats", name, baseline_s * 64, seconds(ours), None, note)

    def angles(self) -> Iterator[dict]:
        """Of 1,000 images and three displacements, against a loop that solves a least-squares problem for each."""
        baseline_all = ours_all = 0.0
        for name in (*MODELS, *FLAT):
            surface = self.manifold(name)
            x = self.test(4)

            baseline_s = seconds(functools.partial(baseline.least_squares, surface, x, STEPS), 1) * 250
            pixels = self.images.test[:1000]
            start = time.perf_counter()
            measure(surface, pixels, STEPS, device=self.device)
            ours_s = time.perf_counter() - start
            baseline_all, ours_all = baseline_all + baseline_s, ours_all + ours_s
            yield row("angles of 1,000 images", name, baseline_s, ours_s, None, "baseline: 4 images, times 250")
        yield row("angles of 1,000 images", "all", baseline_all, ours_all, None, "singular values included")

    def components(self) -> Iterator[dict]:
        """All principal components of the training images."""
        from sklearn.decomposition import PCA

        rows = self.images.train.flatten(1).double() / 255
        floor = seconds(lambda: rows.T @ rows)
        values = rows.numpy()
        start = time.perf_counter()
        PCA(svd_solver="full").fit(values)
        full = time.perf_counter() - start
        covariance = seconds(lambda: PCA(svd_solver="covariance_eigh").fit(values))
        ours = seconds(lambda: pca.fit(self.images.train))
        yield row("PCA of 60,000 images", "full SVD", full, ours, floor, "floor: a Gram product in float64, timed")
        yield row("PCA of 60,000 images", "covariance", covariance, ours, floor, "baseline: covariance_eigh")

    def training(self) -> Iterator[dict]:
        """An epoch's time: two trainings side by side on a core each, against a loop over a DataLoader on all cores."""
        cores = torch.get_num_threads()
        for name in SCHEDULES:
            baseline_s = len(self.images.train) / baseline.speed(functools.partial(build, name), self.images.train)
            with self.trainers(30_000) as trainers:
                speeds = trainers([name] * (1 if self.device.type == "cuda" else cores))
            ours = len(self.images.train) / sum(speeds)
            yield row("training, an epoch", name, baseline_s, ours, None,
                      f"baseline: batch 100, DataLoader and ToTensor; ours: {len(speeds)} at once")  # fmt: skip

    def quality(self) -> Iterator[dict]:
        """Time to the default schedule's test error, one training alone on all cores, against Adam at 1e-3."""
        for name, schedule in SCHEDULES.items():
            start = time.perf_counter()
            made = lambda name=name: build(name)  # noqa: E731
            trained = train(made, self.images, schedule, self.device)
            ours, target = time.perf_counter() - start, trained.curve["test_mse"].iloc[-1]
            baseline_s, note = baseline.time_to(made, self.images, target, GIVEN_UP * ours)
            yield row(f"to error {target:.4f}", name, baseline_s, ours, None, note)

    def population(self) -> Iterator[dict]:
        """Spectra and angles at all test images of the six models, as the pipeline runs them: one core each."""
        jobs = [
            (self.paths[name], self.images.test, self.device) for name in sorted(MODELS, key=lambda n: "128" not in n)
        ]
        cores = 1 if self.device.type == "cuda" else torch.get_num_threads()
        start = time.perf_counter()
        if cores == 1:
            peaks = [population_of(job) for job in jobs]
        else:
            with multiprocessing.get_context("spawn").Pool(cores, maxtasksperchild=1) as pool:
                peaks = pool.map(population_of, jobs, chunksize=1)
        ours = time.perf_counter() - start
        memory = sum(sorted(peaks)[-cores:])
        yield row(f"all of {len(self.images.test):,} images", "six models", None, ours, None,
                  f"Jacobians, spectra and angles; at most {memory:.2f} GiB")  # fmt: skip

    @contextmanager
    def trainers(self, images: int) -> Iterator[Callable[[list[str]], list[float]]]:
        """What trains networks for two epochs, one a core on a CPU, and says how many images a second each took."""
        jobs = lambda names: [(name, self.images, images, self.device) for name in names]  # noqa: E731
        if self.device.type == "cuda":
            yield lambda names: [our_speed(job) for job in jobs(names)]
            return
        with multiprocessing.get_context("spawn").Pool(torch.get_num_threads()) as pool:
            yield lambda names: pool.map(our_speed, jobs(names), chunksize=1)


def metrics_of(surface: Manifold, codes: Tensor) -> Tensor:
    """Pullback metrics (N, k, k)."""
    jacobians = surface.jacobian(codes)  # N x P x k
    return jacobians.mT @ jacobians


def operations(surface: Autoencoder) -> float:
    """Multiplications and additions of one tangent on its way through a decoder, after the first nonlinearity."""
    weight = next(surface.model.parameters())
    calls = trace(surface.decoder, torch.rand(1, surface.latent_dim).to(weight))
    first = next(n for n, call in enumerate(calls) if isinstance(call.layer, (nn.ELU, nn.Sigmoid)))
    total = 0.0
    for call in calls[first:]:
        if isinstance(call.layer, nn.Linear):
            total += 2 * call.layer.weight.numel()
        elif isinstance(call.layer, nn.ConvTranspose2d):
            total += 2 * call.layer.weight.numel() * call.given[0, 0].numel()
    return total


def build(name: str) -> nn.Module:
    return registry.build("fully_connected" if name.startswith("fc") else "convolutional", (1, 28, 28), 16, {})


def our_speed(job: tuple[str, Images, int, torch.device]) -> float:
    name, images, limit, device = job
    if device.type == "cpu":
        torch.set_num_threads(1)
    part = images.take(limit)
    share = math.ceil(len(images.test) * limit / len(images.train))  # tested as often as in a whole epoch
    part = dataclasses.replace(part, test=part.test[:share], test_labels=part.test_labels[:share])
    told: list[Progress] = []
    train(lambda: build(name), part, dataclasses.replace(SCHEDULES[name], epochs=2), device, told.append)
    return told[-1].images_per_second


def population_of(job: tuple[Path, Tensor, torch.device]) -> float:
    """Peak memory in GiB."""
    path, pixels, device = job
    if device.type == "cpu":
        torch.set_num_threads(1)
    keep_freed_memory()
    measure(load_manifold(path), pixels, STEPS, device=device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would begin with the parent's
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def draw(table: pd.DataFrame, path: Path) -> None:
    """Bars of the baseline's time over ours, on the processor with the most rows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    _, table = max(table.dropna(subset="baseline_over_ours").groupby(KEY[1:]), key=lambda group: len(group[1]))
    figure, bars = plt.subplots(figsize=(8, 0.5 + 0.17 * len(table)), layout="constrained")
    labels = [f"{work}: {subject}" for work, subject in zip(table["work"], table["subject"], strict=True)]
    drawn = bars.barh(labels, table["baseline_over_ours"], color="#4477aa")
    bars.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
    bars.invert_yaxis()
    bars.set_xscale("log")
    bars.set_xlim(left=1, right=4 * table["baseline_over_ours"].max())
    bars.set_xlabel("times faster than the baseline")
    bars.tick_params(axis="y", labelsize=8)
    bars.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    kind = "" if clock == "clock" else f", {clock}"
    return f"{processor()}, {torch.get_num_threads()} threads{kind}"


def main() -> None:
    parts = ("jacobians", "peers", "angles", "components", "training", "population", "quality")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--images", type=Path, default=Path("data/images.safetensors"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--processor-time", action="store_true",
                        help="of jacobians and peers on one thread, for a machine that other programs use")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.processor_time:
        if set(arguments.only) - {"jacobians", "peers"} or torch.get_num_threads() > 1 or arguments.device != "cpu":
            parser.error("--processor-time needs OMP_NUM_THREADS=1, --device cpu and --only jacobians, peers or both")
        global clock
        clock = "processor time"
    keep_freed_memory()
    device = torch.device(arguments.device)
    named = hardware(device)
    instructions = capability() if device.type == "cpu" else device.type
    print(f"{named}; {instructions}; torch {torch.__version__}")
    for dtype in (torch.float32, torch.float64):
        print(f"product of matrices, {dtype}: {product_rate(dtype, device) / 1e9:.0f} GFLOP/s")
    bench = Bench(arguments.results, arguments.images, device)
    suffix = "" if device.type == "cpu" else f"_{device.type}"
    rows: list[dict] = []
    path = arguments.out / f"speed{suffix}.csv"
    for part in arguments.only:
        found = list(getattr(bench, part)())
        rows += [one | {"part": part, "hardware": named, "capability": instructions} for one in found]
        fresh = pd.DataFrame(rows)
        if path.exists():  # what this run leaves out stays as it was
            before = pd.read_csv(path)
            again = before[KEY].agg("|".join, axis=1).isin(fresh[KEY].agg("|".join, axis=1))
            fresh = pd.concat([before[~again], fresh])
        order = {name: number for number, name in enumerate(parts)}
        fresh.sort_values("part", key=lambda names: names.map(order), kind="stable").to_csv(
            path, index=False, float_format="%.5g"
        )
    if path.exists():
        try:
            folder = PICTURES if arguments.out == HERE else arguments.out
            draw(pd.read_csv(path), folder / f"{path.stem}.png")
        except ImportError:
            print("no matplotlib here: no picture", file=sys.stderr)


if __name__ == "__main__":
    main()

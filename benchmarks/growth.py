"""How the cost of a measurement grows with images, latent dimension, pixels and models, and its peak memory.

    python benchmarks/growth.py [--only spectra memory shared] [--out benchmarks]

Networks are untrained and images random: the cost does not depend on either. Each point is a process of its own on one
thread, and its time is processor time, which other programs on the machine change little. The exponent of a line
is that of a least-squares fit in logarithms. Writes growth.csv, growth_memory.csv and docs/pictures/growth.png.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from speed import HERE, PICTURES, STEPS, hardware

from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace
from latent_atlas.geometry.tangent_spaces import measure
from latent_atlas.kernels.allocation import keep_freed_memory
from latent_atlas.models import registry
from latent_atlas.statistics.agreement import agreements

FAMILIES = ("convolutional", "fully_connected", "pca")
USUAL = {"images": 128, "latent_dim": 32, "pixels": 28**2, "models": 1}
AXES = {
    "images": (64, 128, 256, 512, 1024),
    "latent_dim": (8, 16, 32, 64, 128),
    "pixels": (16**2, 20**2, 28**2, 40**2, 56**2),
    "models": (2, 4, 8, 16),
}
NAMES = {"images": "images", "latent_dim": "latent dimension", "pixels": "pixels", "models": "models"}
COLOURS = {"convolutional": "#ee6677", "fully_connected": "#4477aa", "pca": "#777777"}
MANY = [((1, 28, 28), (1_000, 10_000, 100_000)), ((3, 64, 64), (100, 1_000, 10_000))]


class Point(NamedTuple):
    """What one process measures."""

    work: str  # spectra, or shared: the tangent spaces of all pairs of models
    family: str
    images: int
    latent_dim: int
    shape: tuple[int, int, int]
    models: int = 1


def surface(point: Point, seed: int) -> Manifold:
    torch.manual_seed(seed)
    family, k, shape = point.family, point.latent_dim, point.shape
    if family == "pca":
        pixels = math.prod(shape)
        return PrincipalSubspace(torch.linalg.qr(torch.randn(pixels, k)).Q.T, torch.full((pixels,), 0.5), shape)
    return Autoencoder(registry.build(family, shape, k, {}), k, shape, family).to(torch.float32)


def cost(point: Point) -> dict[str, float]:
    """Processor seconds and peak memory of one point, after a first call that is not counted."""
    torch.set_num_threads(1)
    keep_freed_memory()
    surfaces = [surface(point, seed) for seed in range(point.models)]
    pixels = torch.randint(0, 256, (point.images, *point.shape), dtype=torch.uint8)
    before = peak_mib()

    def work(pixels: torch.Tensor) -> None:
        if point.work == "shared":
            agreements({str(n): one for n, one in enumerate(surfaces)}, pixels)
        else:
            for one in surfaces:
                measure(one, pixels, STEPS)

    work(pixels[:16])
    times = []
    for _ in range(3 if point.images <= 1024 else 1):
        start = time.process_time()
        work(pixels)
        times.append(time.process_time() - start)
    return {"seconds": min(times), "memory_before_mib": before, "peak_memory_mib": peak_mib()}


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def spectra() -> Iterator[tuple[str, Point]]:
    """Spectra and angles of three displacements."""
    for axis, sizes in AXES.items():
        for family in FAMILIES:
            for size in sizes:
                at = USUAL | {axis: size}
                side = math.isqrt(at["pixels"])
                yield axis, Point("spectra", family, at["images"], at["latent_dim"], (1, side, side), at["models"])


def shared() -> Iterator[tuple[str, Point]]:
    """Shared tangent spaces of all pairs of models."""
    for count in AXES["models"]:
        yield "models", Point("shared", "fully_connected", 64, 32, (1, 28, 28), count)


def memory() -> Iterator[tuple[str, Point]]:
    """Spectra and angles at many images."""
    for shape, counts in MANY:
        for family in FAMILIES:
            for count in counts:
                yield "images", Point("spectra", family, count, 16, shape)


def exponent(sizes: np.ndarray, seconds: np.ndarray) -> float:
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def draw(table: pd.DataFrame, path: Path) -> None:
    """One panel an axis: processor seconds, and the exponent at the end of each line."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(AXES), figsize=(14, 4), sharey=True, layout="constrained")
    for panel, axis in zip(panels, AXES, strict=True):
        for (work, family), rows in table[table["axis"] == axis].groupby(["work", "family"], sort=False):
            rows = rows.sort_values(axis)
            sizes, seconds = rows[axis].to_numpy(float), rows["seconds"].to_numpy(float)
            label = family.replace("_", " ") if work == "spectra" else "shared tangent spaces"
            style = "o-" if work == "spectra" else "s--"
            panel.plot(sizes, seconds, style, color=COLOURS[family], label=label)
            end = f" {exponent(sizes, seconds):.2f}"
            panel.annotate(end, (sizes[-1], seconds[-1]), color=COLOURS[family], va="center", fontsize=9)
        ticks = sorted(table.loc[table["axis"] == axis, axis].unique())
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
        panel.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.8)
        panel.set_xlabel(NAMES[axis])
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("processor time, seconds")
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parts = {"spectra": spectra, "shared": shared, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    named = hardware(torch.device("cpu"))
    for part in arguments.only:
        rows = []
        path = arguments.out / ("growth_memory.csv" if part == "memory" else "growth.csv")
        for axis, point in parts[part]():
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(cost, (point,))
            rows.append({"work": point.work, "axis": axis, "family": point.family, "images": point.images,
                         "latent_dim": point.latent_dim, "pixels": math.prod(point.shape),
                         "models": point.models, **found, "hardware": named})  # fmt: skip
            print(rows[-1], flush=True)
        fresh = pd.DataFrame(rows)
        if path.exists() and part != "memory":
            before = pd.read_csv(path)
            fresh = pd.concat([before[before["work"] != part], fresh], ignore_index=True)
        fresh.to_csv(path, index=False, float_format="%.5g")
    table = pd.read_csv(arguments.out / "growth.csv")
    for (axis, work, family), rows in table.groupby(["axis", "work", "family"], sort=False):
        print(f"{axis:12} {work:8} {family:16} exponent {exponent(rows[axis].to_numpy(float), rows['seconds']):.2f}")
    draw(table, (PICTURES if arguments.out == HERE else arguments.out) / "growth.png")


if __name__ == "__main__":
    main()

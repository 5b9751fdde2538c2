"""What the work costs, beside the usual way of doing it and beside the hardware's floor, all measured in one run.

    python benchmarks/speed.py [--results results] [--images data/images.safetensors] [--device cuda] [--only jacobians]

It needs a finished run's checkpoints, and of the packages only those of the compute core: the same script runs on a
bare GPU machine (``PYTHONPATH=src``), and then names the GPU. The usual way is timed on a few images and scaled up,
which the table says; the floor is the arithmetic that the work cannot do without at the rate of a large matrix product,
measured in the same run and on the same threads.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from latent_atlas.core import pca
from latent_atlas.core.allocation import keep_freed_memory
from latent_atlas.core.chain import trace
from latent_atlas.core.geometry.population import measure
from latent_atlas.core.images import Images, as_float
from latent_atlas.core.manifold import Autoencoder, Manifold, load_manifold
from latent_atlas.core.models import registry
from latent_atlas.core.training import Progress, Schedule, mean_error, train
from latent_atlas.core.transformations import TRANSFORMATIONS
from latent_atlas.datasets import torchvision_import

HERE = Path(__file__).parent
MODELS = ("conv16", "conv32", "conv128", "fc16", "fc32", "fc128")
FLAT = ("pca16", "pca32", "pca128")
MOTIONS = {name: (TRANSFORMATIONS[name], 1.0) for name in ("rotation", "shift_x", "shift_y")}
EPOCHS = {"fc16": 5, "conv16": 3}  # of the default schedule
GIVEN_UP = 5.5  # times our time to the error, after which the usual way is stopped


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median time of a function, after one call that is not counted."""
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def product_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of a product of two matrices of 2,048."""
    a = torch.randn(2048, 2048, device=device).to(dtype)
    return 2 * 2048**3 / seconds(lambda: a @ a, 7)


def row(work: str, subject: str, usual: float | None, ours: float, floor: float | None, note: str = "") -> dict:
    shown = f"{work:24} {subject:10} usual {usual or float('nan'):10.3f} s  ours {ours:8.3f} s"
    print(f"{shown}  {(usual or float('nan')) / ours:8.1f} x  {ours / floor if floor else float('nan'):5.2f} floors",
          flush=True)  # fmt: skip
    return {
        "work": work, "subject": subject, "usual_s": usual, "ours_s": ours, "floor_s": floor,
        "usual_over_ours": usual and usual / ours, "ours_over_floor": floor and ours / floor, "note": note,
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

            def usual(surface: Autoencoder = surface, codes: Tensor = codes) -> None:
                for code in codes[:4]:
                    torch.autograd.functional.jacobian(lambda z: surface.decoder(z[None]).flatten(), code)

            floor = 256 * surface.latent_dim * operations(surface) / rate
            ours = seconds(lambda surface=surface, codes=codes: surface.jacobian(codes))
            yield row("Jacobians of 256 images", name, seconds(usual, 1) * 64, ours, floor, "usual: 4 images, times 64")

    def angles(self) -> Iterator[dict]:
        """Of 1,000 images and three motions, against a loop that solves a least-squares problem for each."""
        usual_all = ours_all = 0.0
        for name in (*MODELS, *FLAT):
            surface = self.manifold(name)
            x = self.test(4)

            def usual(surface: Manifold = surface, x: Tensor = x) -> None:
                for image in x:
                    code = surface.encode(image[None])
                    decoded = surface.decode(code)
                    if isinstance(surface, Autoencoder):
                        jacobian = torch.autograd.functional.jacobian(
                            lambda z: surface.decoder(z).flatten(), code
                        ).flatten(1)
                    else:
                        jacobian = surface.jacobian(code)[0]
                    basis = jacobian.cpu().numpy()
                    for entry, step in MOTIONS.values():
                        plane = decoded.cpu().numpy()
                        motion = (entry.apply(plane, step) - plane).ravel()
                        within = basis @ np.linalg.lstsq(basis, motion, rcond=None)[0]
                        np.degrees(np.arccos(np.linalg.norm(within) / np.linalg.norm(motion)))

            usual_s = seconds(usual, 1) * 250
            pixels = self.images.test[:1000]
            start = time.perf_counter()
            measure(surface, pixels, MOTIONS, device=self.device)
            ours_s = time.perf_counter() - start
            usual_all, ours_all = usual_all + usual_s, ours_all + ours_s
            yield row("angles of 1,000 images", name, usual_s, ours_s, None, "usual: 4 images, times 250")
        yield row("angles of 1,000 images", "all", usual_all, ours_all, None, "singular values included")

    def components(self) -> Iterator[dict]:
        """All principal components of the training images."""
        from sklearn.decomposition import PCA

        rows = self.images.train.flatten(1).double() / 255
        floor = seconds(lambda: rows.T @ rows)
        values = rows.numpy()
        start = time.perf_counter()
        PCA(svd_solver="full").fit(values)
        usual = time.perf_counter() - start
        covariance = seconds(lambda: PCA(svd_solver="covariance_eigh").fit(values))
        ours = seconds(lambda: pca.fit(self.images.train))
        yield row("PCA of 60,000 images", "full SVD", usual, ours, floor, "floor: a Gram product in float64, timed")
        yield row("PCA of 60,000 images", "covariance", covariance, ours, floor, "usual: covariance_eigh")

    def training(self) -> Iterator[dict]:
        """An epoch's time: two trainings side by side on a core each, against a loop over a DataLoader on all cores."""
        cores = torch.get_num_threads()
        for name in EPOCHS:
            usual = len(self.images.train) / usual_speed(name, self.images.train)
            if self.device.type == "cuda":
                speeds = [our_speed((name, self.images, 20_000, self.device))]
            else:
                with multiprocessing.get_context("spawn").Pool(cores) as pool:
                    speeds = pool.map(our_speed, [(name, self.images, 10_000, self.device)] * cores)
            ours = len(self.images.train) / sum(speeds)
            yield row("training, an epoch", name, usual, ours, None,
                      f"usual: batch 100, DataLoader and ToTensor; ours: {len(speeds)} at once")  # fmt: skip

    def quality(self) -> Iterator[dict]:
        """Time to the default schedule's test error, one training alone on all cores, against Adam at 1e-3."""
        for name, epochs in EPOCHS.items():
            schedule = Schedule(epochs, 64, 5e-3, "float32", 0)
            start = time.perf_counter()
            trained = train(lambda name=name: build(name), self.images, schedule, self.device)
            ours, target = time.perf_counter() - start, trained.curve["test_mse"].iloc[-1]
            usual, note = usual_time_to(name, self.images, target, GIVEN_UP * ours)
            yield row(f"to error {target:.4f}", name, usual, ours, None, note)

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

    def scaling(self) -> Iterator[dict]:
        """Jacobians and spectra of untrained networks, over the number of images, of coordinates and of pixels."""
        for family in ("convolutional", "fully_connected"):
            sizes = [(n, 32, 28) for n in (64, 128, 256, 512, 1024)]
            sizes += [(128, k, 28) for k in (4, 8, 16, 64, 128, 256)]
            sizes += [(128, 32, side) for side in (16, 20, 40, 56)]
            for count, k, side in sizes:
                torch.manual_seed(0)
                shape = (1, side, side)
                surface = Autoencoder(registry.build(family, shape, k, {}), k, shape, family).to(
                    torch.float32, self.device
                )
                pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
                ours = seconds(
                    lambda surface=surface, pixels=pixels: measure(surface, pixels, {}, device=self.device), 1
                )
                yield {"work": "spectra", "family": family, "images": count, "latent_dim": k, "side_px": side,
                       "seconds": ours}  # fmt: skip


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


class Pictures(Dataset):
    """Images as torchvision's datasets give them: a PIL picture at a time, through ToTensor."""

    def __init__(self, pixels: Tensor) -> None:
        torchvision_import.datasets()  # so that torchvision can be imported
        from torchvision.transforms import ToTensor

        self.pixels, self.transform = pixels[:, 0], ToTensor()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index].numpy(), mode="L")), 0


def usual_model(name: str) -> nn.Module:
    """The same network, of torch's own layers alone."""
    model = build(name)
    for module in model.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.__class__ = nn.ConvTranspose2d
    return model


def usual_epochs(name: str, pixels: Tensor, stop: Callable[[int], bool]) -> Iterator[nn.Module]:
    """The loop of tutorials; gives the network after each epoch, or when it is to stop."""
    torch.manual_seed(0)
    model = usual_model(name).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    while True:
        for x, _ in DataLoader(Pictures(pixels), batch_size=100, shuffle=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x).backward()
            optimizer.step()
            step += 1
            if stop(step):
                break
        yield model


def usual_speed(name: str, pixels: Tensor) -> float:
    """Images a second over 60 steps, after 10."""
    marks = {}

    def stop(step: int) -> bool:
        marks[step] = time.perf_counter()
        return step == 70

    next(usual_epochs(name, pixels, stop))
    return 60 * 100 / (marks[70] - marks[10])


def our_speed(job: tuple[str, Images, int, torch.device]) -> float:
    name, images, limit, device = job
    if device.type == "cpu":
        torch.set_num_threads(1)
    part = images.take(limit)
    share = math.ceil(len(images.test) * limit / len(images.train))  # tested as often as in a whole epoch
    part = dataclasses.replace(part, test=part.test[:share], test_labels=part.test_labels[:share])
    told: list[Progress] = []
    train(lambda: build(name), part, Schedule(2, 64, 5e-3, "float32", 0), device, told.append)
    return told[-1].images_per_second


def usual_time_to(name: str, images: Images, target: float, limit: float) -> tuple[float, str]:
    spent, start, epochs = 0.0, time.perf_counter(), 0
    over = lambda step: spent + time.perf_counter() - start > limit  # noqa: E731
    for model in usual_epochs(name, images.train, over):
        spent += time.perf_counter() - start
        error, epochs = mean_error(model, images.test), epochs + 1
        if error <= target or spent > limit:
            reached = "reached" if error <= target else "NOT reached: a lower bound"
            return spent, f"usual: {reached}, error {error:.4f} in {epochs} epochs"
        start = time.perf_counter()
    raise AssertionError


def population_of(job: tuple[Path, Tensor, torch.device]) -> float:
    """Peak memory in GiB."""
    path, pixels, device = job
    if device.type == "cpu":
        torch.set_num_threads(1)
    keep_freed_memory()
    measure(load_manifold(path), pixels, MOTIONS, device=device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would begin with the parent's
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


def draw(table: pd.DataFrame, scaling: pd.DataFrame | None, path: Path) -> None:
    """Bars of the usual time over ours; and how the cost grows."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    table = table.dropna(subset="usual_over_ours")
    figure, axes = plt.subplots(1, 4 if scaling is not None else 1, figsize=(15 if scaling is not None else 7, 5.5),
                                width_ratios=[1.6, 1, 1, 1] if scaling is not None else None, squeeze=False,
                                layout="constrained")  # fmt: skip
    bars = axes[0, 0]
    labels = [f"{work}: {subject}" for work, subject in zip(table["work"], table["subject"], strict=True)]
    drawn = bars.barh(labels, table["usual_over_ours"], color="#4477aa")
    bars.bar_label(drawn, fmt="%.1f", padding=3, fontsize=8)
    bars.invert_yaxis()
    bars.set_xscale("log")
    bars.set_xlim(left=1, right=4 * table["usual_over_ours"].max())
    bars.set_xlabel("times faster than the usual way")
    bars.tick_params(axis="y", labelsize=8)
    bars.spines[["top", "right"]].set_visible(False)
    if scaling is not None:
        fixed = {"images": 128, "latent_dim": 32, "side_px": 28}
        names = {"images": "images", "latent_dim": "latent coordinates", "side_px": "pixels along a side"}
        for panel, (key, name) in zip(axes[0, 1:], names.items(), strict=True):
            others = [other for other in fixed if other != key]
            part = scaling[(scaling[others[1]] == fixed[others[1]])] if key == "images" else scaling[
                (scaling[others[0]] == fixed[others[0]]) & (scaling[others[1]] == fixed[others[1]])]  # fmt: skip
            part = part[part["latent_dim"] == 32] if key == "images" else part
            for (family, rows), colour in zip(part.groupby("family"), ("#ee6677", "#4477aa"), strict=True):
                rows = rows.sort_values(key)
                panel.plot(rows[key], rows["seconds"], "o-", color=colour, label=str(family).replace("_", " "))
            panel.set_xscale("log", base=2)
            panel.set_yscale("log")
            ticks = sorted(part[key].unique())
            panel.set_xticks(ticks, [str(tick) for tick in ticks])
            panel.set_xlabel(name)
            panel.spines[["top", "right"]].set_visible(False)
        axes[0, 1].set_ylabel("Jacobians and spectra, seconds")
        axes[0, 1].legend(frameon=False)
    figure.savefig(path, dpi=120)


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    return f"{model}, {torch.get_num_threads()} threads"


def main() -> None:
    parts = ("jacobians", "angles", "components", "training", "population", "scaling", "quality")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--images", type=Path, default=Path("data/images.safetensors"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    keep_freed_memory()
    device = torch.device(arguments.device)
    named = hardware(device)
    print(f"{named}; torch {torch.__version__}")
    for dtype in (torch.float32, torch.float64):
        print(f"product of matrices, {dtype}: {product_rate(dtype, device) / 1e9:.0f} GFLOP/s")
    bench = Bench(arguments.results, arguments.images, device)
    suffix = "" if device.type == "cpu" else f"_{device.type}"
    rows: list[dict] = []
    scaled = arguments.out / f"speed_scaling{suffix}.csv"
    path = arguments.out / f"speed{suffix}.csv"
    for part in arguments.only:
        found = list(getattr(bench, part)())
        if part == "scaling":
            pd.DataFrame(found).assign(hardware=named).to_csv(scaled, index=False, float_format="%.5g")
            continue
        rows += [one | {"part": part, "hardware": named} for one in found]
        fresh = pd.DataFrame(rows)
        if path.exists():  # what this run leaves out stays as it was
            before = pd.read_csv(path)
            fresh = pd.concat([before[~before["part"].isin(fresh["part"])], fresh])
        order = {name: number for number, name in enumerate(parts)}
        fresh.sort_values("part", key=lambda names: names.map(order), kind="stable").to_csv(
            path, index=False, float_format="%.5g"
        )
    if path.exists():
        try:
            draw(pd.read_csv(path), pd.read_csv(scaled) if scaled.exists() else None, path.with_suffix(".png"))
        except ImportError:
            print("no matplotlib here: no picture", file=sys.stderr)


if __name__ == "__main__":
    main()

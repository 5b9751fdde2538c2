"""Seconds and peak memory of every stage on images that are larger than those of the shipped study.

    python benchmarks/large.py --folder FOLDER [--images 1000] [--shape 3 64 64] [--latent-dim 16] [--only STAGE ...]

It draws smooth random images, writes a study of one convolutional model and PCA into the folder, and runs one stage
after another, each as a process of its own. The peak is that of the process (``ru_maxrss``). Its processor time is that
of all its threads, which other programs on the machine change little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from ruamel.yaml import YAML
from torch.nn.functional import interpolate

from latent_atlas.data.images import Images

ROOT = Path(__file__).resolve().parents[1]


def drawn(count: int, shape: tuple[int, int, int], seed: int = 0) -> Images:
    """Smooth random images with a little noise; one in ten is a test image."""
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.empty(count, *shape, dtype=torch.uint8)
    for part in pixels.split(100):
        x = 0.5 + 0.05 * torch.randn(part.shape, generator=draw)
        for side in (2, 4, 8):
            coarse = torch.randn(len(part), shape[0], side, side, generator=draw) / side
            x += 0.3 * interpolate(coarse, shape[1:], mode="bicubic")
        part.copy_(x.clamp(0, 1).mul(255))
    labels, test = torch.arange(count) % 2, max(1, count // 10)
    return Images("smooth", pixels[test:], labels[test:], pixels[:test], labels[:test], ("even", "odd"))


def study(arguments: argparse.Namespace) -> dict:
    """The shipped study with one convolutional model and PCA of the same dimension."""
    values = YAML().load(ROOT / "params.yaml")
    k, epochs = arguments.latent_dim, arguments.epochs
    values["dataset"] |= {"name": "CIFAR10", "colour": "colour", "folder": "."}
    values["models"] = {f"conv{k}": {"architecture": "convolutional", "latent_dim": k}}
    values["training"] |= {"epochs": epochs, "batch_size": arguments.batch_size, "device": "cpu", "threads": 2}
    values["pca"]["latent_dims"] = [k]
    values["sample"] |= {"size": arguments.sample}
    values["examples"] = values["interpolate"]["pairs"] = values["tangents"]["example"] = None
    values["invariance"]["pictures"] = None
    values["invariance"]["step_study"]["example"] = values["invariance"]["epoch_study"]["example"] = None
    return values


def stages(model: str, pca: str) -> list[tuple[str, str, str]]:
    """Name of a stage, the manifold it is about, and its options."""
    found = [
        ("pca", "", "--images images --folder results/pca --checkpoints results/checkpoints"),
        ("train", model, f"--name {model} --images images --checkpoint results/checkpoints/{model}.safetensors "
         f"--curve results/train/{model}/curve.csv --snapshots results/train/{model}/snapshots.safetensors"),
        ("layers", model, f"--name {model} --checkpoint results/checkpoints/{model}.safetensors "
         f"--folder results/layers/{model}"),
        ("interpolate", "pixels", "--name pixels --images images --folder results/interpolate/pixels"),
        ("invariance-epochs", model, f"--name {model} --checkpoint results/checkpoints/{model}.safetensors "
         f"--snapshots results/train/{model}/snapshots.safetensors --curve results/train/{model}/curve.csv "
         f"--images images --folder results/invariance_epochs/{model}"),
    ]  # fmt: skip
    for name in (model, pca, f"{pca}_uncentred"):
        found += [
            (stage, name, f"--name {name} --manifold results/checkpoints/{name}.safetensors --images images "
             f"--folder results/{stage}/{name}")
            for stage in ("jacobian", "invariance", "reconstruct", "interpolate", "tangents")
        ]  # fmt: skip
    found += [
        (f"{stage}-summary", "", f"--folder results/{stage}{more}")
        for stage, more in {
            "train": "",
            "layers": "",
            "jacobian": "",
            "invariance": " --jacobians results/jacobian --epochs results/invariance_epochs",
            "reconstruct": " --images images",
            "interpolate": "",
        }.items()
    ]
    return [*found, ("report", "", "--results results --images images --folder results/report")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--shape", type=int, nargs=3, default=[3, 64, 64])
    parser.add_argument("--latent-dim", type=int, default=16)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--only", nargs="*", help="stages to run; by default all")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(study(arguments), file)
    if not (folder / "images").exists():
        drawn(arguments.images, tuple(arguments.shape)).save(folder / "images")
    rows = []
    for stage, manifold, options in stages(f"conv{arguments.latent_dim}", f"pca{arguments.latent_dim}"):
        if arguments.only and stage not in arguments.only:
            continue
        start = time.monotonic()
        command = [str(Path(sys.executable).with_name("latent-atlas")), stage, *options.split()]
        child = subprocess.Popen(command, cwd=folder, env={"OMP_NUM_THREADS": "2", **os.environ})
        status, usage = os.wait4(child.pid, 0)[1:]
        child.returncode = os.waitstatus_to_exitcode(status)
        row = {
            "stage": stage,
            "manifold": manifold,
            "seconds": round(time.monotonic() - start, 1),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_gib": round(usage.ru_maxrss / 2**20, 2),
            "exit": child.returncode,
        }
        print(row, flush=True)
        rows.append(row)
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()

"""Singular values, log volume and an angle of a decoder of 4,096 coordinates and 3 x 256 x 256 numbers, at one image.

    python benchmarks/anysize.py [--products 32] [--latent 4 32 32] [--channels 512 512 256 128] [--precision float32]

The decoder is that of a latent diffusion model with random weights (tests/helpers/latent_diffusion.py). The numbers go
to benchmarks/anysize.csv, one row each with its bound. The processor time is that of all threads, the peak that of the
process (``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import pandas as pd
import torch
from machine import processor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "helpers")]

from latent_diffusion import LatentDiffusion  # noqa: E402

from latent_atlas.geometry.krylov import VALUES  # noqa: E402
from latent_atlas.geometry.manifold import Autoencoder  # noqa: E402
from latent_atlas.geometry.tangent_spaces import measure  # noqa: E402
from latent_atlas.geometry.transformations import TRANSFORMATIONS  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--products", type=int, default=32)
    parser.add_argument("--latent", type=int, nargs=3, default=[4, 32, 32])
    parser.add_argument("--channels", type=int, nargs="+", default=[512, 512, 256, 128])
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", type=Path, default=ROOT / "benchmarks" / "anysize.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    channels, height, width = arguments.latent
    times = 2 ** (len(arguments.channels) - 1)
    shape = (3, height * times, width * times)
    network = LatentDiffusion((channels, height, width), channels=arguments.channels)
    surface = Autoencoder(network.to(getattr(torch, arguments.precision)), channels * height * width, shape)
    image = torch.randint(0, 256, (1, *shape), dtype=torch.uint8)
    print(f"made and tried: {time.process_time():.0f} s of processor time", flush=True)
    start, used = time.monotonic(), time.process_time()
    moves = {"rotation": (TRANSFORMATIONS["rotation"], 1.0)}
    found = measure(surface, image, moves, exact_up_to=0, products=arguments.products)
    ((spectrum, _, angles),) = found.limits
    common = {
        "k": spectrum.dimension,
        "numbers_of_an_image": surface.pixel_count,
        "precision": arguments.precision,
        "products": spectrum.products,
        "seconds": round(time.monotonic() - start),
        "processor_seconds": round(time.process_time() - used),
        "threads": arguments.threads,
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "processor": processor(),
    }
    rows = [
        {"quantity": f"singular value {i}", "value": float(value), "bound": float(bound), "kind": "residual"}
        for i, (value, bound) in enumerate(zip(spectrum.values[:VALUES], spectrum.bounds, strict=False), 1)
    ]
    rows += [
        {"quantity": "largest singular value", "value": spectrum.sigma_max_high, "kind": "upper limit, 99.9%"},
        {"quantity": "smallest singular value", "value": spectrum.sigma_min_high, "kind": "upper limit"},
        {"quantity": "rank", "value": spectrum.rank_low, "kind": "lower limit"},
        {"quantity": "rank", "value": spectrum.rank_high, "kind": "upper limit"},
    ]
    for name in ("log_volume", "effective_rank", "participation_ratio"):
        rows += [
            {
                "quantity": name,
                "value": getattr(spectrum, name),
                "bound": spectrum.error(name),
                "kind": "95%, sampling",
            },
            {"quantity": f"{name}, change by the last block", "value": spectrum.change(name), "kind": "no bound"},
        ]
    rows += [
        {"quantity": "angle of rotation, degrees", "value": float(angles.high_deg[0]), "kind": "upper limit"},
        {"quantity": "residual of the angle", "value": float(angles.residual[0]), "kind": "least squares"},
    ]
    table = pd.DataFrame(rows)[["quantity", "value", "bound", "kind"]].assign(**common)
    table.to_csv(arguments.table, index=False, float_format="%.8g")
    print(table[["quantity", "value", "bound", "kind"]].to_string(index=False))
    print(common)


if __name__ == "__main__":
    main()

"""Ways to compute a transposed convolution on a CPU, for the choices in ``latent_atlas/kernels/convolutions.py``.

    python benchmarks/convolutions.py [--only AVX512 AVX2] [--out benchmarks/convolutions.csv]

One thread, float32 and float64, by each set of vector instructions that the processor has. A processor with AVX-512 is
limited to AVX2 by the environment variables of :data:`LIMITS`; one that has AVX2 alone has other clocks and caches.
Times are of the thread's own processor time, the least of some rounds in which all ways take turns, so that other
programs on the machine change them little. The floor is the necessary arithmetic at the rate of a product of two
matrices of 2,048 in the same process. Rows of other processors stay in the table.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from machine import processor
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_shuffle

from latent_atlas.kernels import convolutions
from latent_atlas.kernels.allocation import keep_freed_memory

LIMITS = {
    "AVX512": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
LAYERS = {  # channels in and out, side of the image, of the kernel
    "middle": (8, 32, 20, 5),
    "last": (32, 1, 24, 5),
    "first": (16, 8, 1, 20),
    "last, colour": (32, 3, 60, 5),
    "16 channels": (16, 16, 16, 3),
    "64 channels": (64, 64, 8, 3),
}
STRIDED = (64, 32, 8, 4)  # with a stride of 2 and a padding of 1
BYTES = 8 * 2**20  # of the result or the input, whichever is larger: half a chunk of tangents
KEY = ["processor", "capability"]

Way = Callable[[Tensor, Tensor], Tensor]


def flipped(weight: Tensor) -> Tensor:
    """The kernel (O, I, K, L) of the convolution with a margin: (I, O, K, L)."""
    return weight.flip(2, 3).transpose(0, 1)


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def margin_of_zeros(x: Tensor, weight: Tensor) -> Tensor:
    """The margin is written into memory, and the convolution has no padding."""
    kernel_h, kernel_w = weight.shape[2:]
    return conv2d(pad(x, (kernel_w - 1, kernel_w - 1, kernel_h - 1, kernel_h - 1)), flipped(weight))


def all_patches(x: Tensor, weight: Tensor) -> Tensor:
    """One product with all patches of the image with a margin."""
    kernel_h, kernel_w = weight.shape[2:]
    height, width = x.shape[2] + kernel_h - 1, x.shape[3] + kernel_w - 1
    x = pad(x, (kernel_w - 1, kernel_w - 1, kernel_h - 1, kernel_h - 1))
    windows = x.unfold(2, height, 1).unfold(3, width, 1).flatten(4).flatten(1, 3)  # N x O·K·L x H'·W'
    return torch.bmm(flipped(weight).flatten(1).expand(len(x), -1, -1), windows).unflatten(2, (height, width))


def offsets(x: Tensor, weight: Tensor) -> Tensor:
    """A product for each pixel of the kernel, added where it falls: rows are as wide as the result's."""
    kernel_h, kernel_w = weight.shape[2:]
    height, width = x.shape[2] + kernel_h - 1, x.shape[3] + kernel_w - 1
    rows = pad(x, (0, kernel_w - 1)).flatten(2)  # N x O x H·W'
    y = x.new_zeros(len(x), weight.shape[1], height * width + kernel_w - 1)
    for i in range(kernel_h):
        for j in range(kernel_w):
            start = i * width + j
            y[:, :, start : start + rows.shape[2]].baddbmm_(weight[:, :, i, j].T.expand(len(x), -1, -1), rows)
    return y[:, :, : height * width].unflatten(2, (height, width))


def rows_channels_last(x: Tensor, weight: Tensor) -> Tensor:
    """A product for each row of the kernel over pixels by channels, eight images at a time."""
    kernel_h, kernel_w = weight.shape[2:]
    height, width = x.shape[2] + kernel_h - 1, x.shape[3] + kernel_w - 1
    rows = weight.flip(3).permute(2, 3, 0, 1).flatten(1, 2)  # K x L·O x I
    y = x.new_zeros(len(x), height * width, weight.shape[1])
    for some, into in zip(x.split(8), y.split(8), strict=True):
        windows = pad(some.permute(0, 2, 3, 1), (0, 0, kernel_w - 1, kernel_w - 1)).unfold(2, kernel_w, 1)
        windows = windows.transpose(3, 4).flatten(3).flatten(1, 2)  # n x H·W' x L·O
        for i, row in enumerate(rows):
            into[:, i * width : (i + x.shape[2]) * width].baddbmm_(windows, row.expand(len(some), -1, -1))
    return y.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def blocks(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution to the 4×4 pixels of a block, each of them a channel, channels last."""
    kernel_h, kernel_w = weight.shape[2:]
    shifted = [pad(flipped(weight), (j, 3 - j, i, 3 - i)) for i in range(4) for j in range(4)]
    kernels = last(torch.stack(shifted, 1).flatten(0, 1))  # I·16 x O x K+3 x L+3
    return pixel_shuffle(conv2d(last(x), kernels, stride=4, padding=(kernel_h - 1, kernel_w - 1)), 4).contiguous()


WAYS: dict[str, Way] = {
    "library": conv_transpose2d,
    "library, channels last": lambda x, w: conv_transpose2d(last(x), last(w)),
    "margin": convolutions._with_margin,
    "margin, channels last": lambda x, w: conv2d(last(x), last(flipped(w)), padding=(w.shape[2] - 1, w.shape[3] - 1)),
    "margin of zeros": margin_of_zeros,
    "a product for each row": convolutions._by_rows,
    "the same, channels last": rows_channels_last,
    "a product for each offset": offsets,
    "one product with all patches": all_patches,
    "one product, then sums": lambda x, w: convolutions._folded(x, w),
    "as the project": convolutions.conv_transpose2d_valid,
}


def four_parts(x: Tensor, weight: Tensor) -> Tensor:
    """A stride of 2 as four convolutions, one for each parity of the rows and columns, which add no zeros."""
    y = x.new_empty(len(x), weight.shape[1], 2 * x.shape[2], 2 * x.shape[3])
    for i in range(2):
        for j in range(2):
            part = conv2d(pad(x, (1 - j, j, 1 - i, i)), flipped(weight[:, :, 1 - i :: 2, 1 - j :: 2]))
            y[:, :, i::2, j::2] = part
    return y


def least(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least processor time of each, in rounds in which they take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):  # the first is not counted
        for name, work in works.items():
            start = time.thread_time()
            work()
            times[name].append(time.thread_time() - start)
    return {name: min(taken[1:]) for name, taken in times.items()}


def capability() -> str:
    """The vector instructions that torch uses, and whether the processor has more."""
    used, cpuinfo = torch.backends.cpu.get_cpu_capability(), Path("/proc/cpuinfo")
    more = used != "AVX512" and cpuinfo.exists() and " avx512f" in cpuinfo.read_text(encoding="utf-8")
    return f"{used} on a processor with AVX-512" if more else used


def measured(rounds: int) -> list[dict]:
    """All rows of this process."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    keep_freed_memory()
    rows = []
    for dtype in (torch.float32, torch.float64):
        a = torch.randn(2048, 2048, dtype=dtype)
        rate = 2 * 2048**3 / least({"product": functools.partial(torch.matmul, a, a)}, rounds)["product"]
        for layer, (into, out, side, kernel) in (LAYERS | {"stride 2": STRIDED}).items():
            weight = torch.randn(into, out, kernel, kernel, dtype=dtype)
            count = BYTES // (weight.element_size() * max(into * side**2, out * (side + kernel - 1) ** 2))
            x = torch.randn(min(count, 512), into, side, side, dtype=dtype)
            if layer == "stride 2":
                ways: dict[str, Way] = {
                    "library": lambda x, w: conv_transpose2d(x, w, stride=2, padding=1),
                    "library, channels last": lambda x, w: conv_transpose2d(last(x), last(w), stride=2, padding=1),
                    "four convolutions": four_parts,
                }
            else:
                ways = WAYS if side > 1 else {n: WAYS[n] for n in ("library", "as the project")}
                if out <= convolutions.THIN and (side + kernel - 1) % 4 == 0:
                    ways = ways | {"blocks of 4×4": blocks}
            expected = ways["library"](x.double(), weight.double())
            near = 1e-12 if dtype == torch.float64 else 1e-5
            works: dict[str, Callable[[], object]] = {}
            for name, way in ways.items():
                assert (way(x, weight) - expected).abs().max() < near * into * kernel**2, name
                works[name] = functools.partial(way, x, weight)
            del expected
            floor = 2 * weight.numel() * side**2 / rate
            for name, seconds in least(works, rounds).items():
                each = seconds / len(x)
                rows.append({
                    "processor": processor(), "capability": capability(), "dtype": str(dtype).removeprefix("torch."),
                    "layer": layer, "in": into, "out": out, "side": side, "kernel": kernel, "way": name,
                    "us_an_image": 1e6 * each, "over_floor": each / floor, "gflops_of_product": rate / 1e9,
                })  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(LIMITS), default=tuple(LIMITS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--here", action="store_true", help="measure in this process, with its environment")
    arguments = parser.parse_args()
    if not arguments.here:
        for name in arguments.only:
            command = [sys.executable, __file__, "--here", "--rounds", str(arguments.rounds), "--out", arguments.out]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | LIMITS[name], check=True)
        return
    table = pd.DataFrame(measured(arguments.rounds))
    if arguments.out.exists():  # rows of other processors stay
        before = pd.read_csv(arguments.out)
        same = (before[KEY] == table[KEY].iloc[0]).all(axis=1)
        table = pd.concat([before[~same], table])
    table.to_csv(arguments.out, index=False, float_format="%.4g")
    print(table.to_string())


if __name__ == "__main__":
    main()

"""Training of the convolutional autoencoder on one thread: where a step's time goes, and the time to a test error.

    OMP_NUM_THREADS=1 python benchmarks/training.py [--only PART ...] [--packages FOLDER]

The optimizers ``soap`` and ``schedule-free`` are those of the packages pytorch_optimizer and schedulefree, which are no
requirements of this project: ``pip install --no-deps --target FOLDER pytorch_optimizer schedulefree``. Without them
their rows are left out. The part ``passes`` needs a C++ compiler. The parts of a step are shares of the wall-clock time
of a profile. Writes ``training.csv``; rows of other processors stay there.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import baseline
import pandas as pd
import torch
from convolutions import capability
from machine import processor
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from latent_atlas.data.images import Images, as_float
from latent_atlas.kernels.allocation import keep_freed_memory
from latent_atlas.kernels.convolutions import faster
from latent_atlas.models import registry
from latent_atlas.training.loop import mean_error, train
from latent_atlas.training.reproducible import reproducible
from latent_atlas.training.schedule import Schedule, one_cycle

HERE = Path(__file__).parent
CPU, LAST = torch.device("cpu"), torch.channels_last
BATCH, RATE = 64, 7e-3
EPOCHS = 10  # after which the baseline has the error of Adam's default schedule, 0.0122 (speed.csv)
KINDS = {  # of operations, by words of their names
    "convolutions and products": ("convolution", "aten::mm", "aten::bmm", "aten::addmm"),
    "BatchNorm": ("batch_norm",),
    "ELU": ("elu",),
    "optimizer": ("Optimizer.", "fused_adam", "lerp"),
}
OPTIMIZERS = [  # name, epochs, batch, learning rate
    ("adam", 3, 64, 7e-3), ("muon", 1, 64, 7e-3), ("muon", 1.1, 64, 7e-3), ("muon", 1, 64, 2e-2), ("muon", 1, 32, 7e-3),
    ("muon", 3, 64, 7e-3), ("adam", 1, 64, 7e-3), ("adam", 1, 32, 7e-3), ("soap", 1, 64, 1.4e-2),
    ("schedule-free", 1, 64, 1.4e-2),
]  # fmt: skip


def build(k: int = 16) -> nn.Module:
    return registry.build("convolutional", (1, 28, 28), k, {})


def _last(model: nn.Module) -> nn.Module:
    """A network with its weights channels last."""
    placed: Any = model  # torch declares this option for tensors alone
    return placed.to(memory_format=LAST)


def timed(work: Callable[[], object], times: int = 30) -> float:
    """Processor time of a call in milliseconds, the least of three rounds."""
    work()
    rounds = []
    for _ in range(3):
        start = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - start) / times * 1e3)
    return min(rounds)


def step(images: Images) -> Iterator[dict[str, Any]]:
    """Where the time of a step goes, and its arithmetic at the rate of a large product."""
    with reproducible(CPU, 0):
        model = _last(build()).train()
        x = as_float(images.train[:BATCH]).to(memory_format=LAST)
        with FlopCounterMode(display=False) as counter:
            mse_loss(model(x), x).backward()
        with faster(model):
            for name in ("adam", "muon"):
                schedule = Schedule(3, BATCH, RATE, "float32", 0, optimizer=name)
                optimizer, _ = one_cycle(model, schedule, 10_000, CPU)

                def one(optimizer: torch.optim.Optimizer = optimizer) -> None:
                    optimizer.zero_grad(set_to_none=True)
                    mse_loss(model(x), x).backward()
                    optimizer.step()

                whole = timed(one)
                yield {"work": f"a step with {name}", "processor_ms": whole}
                if name == "adam":
                    with profile(activities=[ProfilerActivity.CPU]) as found:
                        for _ in range(30):
                            one()
                    own = {e.key: e.self_cpu_time_total for e in found.key_averages()}
                    rest = whole
                    for kind, words in KINDS.items():
                        part = sum(t for key, t in own.items() if any(w in key for w in words)) / sum(own.values())
                        rest -= part * whole
                        yield {"work": f"of it {kind}", "processor_ms": part * whole}
                    yield {"work": "of it the rest", "processor_ms": rest}
    wide, weight = torch.randn(16, 512, 20, 20).to(memory_format=LAST), torch.randn(512, 512, 1, 1)
    with torch.no_grad():
        product = timed(lambda: torch.conv2d(wide, weight), 5)
    floor = counter.get_total_flops() / (2 * 16 * 400 * 512**2) * product
    yield {"work": "the arithmetic of its convolutions, at the rate of a large one", "processor_ms": floor}


def passes(images: Images) -> Iterator[dict[str, Any]]:
    """BatchNorm and ELU by torch, by torch.compile and in one function of C++, forward and forward with backward."""
    ways: dict[str, Callable[[nn.BatchNorm2d], Callable[[Tensor], Tensor]]] = {
        "torch": lambda norm: lambda x: nn.functional.elu(norm(x)),
        "torch.compile": lambda norm: torch.compile(lambda x: nn.functional.elu(norm(x)), dynamic=False),
    }
    if capability() == "AVX512":
        ways["C++"] = _compiled()
    for channels, side in ((32, 24), (8, 20)):
        norm = nn.BatchNorm2d(channels)
        x = torch.randn(BATCH, channels, side, side).to(memory_format=LAST).requires_grad_()
        gradient = torch.randn(x.shape).to(memory_format=LAST)
        for name, way in ways.items():
            function = way(norm)
            torch.testing.assert_close(function(x), ways["torch"](norm)(x), rtol=0, atol=1e-4)
            work = f"BatchNorm and ELU of {channels}x{side}x{side}, {name}"
            yield {"work": f"{work}, forward", "processor_ms": timed(functools.partial(function, x))}
            both = timed(functools.partial(_both, function, x, gradient))
            yield {"work": f"{work}, with backward", "processor_ms": both}


def _both(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> None:
    function(x).backward(gradient)


def _compiled() -> Callable[[nn.BatchNorm2d], Callable[[Tensor], Tensor]]:
    from torch.utils.cpp_extension import load

    flags = ["-O3", "-march=native", "-DCPU_CAPABILITY_AVX512", "-DCPU_CAPABILITY=AVX512"]
    source, folder = HERE / "batchnorm_elu.cpp", tempfile.mkdtemp()
    built = load("batchnorm_elu", [str(source)], extra_cflags=flags, build_directory=folder)

    class Both(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, norm_weight: Tensor, norm_bias: Tensor) -> Tensor:
            y, mean, scale = built.forward(x, norm_weight, norm_bias, 1e-5)
            context.save_for_backward(x, y, norm_weight, mean, scale)
            return y

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
            return tuple(built.backward(gradients[0].contiguous(memory_format=LAST), *context.saved_tensors))

    return lambda norm: lambda x: Both.apply(x, norm.weight, norm.bias)


def optimizers(images: Images) -> Iterator[dict[str, Any]]:
    """Test error and time of trainings of conv16."""
    for name, epochs, batch, rate in OPTIMIZERS:
        if name in ("adam", "muon"):
            steps = round(epochs * math.ceil(len(images.train) / batch))
            yield ours(images, 16, Schedule(None, batch, rate, "float32", 0, steps=steps, optimizer=name))
            continue
        try:
            yield theirs(images, name, int(epochs), batch, rate)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)


def ours(images: Images, k: int, schedule: Schedule) -> dict[str, Any]:
    """A training as the project does it."""
    clock, wall = time.process_time(), time.perf_counter()
    error = train(lambda: build(k), images, schedule, CPU).curve["test_mse"].iloc[-1]
    return _row(f"conv{k}, {schedule.optimizer}", images, schedule, error, clock, wall)


def theirs(images: Images, name: str, epochs: int, batch: int, rate: float) -> dict[str, Any]:
    """The same training with an optimizer of a package."""
    schedule = Schedule(epochs, batch, rate, "float32", 0)
    batches, steps, *_ = schedule.length(len(images.train))
    optimizer: Any
    cycle: Any = None
    order = torch.Generator().manual_seed(0)
    with reproducible(CPU, 0):
        model = _last(build()).train()
        clock, wall = time.process_time(), time.perf_counter()
        if name == "soap":
            from pytorch_optimizer import SOAP

            optimizer = SOAP(model.parameters(), lr=rate, betas=(0.95, 0.99), weight_decay=0, max_precondition_dim=1000)
            cycle = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, rate, steps, cycle_momentum=False, final_div_factor=1e4
            )
        else:
            from schedulefree import AdamWScheduleFree

            optimizer = AdamWScheduleFree(model.parameters(), lr=rate, betas=(0.95, 0.99), warmup_steps=200)
            optimizer.train()
        with faster(model):
            for _ in range(epochs):
                for index in torch.randperm(len(images.train), generator=order).tensor_split(batches):
                    x = as_float(images.train[index]).to(memory_format=LAST)
                    optimizer.zero_grad()
                    mse_loss(model(x), x).backward()
                    optimizer.step()
                    if cycle is not None:
                        cycle.step()
            if cycle is None:  # the weights are averages now, whose running statistics are computed anew
                optimizer.eval()
                for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)):
                    norm.reset_running_stats()
                    norm.momentum = None
                with torch.no_grad():
                    for part in images.train[:4000].split(200):
                        model(as_float(part).to(memory_format=LAST))
        error = mean_error(model, images.test, LAST)
    return _row(f"conv16, {name}", images, schedule, error, clock, wall)


def progressive(images: Images) -> Iterator[dict[str, Any]]:
    """Trainings by Muon of which a share of the steps takes smaller images, against the whole at one size.

    The two kernels that are as large as what the other convolutions leave of the image are resized with it.
    """
    for epochs in (1.0, 1.5):
        for side, share in ((28, 0.0), (20, 0.3), (20, 0.6), (16, 0.3)):
            steps = round(epochs * math.ceil(len(images.train) / BATCH))
            schedule = Schedule(None, BATCH, 2e-2, "float32", 0, steps=steps, optimizer="muon")
            clock, wall = time.process_time(), time.perf_counter()
            error = _of_two_sizes(images, schedule, side, round(share * steps))
            work = f"conv16, muon, {share:.0%} of the steps with images of {side}x{side}" if share else "conv16, muon"
            yield _row(work, images, schedule, error, clock, wall)


def _of_two_sizes(images: Images, schedule: Schedule, side: int, change: int) -> float:
    """The test error after so many steps with smaller images and the rest of the schedule with whole ones."""
    batches, steps, *_ = schedule.length(len(images.train))
    order = torch.Generator().manual_seed(0)
    with reproducible(CPU, 0):
        model = registry.build("convolutional", (1, side, side), 16, {}) if change else build()
        optimizer, cycle, done = None, None, 0
        while done < steps:
            for index in torch.randperm(len(images.train), generator=order).tensor_split(batches)[: steps - done]:
                if done in (0, change):
                    model = _at_whole_size(model) if done == change else model
                    model = _last(model).train()
                    optimizer, cycle = one_cycle(model, schedule, steps, CPU)
                    with warnings.catch_warnings():  # of a schedule that goes on where the other one stopped
                        warnings.simplefilter("ignore")
                        for _ in range(done):
                            cycle.step()
                x = as_float(images.train[index])  # B x 1 x 28 x 28
                if done < change:
                    x = nn.functional.interpolate(x, (side, side), mode="bilinear", antialias=True)
                assert optimizer is not None
                assert cycle is not None
                optimizer.zero_grad(set_to_none=True)
                with faster(model):
                    x = x.to(memory_format=LAST)
                    mse_loss(model(x), x).backward()
                optimizer.step()
                cycle.step()
                done += 1
        return mean_error(model, images.test, LAST)


def _at_whole_size(small: nn.Module) -> nn.Module:
    """The network of whole images with the weights of one of smaller images; its output changes as little as may be."""
    whole = build()
    state = small.state_dict()
    for name, weight in whole.state_dict().items():
        if state[name].shape != weight.shape:  # a kernel as large as what is left of the image
            resized = nn.functional.interpolate(state[name], weight.shape[2:], mode="bilinear")
            if name.startswith("encoder"):  # of which each code is the sum
                resized *= state[name][0, 0].numel() / weight[0, 0].numel()
            state[name] = resized
    whole.load_state_dict(state)
    return whole


def _row(
    work: str, images: Images, schedule: Schedule, error: float, clock: float, wall: float
) -> dict[str, Any]:  # fmt: skip
    length = schedule.length(len(images.train))
    return {
        "work": work, "epochs": round(length.steps / length.batches, 2), "batch": schedule.batch_size,
        "learning_rate": schedule.peak_learning_rate, "test_mse": error,
        "processor_s": time.process_time() - clock, "wall_s": time.perf_counter() - wall,
    }  # fmt: skip


def against_baseline(images: Images) -> Iterator[dict[str, Any]]:
    """The loop of tutorials: its time for 200 steps, and for the epochs after which it has the error of the others."""
    marks = {}

    def stop(step: int) -> bool:
        marks[step] = time.process_time(), time.perf_counter()
        return step == 210

    next(baseline.epochs(build, images.train, stop))
    clock, wall = (
        (last - first) / 200 * len(images.train) / 100 for first, last in zip(marks[10], marks[210], strict=True)
    )
    yield {
        "work": "conv16, baseline", "epochs": EPOCHS, "batch": 100, "learning_rate": 1e-3,
        "processor_s": clock * EPOCHS, "wall_s": wall * EPOCHS, "note": f"200 steps, times {EPOCHS * 3}",
    }  # fmt: skip


def models(images: Images) -> Iterator[dict[str, Any]]:
    """The other convolutional models of the default study, three epochs with each optimizer."""
    for k in (32, 128):
        for name in ("adam", "muon"):
            yield ours(images, k, Schedule(3, BATCH, RATE, "float32", 0, optimizer=name))


PARTS = {
    "step": step, "passes": passes, "optimizers": optimizers, "baseline": against_baseline, "models": models,
    "progressive": progressive,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("data/images.safetensors"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--packages", type=Path, help="folder of the packages pytorch_optimizer and schedulefree")
    parser.add_argument("--out", type=Path, default=HERE / "training.csv")
    arguments = parser.parse_args()
    if arguments.packages:
        sys.path.append(str(arguments.packages))
    keep_freed_memory()
    images = Images.load(arguments.images)
    named = f"{processor()}, {torch.get_num_threads()} threads"
    key = ["part", "hardware", "capability"]
    for part in arguments.only:
        rows = []
        for row in PARTS[part](images):
            print(row, flush=True)
            rows.append({"part": part} | row | {"hardware": named, "capability": capability()})
        fresh = pd.DataFrame(rows)
        if arguments.out.exists():  # what this run leaves out stays as it was
            before = pd.read_csv(arguments.out)
            again = before[key].agg("|".join, axis=1).isin(fresh[key].agg("|".join, axis=1))
            fresh = pd.concat([before[~again], fresh])
        fresh.to_csv(arguments.out, index=False, float_format="%.5g")


if __name__ == "__main__":
    main()

"""Training an autoencoder on images that stay in memory.

The images lie on the device as one uint8 tensor; a batch is gathered and converted there, so that no
loader stands between the data and the network. Adam under a one-cycle schedule (Smith & Topin, 2018) on the
mean squared error.

What was measured on FashionMNIST, with which schedule and how often, is in ``docs/training.md``.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import TrainingError
from latent_atlas.files import atomic_write
from latent_atlas.kernels.allocation import keep_freed_memory
from latent_atlas.training.devices import describe

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
ADAM_BETAS = (0.9, 0.99)
RISE = 0.3  # share of the steps in which the learning rate rises
START_FACTOR, END_FACTOR = 25, 1e4  # peak / first, first / last learning rate
DIVERGED = 1.5  # times the untrained error


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    epochs : int
        Passes over the training images.
    batch_size : int
        Images a step, at most: an epoch is cut into batches of equal size, give or take one image.
    peak_learning_rate : float
        The highest learning rate of the one-cycle schedule.
    precision : {"float32", "bfloat16"}
        Of the network's arithmetic while it trains (autocast); weights are float32 in either case.
    seed : int
        Of the initial weights and of the order of the images.
    """

    epochs: int
    batch_size: int
    peak_learning_rate: float
    precision: str
    seed: int


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever watches it."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    images_per_second: float
    seconds_left: float


class Trained(NamedTuple):
    """What a training gives.

    Attributes
    ----------
    model : nn.Module
        In eval mode, on the CPU, in float32.
    curve : DataFrame
        One row an epoch: ``epoch, step, learning_rate, train_mse`` (mean over the epoch, while it
        learns), ``test_mse`` (after the epoch).
    snapshots : list of mapping of str to tensor
        The state dict after each epoch, on the CPU.
    """

    model: nn.Module
    curve: pd.DataFrame
    snapshots: list[dict[str, Tensor]]


def train(
    build: Callable[[], nn.Module],
    images: Images,
    schedule: Schedule,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    resume: Path | None = None,
) -> Trained:
    """Train a fresh autoencoder to reconstruct the training images.

    The same arguments on the same machine give the same weights to the last bit, whether the training
    ran through or was interrupted and resumed.

    Parameters
    ----------
    build : callable
        Gives the network with fresh weights, from torch's global random generator.
    images : Images
    schedule : Schedule
    device : torch.device
    report : callable, optional
        Called a few times a minute with a :class:`Progress`.
    resume : Path, optional
        Where to keep the state after each epoch; found there, a training of the same arguments goes on
        from it, and the file is removed at the end.

    Returns
    -------
    Trained
        The network, its learning curve and its state after each epoch.

    Raises
    ------
    TrainingError
        If the loss is not a number or grows beyond that of the untrained network.
    """
    _be_deterministic(device)
    keep_freed_memory()
    torch.manual_seed(schedule.seed)
    model = _placed(build(), device).train()
    order = torch.Generator().manual_seed(schedule.seed)
    pixels, test = images.train.to(device), images.test.to(device)
    if len(pixels) < 2:
        raise TrainingError(f"{images.name} has {len(pixels)} training images here; BatchNorm needs at least two")
    batches = min(math.ceil(len(pixels) / schedule.batch_size), len(pixels) // 2)  # none of a single image
    steps = batches * schedule.epochs
    optimizer = torch.optim.Adam(
        model.parameters(), lr=schedule.peak_learning_rate, betas=ADAM_BETAS, fused=device.type != "mps"
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        schedule.peak_learning_rate,
        total_steps=max(steps, 2),
        pct_start=RISE,
        div_factor=START_FACTOR,
        final_div_factor=END_FACTOR,
    )
    state = _State(resume, _fingerprint(model, images, schedule, device), model, optimizer, cycle, order, device)
    done = state.restore() or _Done(mean_error(model, test), [], [])
    clock = _Clock(steps - len(done.curve) * batches)
    for epoch in range(len(done.curve), schedule.epochs):
        total = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        seen = 0
        for number, index in enumerate(torch.randperm(len(pixels), generator=order).tensor_split(batches)):
            x = _placed(as_float(pixels.index_select(0, index.to(device))), device)  # B x C x H x W
            with _autocast(device, schedule.precision):
                y = model(x)
            loss = mse_loss(y.float(), x)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            cycle.step()
            total += loss.detach() * len(index)
            seen += len(index)
            clock.tick(len(index))
            if clock.due or number + 1 == batches:
                step = epoch * batches + number + 1
                mean = float(total) / seen
                _check(mean, done.start_error, epoch + 1, float(rate))
                speed, left = clock.read()
                report(Progress(epoch + 1, schedule.epochs, step, steps, mean, speed, left))
        last_rate = float(rate)
        done.curve.append(
            {
                "epoch": epoch + 1,
                "step": (epoch + 1) * batches,
                "learning_rate": last_rate,
                "train_mse": float(total) / len(pixels),
                "test_mse": mean_error(model, test),
            }
        )
        done.snapshots.append(
            {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in model.state_dict().items()
            }
        )
        state.store(done)
    state.remove()
    plain = model.cpu().to(memory_format=torch.contiguous_format).eval()
    return Trained(plain, pd.DataFrame(done.curve).astype({"epoch": int, "step": int}), done.snapshots)


def mean_image_error(images: Images) -> float:
    """Mean squared error per pixel on the test images of always drawing the mean training image."""
    mean = images.train.double().mean(0).div_(255)  # C x H x W
    total = sum(float((as_float(part, torch.float64) - mean).square().sum()) for part in images.test.split(1000))
    return total / images.test.numel()


@torch.no_grad()
def mean_error(model: nn.Module, pixels: Tensor) -> float:
    """Mean squared error per pixel of a network on uint8 images (N, C, H, W), in eval mode and float32."""
    was_training = model.training
    model.eval()
    total = 0.0
    for part in pixels.split(1000):
        x = _placed(as_float(part), part.device)
        total += float(mse_loss(model(x), x, reduction="sum"))
    model.train(was_training)
    return total / pixels.numel()


def _be_deterministic(device: torch.device) -> None:
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")
    # a guard against bugs, which costs a pass over memory for every tensor
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _placed(thing: Any, device: torch.device) -> Any:
    """A module or a batch on the device, channels last: the layout in which convolutions are fastest."""
    return thing.to(device).to(memory_format=torch.channels_last)


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    dtype = PRECISIONS[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _check(loss: float, start_error: float, epoch: int, rate: float) -> None:
    if not math.isfinite(loss):
        what = f"the loss is {loss}"
    elif loss > DIVERGED * start_error:
        what = f"the loss {loss:.4g} is far above the untrained network's {start_error:.4g}"
    else:
        return
    raise TrainingError(
        f"training diverged in epoch {epoch}: {what}, at learning rate {rate:.3g}; "
        f"lower training.peak_learning_rate in params.yaml"
    )


def _fingerprint(model: nn.Module, images: Images, schedule: Schedule, device: torch.device) -> str:
    """What a stored state must share with a training to belong to it: code and fresh weights included."""
    digest = hashlib.sha256(json.dumps(asdict(schedule), sort_keys=True).encode())
    for module in (sys.modules[__name__], inspect.getmodule(type(model))):
        with contextlib.suppress(OSError, TypeError):  # a class typed at a prompt has no source
            digest.update(inspect.getsource(module).encode() if module else b"")
    digest.update(
        f"{describe(device)} {torch.__version__} {torch.get_num_threads()} {images.checksum} {model}".encode()
    )
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Done(NamedTuple):
    """What whole epochs have left behind."""

    start_error: float
    curve: list[dict[str, float]]
    snapshots: list[dict[str, Tensor]]


class _State:
    """The state of a training after an epoch, in a file."""

    def __init__(
        self,
        path: Path | None,
        fingerprint: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        cycle: torch.optim.lr_scheduler.OneCycleLR,
        order: torch.Generator,
        device: torch.device,
    ) -> None:
        self.path, self.fingerprint, self.device = path, fingerprint, device
        self.model, self.optimizer, self.cycle, self.order = model, optimizer, cycle, order

    def store(self, done: _Done) -> None:
        if self.path is None:
            return
        state = {
            "fingerprint": self.fingerprint,
            **done._asdict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "cycle": {"last_epoch": self.cycle.last_epoch, "_step_count": self.cycle._step_count},
            "order": self.order.get_state(),
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        with atomic_write(self.path) as aside:
            torch.save(state, aside)

    def restore(self) -> _Done | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception:  # a damaged state is worth no more than none
            return None
        if not isinstance(state, dict) or state.get("fingerprint") != self.fingerprint:
            return None
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.cycle.load_state_dict(state["cycle"])
        self.order.set_state(state["order"])
        torch.set_rng_state(state["generator"])
        if state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)
        return _Done(state["start_error"], state["curve"], state["snapshots"])

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class _Clock:
    """Speed and time left, and when it is time to say so."""

    def __init__(self, steps: int, every_seconds: float = 10.0) -> None:
        self.start = self.last = time.monotonic()
        self.every, self.steps = every_seconds, steps
        self.done = self.images = 0

    def tick(self, images: int) -> None:
        self.done += 1
        self.images += images

    @property
    def due(self) -> bool:
        return time.monotonic() - self.last > self.every

    def read(self) -> tuple[float, float]:
        self.last = time.monotonic()
        spent = self.last - self.start
        return self.images / spent, spent / self.done * (self.steps - self.done)

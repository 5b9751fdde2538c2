"""Training an autoencoder on images that stay in memory.

The images lie on the device as one uint8 tensor; a batch is selected and converted there, so that no
loader stands between the data and the network. Adam or Muon under a one-cycle schedule (Smith & Topin, 2018) minimizes
the objective.

What was measured on FashionMNIST, with which schedule and how often, is in ``docs/training.md``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import TrainingError, counted
from latent_atlas.kernels.convolutions import faster
from latent_atlas.training.means import Means
from latent_atlas.training.objectives import objective
from latent_atlas.training.rehearsal import autocast, rehearse
from latent_atlas.training.reproducible import reproducible
from latent_atlas.training.schedule import Schedule, one_cycle
from latent_atlas.training.state import Done, State, fingerprint

EVALUATED = 784_000  # numbers of the images that are evaluated at once
SNAPSHOTS = 10  # at most, if the schedule does not say how many
DIVERGED = 1.5  # times the untrained error
NOISE_STREAM = 0x9E3779B97F4A7C15  # sets the random numbers of the objective apart from those of the order


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
        One row an epoch, or every few epochs of more than a hundred: ``epoch, step, learning_rate, train_loss`` (of the
        objective, and after it the objective's metrics: running means since the last row, while the network learns),
        ``train_mse`` and ``test_mse`` (after the epoch, in eval mode; the first on the first as many training images as
        there are test images).
    snapshots : mapping of int to mapping of str to tensor
        By epoch of a row, the state dict after it, on the CPU.
    """

    model: nn.Module
    curve: pd.DataFrame
    snapshots: dict[int, dict[str, Tensor]]


def train(
    build: Callable[[], nn.Module],
    images: Images,
    schedule: Schedule,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    resume: Path | None = None,
    on_resume: Callable[[int], None] = lambda epochs: None,
) -> Trained:
    """Train a fresh autoencoder to reconstruct the training images.

    The same arguments on the same machine give the same weights to the last bit, whether the training
    ran through or was interrupted and resumed. Torch's global settings and random generators are afterwards as they
    were before.

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
        Where to keep the state after each row, with a folder beside it for the snapshots. A training of the same
        arguments and the same code goes on from it, also at the end. Once what the training gave is in place,
        :func:`latent_atlas.training.state.remove` removes both.
    on_resume : callable, optional
        Called with the number of epochs already done, when a stored training goes on.

    Returns
    -------
    Trained
        The network, its learning curve and its snapshots.

    Raises
    ------
    TrainingError
        If the loss is not a number, or the test error grows far beyond that of the untrained network.
    """
    with reproducible(device, schedule.seed):
        model = build()
        with faster(model):
            return _train(build, model, images, schedule, device, report, resume, on_resume)


def _train(
    build: Callable[[], nn.Module],
    model: nn.Module,
    images: Images,
    schedule: Schedule,
    device: torch.device,
    report: Callable[[Progress], None],
    resume: Path | None,
    on_resume: Callable[[int], None],
) -> Trained:
    loss_of = objective(schedule.objective)
    layout = rehearse(build, model, loss_of, images, schedule, device)
    model = _placed(model, device, layout).train()
    order = torch.Generator().manual_seed(schedule.seed)
    pixels, test = images.train.to(device), images.test.to(device)
    if len(pixels) < 2:
        raise TrainingError(
            f"{images.name} has {counted(len(pixels), 'training image')} here; BatchNorm needs at least two"
        )
    batches, steps, epochs, epochs_a_row = schedule.length(len(pixels))
    snapshot_every = schedule.snapshot_every or math.ceil(math.ceil(epochs / epochs_a_row) / SNAPSHOTS)
    optimizer, cycle = one_cycle(model, schedule, steps, device)
    noise = torch.Generator().manual_seed(schedule.seed ^ NOISE_STREAM)
    state = State(resume, fingerprint(model, images, schedule, device), model, optimizer, cycle, (order, noise), device)
    done = state.restore()
    if done is None:
        done = Done(mean_error(model, test, layout), [], {})
    else:
        on_resume(int(done.curve[-1]["epoch"]))
    first = int(done.curve[-1]["epoch"]) if done.curve else 0
    clock = _Clock(steps - first * batches)
    means = Means(schedule.objective)
    for epoch in range(first, epochs):
        ends_row = (epoch + 1) % epochs_a_row == 0 or epoch + 1 == epochs
        parts = torch.randperm(len(pixels), generator=order).tensor_split(batches)[: steps - epoch * batches]
        for step, index in enumerate(parts, start=epoch * batches + 1):
            x = _placed(as_float(pixels.index_select(0, index.to(device))), device, layout)  # B x C x H x W
            with autocast(device, schedule.precision):
                loss, metrics = loss_of(model, x, noise)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            rate = optimizer.param_groups[0]["lr"]
            cycle.step()
            means.add(loss, metrics, len(index))
            clock.tick(len(index))
            if clock.due or (ends_row and index is parts[-1]):
                (mean,) = means["train_loss"]
                if not math.isfinite(mean):
                    raise _diverged(epoch + 1, f"the loss is {mean}", float(rate))
                speed, left = clock.read()
                report(Progress(epoch + 1, epochs, step, steps, mean, speed, left))
        if not ends_row:
            continue
        last_rate = float(rate)
        done.curve.append(
            {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": last_rate,
                **means.of(0),
                "train_mse": mean_error(model, pixels[: len(test)], layout),
                "test_mse": mean_error(model, test, layout),
            }
        )
        if (error := done.curve[-1]["test_mse"]) > DIVERGED * done.start_error:
            what = f"the test error {error:.4g} is far above the untrained network's {done.start_error:.4g}"
            raise _diverged(epoch + 1, what, last_rate)
        means.clear()
        if len(done.curve) % snapshot_every == 0 or epoch + 1 == epochs:
            done.snapshots[epoch + 1] = {
                name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for name, value in model.state_dict().items()
            }
        state.store(done)
    plain: nn.Module = _placed(model, torch.device("cpu"), torch.contiguous_format).eval()
    return Trained(plain, pd.DataFrame(done.curve).astype({"epoch": int, "step": int}), done.snapshots)


def mean_image_error(images: Images) -> float:
    """Mean squared error per pixel on the test images of always drawing the mean training image."""
    total = sum(part.double().sum(0) for part in images.train.split(1000))  # C x H x W
    mean = total / len(images.train) / 255
    total = sum(float((as_float(part, torch.float64) - mean).square().sum()) for part in images.test.split(1000))
    return total / images.test.numel()


@torch.no_grad()
def mean_error(model: nn.Module, pixels: Tensor, layout: torch.memory_format = torch.contiguous_format) -> float:
    """Mean squared error per pixel of a network on uint8 images (N, C, H, W), in eval mode and float32."""
    was_training = model.training
    model.eval()
    total = 0.0
    with faster(model):
        for part in pixels.split(max(1, min(1000, EVALUATED // max(1, pixels[:1].numel())))):
            x = _placed(as_float(part), part.device, layout)
            total += float(mse_loss(model(x), x, reduction="sum"))
    model.train(was_training)
    return total / pixels.numel()


def _placed(thing: Any, device: torch.device, layout: torch.memory_format) -> Any:
    """A module or a batch on the device, in a layout of its images."""
    return thing.to(device).to(memory_format=layout)


def _diverged(epoch: int, what: str, rate: float) -> TrainingError:
    return TrainingError(
        f"training diverged in epoch {epoch}: {what}, at learning rate {rate:.3g}; "
        f"lower training.peak_learning_rate in params.yaml"
    )


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


__all__ = ["Progress", "Schedule", "Trained", "mean_error", "mean_image_error", "train"]

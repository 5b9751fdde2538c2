"""How long to train, and the optimizer's course: Adam under a one-cycle schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

BETA1_LOW, BETA1_HIGH = 0.85, 0.95  # Adam's momentum falls while the learning rate rises, then rises again
BETA2 = 0.99
RISE = 0.3  # share of the steps in which the learning rate rises
START_FACTOR, END_FACTOR = 25, 1e4  # peak / first, first / last learning rate


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
        Of the initial weights, of the order of the images and of the random numbers of the objective.
    objective : str
        What is minimized: see :func:`latent_atlas.training.objectives.objective`.
    snapshot_every : int
        Of how many epochs one is kept in the snapshots; the last one is kept in any case.
    """

    epochs: int
    batch_size: int
    peak_learning_rate: float
    precision: str
    seed: int
    objective: str = "mse"
    snapshot_every: int = 1


def one_cycle(
    model: nn.Module, schedule: Schedule, steps: int, device: torch.device
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Adam for a network, and the one-cycle schedule of its learning rate and its first beta."""
    optimizer = torch.optim.Adam(
        model.parameters(), lr=schedule.peak_learning_rate, betas=(BETA1_HIGH, BETA2), fused=device.type != "mps"
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        schedule.peak_learning_rate,
        total_steps=max(steps, 2),
        pct_start=RISE,
        cycle_momentum=True,
        base_momentum=BETA1_LOW,
        max_momentum=BETA1_HIGH,
        div_factor=START_FACTOR,
        final_div_factor=END_FACTOR,
    )
    return optimizer, cycle

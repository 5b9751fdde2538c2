"""How long to train, and the optimizer's course: Adam or Muon under a one-cycle schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from latent_atlas.errors import TrainingError
from latent_atlas.training.length import Length, length
from latent_atlas.training.muon import Muon

OPTIMIZERS = ("adam", "muon")
BETA1_LOW, BETA1_HIGH = 0.85, 0.95  # the momentum falls while the learning rate rises, then rises again
BETA2 = 0.99
RISE = 0.3  # share of the steps in which the learning rate rises
START_FACTOR, END_FACTOR = 25, 1e4  # peak / first, first / last learning rate


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    epochs : int or None
        Passes over the training images; None if the length is given in steps.
    batch_size : int
        Images a step, at most: an epoch is cut into batches of equal size, give or take one image.
    peak_learning_rate : float
        The highest learning rate of the one-cycle schedule.
    precision : {"float32", "bfloat16"}
        Of the network's arithmetic while it trains (autocast); weights are float32 in either case.
    seed : int
        Of the initial weights, of the order of the images and of the random numbers of the objective.
    objective : str or mapping
        What is minimized, by name, or by name with options: see :func:`latent_atlas.training.objectives.objective`.
    snapshot_every : int
        Of how many rows of the learning curve one is kept in the snapshots; the last one is kept in any case.
    steps : int, optional
        Batches, in place of epochs.
    min_steps : int
        Batches that a number of epochs must amount to; otherwise there are more epochs.
    optimizer : {"adam", "muon"}
        Adam; or :class:`latent_atlas.training.muon.Muon`, which needs fewer epochs.

    Raises
    ------
    TrainingError
        If the length is given in both epochs and steps, or in neither. If there is no optimizer of that name.
    """

    epochs: int | None
    batch_size: int
    peak_learning_rate: float
    precision: str
    seed: int
    objective: str | Mapping[str, Mapping[str, Any]] = "mse"
    snapshot_every: int | None = None
    steps: int | None = None
    min_steps: int = 1
    optimizer: str = "adam"

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise TrainingError(
                f"the length of a training is a number of epochs or a number of steps: give one of the two, not "
                f"epochs={self.epochs} and steps={self.steps}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise TrainingError(f"there is no optimizer {self.optimizer!r}: choose {' or '.join(OPTIMIZERS)}")

    def length(self, images: int) -> Length:
        """The length of a training on so many images."""
        return length(images, self.batch_size, self.epochs, self.steps, self.min_steps)


def one_cycle(
    model: nn.Module, schedule: Schedule, steps: int, device: torch.device, stacked: bool = False
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """The optimizer of a network, and the one-cycle schedule of its learning rate and its first beta.

    If the network is stacked, the first dimension of its weights counts networks.
    """
    rate, betas, fused = schedule.peak_learning_rate, (BETA1_HIGH, BETA2), device.type != "mps"
    optimizer: torch.optim.Optimizer
    if schedule.optimizer == "muon":
        optimizer = Muon(model, rate, betas, fused, stacked)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=betas, fused=fused)
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

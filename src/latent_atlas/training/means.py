"""Means of the loss and of the objective's metrics since the last row of a learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latent_atlas.errors import TrainingError

RESERVED = ("epoch", "step", "learning_rate", "train_loss", "train_mse", "test_mse")  # columns of the curve


class Means:
    """Means over images, of one network or of several that are trained together.

    Parameters
    ----------
    objective : str or mapping
        As a schedule names it, for messages.
    """

    def __init__(self, objective: str | Mapping[str, Any]) -> None:
        self.objective = objective
        self.clear()

    def clear(self) -> None:
        """Begin anew, with no images."""
        self._totals: dict[str, Tensor] = {}
        self._images = 0

    def add(self, loss: Tensor, metrics: Mapping[str, Tensor], images: int) -> None:
        """Count a batch of so many images for each network; loss and metrics are scalars, or (S,) of S networks.

        Raises
        ------
        TrainingError
            If a metric is called as another column of the learning curve.
        """
        if reserved := metrics.keys() & RESERVED:
            raise TrainingError(
                f"objective {self.objective!r} gives a metric {min(reserved)!r}, which is a column of every "
                f"learning curve: choose another name"
            )
        for name, value in {"train_loss": loss, **metrics}.items():
            wide = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
            self._totals[name] = self._totals.get(name, 0) + wide * images
        self._images += images

    def __getitem__(self, name: str) -> list[float]:
        """The mean of each network."""
        return [total / self._images for total in self._totals[name].reshape(-1).tolist()]

    def of(self, network: int) -> dict[str, float]:
        """The means of one network by name, that of the loss first."""
        return {name: self[name][network] for name in self._totals}

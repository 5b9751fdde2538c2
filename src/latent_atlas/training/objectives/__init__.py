"""What a training minimizes. A module here is an objective: its function ``loss``, under the module's name.

``loss(model, x, generator)`` gets the network in training mode, images (B, C, H, W) in [0, 1], and a generator on the
CPU that is seeded with the training. It gives the loss, a scalar tensor, and a mapping of names to further scalars,
whose means over an epoch stand in the learning curve.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from latent_atlas.errors import TrainingError
from latent_atlas.imports import imported, is_path, modules

Objective = Callable[[nn.Module, Tensor, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]


def objective(name: str) -> Objective:
    """An objective by the name of its module here, or by the import path ``module:function`` of a user's own.

    Raises
    ------
    TrainingError
        If there is none of that name.
    """
    known = modules(Path(__file__).parent)
    found: Objective
    if name in known:
        found = importlib.import_module(f"{__name__}.{name}").loss
    elif is_path(name):
        found = imported(name, f"objective {name!r}", TrainingError)
    else:
        raise TrainingError(
            f"unknown objective {name!r}: choose one of {', '.join(known)}, or name a function of your own as "
            f"'module:function'"
        )
    return found

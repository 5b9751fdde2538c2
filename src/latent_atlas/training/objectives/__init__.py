"""What a training minimizes. A module here is an objective: its function ``loss``, under the module's name.

``loss(model, x, generator)`` gets the network in training mode, images (B, C, H, W) in [0, 1], and a generator on the
CPU that is seeded with the training. It gives the loss, a scalar tensor, and a mapping of names to further scalars,
whose means over an epoch stand in the learning curve. Further arguments, each with a default, are its options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from latent_atlas.errors import TrainingError
from latent_atlas.imports import OBJECTIVES, with_options

Objective = Callable[[nn.Module, Tensor, torch.Generator], tuple[Tensor, Mapping[str, Tensor]]]


def objective(named: str | Mapping[str, Mapping[str, Any]]) -> Objective:
    """An objective by the name of its module here, or by the import path ``module:function`` of a user's own.

    Parameters
    ----------
    named : str or mapping
        The name; or the name with options, as ``{"vae": {"beta": 4.0}}``.

    Raises
    ------
    TrainingError
        If there is none of that name, or if it has no option of a given name.
    """
    name, options = with_options(named)
    found = OBJECTIVES.get(name, TrainingError)
    found = found.loss if name in OBJECTIVES.known() else found
    if not options:
        return found
    own = list(inspect.signature(found).parameters)[3:]
    if unknown := options.keys() - own:
        raise TrainingError(f"objective {name!r} has no option {min(unknown)!r}: it has {', '.join(own) or 'none'}")
    return functools.partial(found, **options)


def aside(part: nn.Module, x: Tensor) -> Tensor:
    """What a part of a network makes of a batch beside the training's own: its running statistics stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in part.named_buffers()}
    return functional_call(part, buffers, (x,))

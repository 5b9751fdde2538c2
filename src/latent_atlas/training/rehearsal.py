"""One step of a training on a copy of the network: which of the usual settings it allows."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import LatentAtlasError, LatentAtlasWarning, TrainingError
from latent_atlas.imports import place
from latent_atlas.kernels.convolutions import faster
from latent_atlas.models.surroundings import copied, layer_at
from latent_atlas.training.objectives import Objective
from latent_atlas.training.reproducible import reproducible
from latent_atlas.training.schedule import Schedule

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
IMAGES = 3


def rehearse(
    build: Callable[[], nn.Module],
    model: nn.Module,
    loss_of: Objective,
    images: Images,
    schedule: Schedule,
    device: torch.device,
) -> torch.memory_format:
    """The layout of images in which a network can be trained: channels last, in which convolutions are fastest, if
    it gives the same there, else the usual one.

    Where an operation of the network has no deterministic form, the switch for deterministic algorithms is set to warn
    only, and it is said.

    Raises
    ------
    TrainingError
        If a step fails.
    """
    x = as_float(images.train[:IMAGES]).to(device)  # n x C x H x W
    strict = True
    for layout in (torch.channels_last, torch.contiguous_format):
        for _ in range(2):
            copy = copied(model, build).to(device).to(memory_format=layout)  # type: ignore[call-overload]
            try:
                given = x.to(memory_format=layout)
                _step(copy, loss_of, given, schedule, device, strict)
                if layout is torch.contiguous_format or _same(copy, given, x):
                    return layout
                break
            except LatentAtlasError:
                raise
            except Exception as error:
                if not isinstance(error, RuntimeError):
                    raise TrainingError(
                        f"a first step of the training fails: {type(error).__name__}: {error} ({place(error)})"
                    ) from error
                where = f" in its layer {at}" if (at := layer_at(error, copy)) else ""
                if strict and "deterministic" in str(error):
                    strict = False
                    torch.use_deterministic_algorithms(True, warn_only=True)
                    warnings.warn(
                        f"the training is not reproducible to the last bit: an operation of the network{where} has no "
                        f"deterministic form ({str(error).partition('. ')[0]})",
                        LatentAtlasWarning,
                        stacklevel=2,
                    )
                elif layout is torch.contiguous_format:
                    raise TrainingError(
                        f"a first step of the training fails{where}: {type(error).__name__}: {error}"
                    ) from error
                else:
                    break
    raise AssertionError("unreachable")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """The precision of a training's forward passes."""
    dtype = PRECISIONS[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def _step(
    model: nn.Module, loss_of: Objective, x: Tensor, schedule: Schedule, device: torch.device, strict: bool
) -> None:
    with reproducible(device, schedule.seed), faster(model):
        torch.use_deterministic_algorithms(True, warn_only=not strict or device.type == "mps")
        with autocast(device, schedule.precision):
            result = loss_of(model.train(), x, torch.Generator())
        loss, metrics = result if isinstance(result, tuple) and len(result) == 2 else (None, None)
        tensors = isinstance(metrics, Mapping) and all(isinstance(value, Tensor) for value in metrics.values())
        if not (isinstance(loss, Tensor) and loss.numel() == 1 and tensors):
            raise TrainingError(
                f"objective {schedule.objective!r} must return a pair: the loss, a tensor of one number, and a mapping "
                f"of names to such tensors, which may be empty"
            )
        loss.backward()


@torch.no_grad()
def _same(model: nn.Module, one: Tensor, other: Tensor) -> bool:
    """Whether a network gives the same for images in two layouts."""
    with faster(model.eval()):
        first, second = model(one), model.to(memory_format=torch.contiguous_format)(other)  # type: ignore[call-overload]
    if not isinstance(first, Tensor):
        return False
    return torch.allclose(first, second, rtol=0, atol=1e-4 * float(second.abs().max()), equal_nan=True)

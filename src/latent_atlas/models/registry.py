"""Architectures by name: the two of the study, and any class that an import path names."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latent_atlas.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

REGISTRY = {
    "convolutional": "latent_atlas.models.architectures.convolutional:ConvolutionalAutoencoder",
    "fully_connected": "latent_atlas.models.architectures.fully_connected:FullyConnectedAutoencoder",
}


def import_path(architecture: str) -> str:
    """``module:Class`` of an architecture given by a short name or by that very path.

    Raises
    ------
    ModelError
        If the name is neither known nor an import path.
    """
    path = REGISTRY.get(architecture, architecture)
    module, _, name = path.partition(":")
    if not (name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ModelError(
            f"unknown architecture {architecture!r}: choose one of {', '.join(REGISTRY)}, "
            f"or name a class of your own as 'module:Class'"
        )
    return path


def architecture_class(architecture: str) -> type[nn.Module]:
    """The class behind an architecture's name or import path."""
    from torch import nn

    module_name, _, class_name = import_path(architecture).partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"architecture {architecture!r}: no module named {error.name!r}; "
            f"put {module_name.replace('.', '/')}.py beside the Snakefile"
        ) from error
    except AttributeError as error:
        raise ModelError(f"architecture {architecture!r}: {module_name} has no class {class_name}") from error
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise ModelError(f"architecture {architecture!r} is not a class derived from torch.nn.Module")
    return found


def build(
    architecture: str, input_shape: tuple[int, int, int], latent_dim: int, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """An autoencoder with fresh weights, drawn from torch's global random generator.

    Parameters
    ----------
    architecture : str
        A name of :data:`REGISTRY`, or ``module:Class``. The class is called as
        ``Class(input_shape, latent_dim, **options)``; its instances have ``encoder`` and ``decoder``.
    input_shape : (C, H, W)
        Shape of one image.
    latent_dim : int
        k, the number of latent coordinates.
    options : mapping, optional
        Further keyword arguments of the class.

    Raises
    ------
    ModelError
        If there is no such class, if it refuses the arguments, or if it has no encoder and decoder.
    """
    from torch import nn

    if not 1 <= latent_dim <= math.prod(input_shape):
        raise ModelError(
            f"latent dimension {latent_dim}: images of {math.prod(input_shape)} numbers allow 1 to "
            f"{math.prod(input_shape)}; a surface cannot have more dimensions than the space that it lies in"
        )
    cls = architecture_class(architecture)
    try:
        model = cls(input_shape, latent_dim, **dict(options or {}))
    except TypeError as error:
        raise ModelError(f"architecture {architecture!r} does not take these options: {error}") from error
    for part in ("encoder", "decoder"):
        if not isinstance(getattr(model, part, None), nn.Module):
            raise ModelError(f"architecture {architecture!r} has no {part!r} that is a torch.nn.Module")
    return model

"""Architectures by name: a module in ``architectures``, and any class that an import path names."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.errors import ModelError
from latent_atlas.imports import imported, is_path, literal, modules

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path(__file__).parent / "architectures"
NO_VARIANCES = "this network has no variances, which the objective vae needs: give it the option variational: true"


def is_built_in(architecture: str) -> bool:
    """Whether an architecture is one of this package's, by its short name."""
    return architecture in modules(FOLDER)


def smallest_side(architecture: str, options: Mapping[str, Any]) -> int:
    """Height and width in pixels that an architecture needs at least, as far as that is known without building it."""
    if architecture != "convolutional":
        return 1
    kernel = options.get("kernel", literal(FOLDER / "convolutional.py", "KERNEL"))
    return 2 * kernel - 1 if isinstance(kernel, int) else 1


def import_path(architecture: str) -> str:
    """``module:Class`` of an architecture given by the name of its module in ``architectures``, or by that very path.

    The class in ``architectures/some_name.py`` is ``SomeNameAutoencoder``.

    Raises
    ------
    ModelError
        If the name is neither known nor an import path.
    """
    if is_built_in(architecture):
        name = "".join(word.capitalize() for word in architecture.split("_"))
        return f"latent_atlas.models.architectures.{architecture}:{name}Autoencoder"
    if not is_path(architecture):
        raise ModelError(
            f"unknown architecture {architecture!r}: choose one of {', '.join(modules(FOLDER))}, "
            f"or name a class of your own as 'module:Class'"
        )
    return architecture


def architecture_class(architecture: str) -> type[nn.Module]:
    """The class behind an architecture's name or import path."""
    from torch import nn

    found = imported(import_path(architecture), f"architecture {architecture!r}", ModelError)
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
        A name that :func:`import_path` knows, or ``module:Class``. The class is called as
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

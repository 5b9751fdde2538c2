"""Architectures by name: a module in ``architectures``, and any class that an import path names."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from latent_atlas.errors import LatentAtlasError, ModelError
from latent_atlas.imports import ARCHITECTURES, imported, literal, place

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("latent_atlas")
NO_VARIANCES = "this network has no variances, which the objective vae needs: give it the option variational: true"


def is_built_in(architecture: str) -> bool:
    """Whether an architecture is one of this package's, by its short name."""
    return architecture in ARCHITECTURES.known()


def smallest_side(architecture: str, options: Mapping[str, Any]) -> int:
    """Height and width in pixels that an architecture needs at least, as far as that is known without building it."""
    if architecture != "convolutional":
        return 1
    kernel = options.get("kernel", literal(ARCHITECTURES.folder / "convolutional.py", "KERNEL"))
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
    ARCHITECTURES.check(architecture, ModelError)
    return architecture


def architecture_class(architecture: str) -> Callable[..., nn.Module]:
    """The class behind an architecture's name or import path, or the function that makes the network."""
    import torch
    from torch import nn

    kind, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        found = imported(import_path(architecture), f"architecture {architecture!r}", ModelError)
    finally:  # of which a module may set others for all
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(grad)
    if not (issubclass(found, nn.Module) if inspect.isclass(found) else inspect.isfunction(found)):
        raise ModelError(f"architecture {architecture!r} is not a class derived from torch.nn.Module, nor a function")
    return found


def build(
    architecture: str,
    input_shape: tuple[int, int, int],
    latent_dim: int,
    options: Mapping[str, Any] | None = None,
    adapter: str | None = None,
    latent_shape: tuple[int, ...] | None = None,
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
    adapter : str, optional
        What turns the network into an encoder and a decoder: see :mod:`latent_atlas.models.adapters`.
    latent_shape : tuple of int, optional
        Of one code, where the network has no encoder that tells it.

    Raises
    ------
    ModelError
        If there is no such class, if it refuses the arguments or fails, or if it has no encoder and decoder and no
        adapter is named that finds them.
    """
    import torch
    from torch import nn

    if not 1 <= latent_dim <= math.prod(input_shape):
        raise ModelError(
            f"latent dimension {latent_dim}: images of {math.prod(input_shape)} numbers allow 1 to "
            f"{math.prod(input_shape)}; a surface cannot have more dimensions than the space that it lies in"
        )
    model = _made(architecture_class(architecture), architecture, input_shape, latent_dim, **dict(options or {}))
    if not isinstance(model, nn.Module):
        raise ModelError(f"architecture {architecture!r} gives a {type(model).__name__}, not a torch.nn.Module")
    for part in ("encoder", "decoder"):
        if adapter is None and not isinstance(getattr(model, part, None), nn.Module):
            raise ModelError(
                f"architecture {architecture!r} has no {part!r} that is a torch.nn.Module: name an adapter, such as "
                f"plain, vae or decoder_only (docs/models.md)"
            )
    if adapter is not None or not is_built_in(architecture):
        from latent_atlas.models.adapters import adapted

        kinds = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
        if kinds - {torch.float32}:
            _say(f"architecture {architecture!r} is built in {', '.join(sorted(map(str, kinds)))}: used in float32")
            model = model.float()
        model = adapted(model, adapter, input_shape, latent_dim, latent_shape)
    # What does not show in the weights; a training that was interrupted goes on only with the same.
    vars(model)["recipe"] = repr(
        (architecture, tuple(input_shape), latent_dim, sorted((options or {}).items()), adapter)
    )
    return model


@functools.cache
def _say(text: str) -> None:
    """Log a sentence, once in a process."""
    log.info(text)


def _made(cls: Callable[..., nn.Module], architecture: str, *arguments: Any, **options: Any) -> nn.Module:
    """An instance; an error of its code is shown with its place."""
    try:
        inspect.signature(cls).bind(*arguments, **options)
    except TypeError as error:
        raise ModelError(
            f"architecture {architecture!r} does not take these options: {error}; it is called with "
            f"{', '.join(map(repr, arguments))} and its options; a function may stand in its place (docs/models.md)"
        ) from error
    try:
        return cls(*arguments, **options)
    except LatentAtlasError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"architecture {architecture!r} is called with {', '.join(map(repr, arguments))} and raises "
            f"{type(error).__name__}: {error} ({place(error)}); a function may stand in its place (docs/models.md)"
        ) from error

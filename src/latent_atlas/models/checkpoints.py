"""Trained autoencoders as files: safetensors with the metadata needed to build the network again."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from latent_atlas.errors import CheckpointError
from latent_atlas.files import write_safetensors
from latent_atlas.models import registry

KIND = "autoencoder"


@dataclass(frozen=True)
class Checkpoint:
    """A network and what is known of it.

    Attributes
    ----------
    model : nn.Module
        The autoencoder, with ``encoder`` and ``decoder``.
    architecture : str
        Name or import path that builds it.
    input_shape : (C, H, W)
    latent_dim : int
    options : mapping
        Further arguments of the architecture.
    record : mapping of str to str
        How it came about: seed, epochs, final errors, package versions, dataset checksum, ...
    build : callable or None
        Gives another network like it with fresh weights.
    """

    model: nn.Module
    architecture: str
    input_shape: tuple[int, int, int]
    latent_dim: int
    options: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, str] = field(default_factory=dict)
    build: Callable[[], nn.Module] | None = field(default=None, compare=False)

    def save(self, path: Path) -> None:
        """Write weights and metadata to one safetensors file."""
        metadata = dict(self.record) | {
            "kind": KIND,
            "architecture": self.architecture,
            "input_shape": json.dumps(self.input_shape),
            "latent_dim": str(self.latent_dim),
            "options": json.dumps(dict(self.options), sort_keys=True),
        }
        write_safetensors(path, self.model.state_dict(), metadata)

    @classmethod
    def load(cls, path: Path, trust: Collection[str] = ()) -> Checkpoint:
        """Read a checkpoint and build its network, in eval mode, on the CPU.

        Building a network runs the code of its class, so a file may name the architectures of this package only, and
        those in ``trust``, each as ``module:Class``.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged, no autoencoder, names an architecture that is not trusted, or does not fit
            the one that it names.
        """
        metadata, state = read_safetensors(path)
        if metadata.get("kind") != KIND:
            raise CheckpointError(f"{path} is not an autoencoder's checkpoint (its kind is {metadata.get('kind')!r})")
        architecture = metadata.get("architecture", "")
        if not (registry.is_built_in(architecture) or architecture in ({trust} if isinstance(trust, str) else trust)):
            raise CheckpointError(
                f"{path} names the architecture {architecture!r}, whose code would be run: if you trust it, add "
                f"trust={{{architecture!r}}}"
            )
        try:
            shape, latent_dim = image_shape(metadata["input_shape"]), int(metadata["latent_dim"])
            options = dict(json.loads(metadata["options"]))
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} has damaged metadata ({type(error).__name__}: {error}): delete it and run the workflow again"
            ) from error
        own = {"kind", "architecture", "input_shape", "latent_dim", "options"}
        record = {key: value for key, value in metadata.items() if key not in own}
        build = functools.partial(registry.build, architecture, shape, latent_dim, options)
        model = build()
        load_state(model, state, f"{path} ({architecture}, latent dimension {latent_dim})")
        return cls(model.eval(), architecture, shape, latent_dim, options, record, build)


def image_shape(text: str) -> tuple[int, int, int]:
    """(C, H, W) as it stands in metadata; ValueError if it is anything but three whole numbers above zero."""
    shape = json.loads(text)
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise ValueError(f"{text} is no shape of an image")
    channels, height, width = shape
    return channels, height, width


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, or a clear error."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}): delete it and run the workflow again"
        ) from error


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network, or say which of them do not fit.

    Raises
    ------
    CheckpointError
        Naming ``source`` and the first layers that are missing, unknown or of another shape.
    """
    wanted = model.state_dict()
    problems = [f"lacks {name}" for name in wanted if name not in state]
    problems += [f"has an unknown {name}" for name in state if name not in wanted]
    problems += [
        f"{name} is {tuple(state[name].shape)} where the architecture has {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(f"{source} does not fit its architecture: {'; '.join(problems[:4])}{more}")
    model.load_state_dict(dict(state))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A ``.pth`` state dict, read without running any code that it may carry.

    Raises
    ------
    CheckpointError
        If the file is missing or no state dict, or if it is a pickle that would run code.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and was refused, since reading it could run foreign code: "
            f"save it again as torch.save(model.state_dict(), ...)"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as a PyTorch state dict: {error}") from error
    if not (isinstance(state, Mapping) and all(isinstance(value, Tensor) for value in state.values())):
        raise CheckpointError(f"{path} is not a state dict (a mapping of names to tensors)")
    return dict(state)

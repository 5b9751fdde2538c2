"""Trained autoencoders as files: safetensors with the metadata needed to build the network again."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latent_atlas.errors import CheckpointError, ModelError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.imports import ADAPTERS
from latent_atlas.models import registry
from latent_atlas.models.adapters import Adapted
from latent_atlas.models.surroundings import copied

KIND = "autoencoder"
NAME = "manifold"  # the entry of the metadata with the name of a manifold in its study
SHOWN = 4  # names in an error message
LONGEST_OPTIONS = 10_000  # characters of the options in metadata: each may stand for a layer
LARGEST_IMAGE = 10**8  # numbers of an image that metadata may name


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
    adapter : str or None
        Name or import path of what makes an encoder and a decoder of the network.
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
    adapter: str | None = None
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
        if self.adapter:
            metadata["adapter"] = self.adapter
        if isinstance(self.model, Adapted):
            metadata["latent_shape"] = json.dumps(self.model.latent_shape)
        write_safetensors(path, self.model.state_dict(), metadata)

    @classmethod
    def load(cls, path: Path, trust: Collection[str] = (), name: str | None = None) -> Checkpoint:
        """Read a checkpoint and build its network, in eval mode, on the CPU.

        Building a network runs the code of its class and of its adapter, so a file may name those of this package only,
        and those in ``trust``, each as ``module:name``. ``name`` is that of the manifold which must be in it.

        Raises
        ------
        CheckpointError
            If the file is missing, damaged, no autoencoder or that of another manifold, names an architecture or an
            adapter that is not trusted, does not fit those that it names, or holds weights that are no numbers.
        """
        metadata, state = read_safetensors(path, CheckpointError)
        if metadata.get("kind") != KIND:
            raise CheckpointError(f"{path} is not an autoencoder's checkpoint (its kind is {metadata.get('kind')!r})")
        check_name(path, metadata, name)
        architecture, adapter = metadata.get("architecture", ""), metadata.get("adapter")
        trusted = {trust} if isinstance(trust, str) else set(trust)
        foreign = [] if registry.is_built_in(architecture) else [("architecture", architecture)]
        foreign += [("adapter", adapter)] if adapter and adapter not in ADAPTERS.known() else []
        for what, name in foreign:
            if name not in trusted:
                raise CheckpointError(
                    f"{path} names the {what} {name!r}, whose code would be run: if you trust it, add "
                    f"trust={{{name!r}}}"
                )
        try:
            shape, latent_dim = image_shape(metadata["input_shape"]), int(metadata["latent_dim"])
            if len(metadata["options"]) > LONGEST_OPTIONS:
                raise ValueError(f"options of {len(metadata['options']):,} characters")
            options = json.loads(metadata["options"])
            if not isinstance(options, dict):
                raise ValueError(f"options that are no mapping, but {type(options).__name__}")
            latent_shape = tuple(map(int, json.loads(metadata.get("latent_shape", "[]")))) or None
            if latent_shape and (min(latent_shape) < 1 or math.prod(latent_shape) != latent_dim):
                raise ValueError(f"codes of shape {latent_shape} do not have {latent_dim} numbers")
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CheckpointError(
                f"{path} has damaged metadata ({type(error).__name__}: {error}): delete it and run the workflow again"
            ) from error
        # Without the name: a network that is changed and saved again is another one.
        own = {"kind", NAME, "architecture", "input_shape", "latent_dim", "options", "adapter", "latent_shape"}
        record = {key: value for key, value in metadata.items() if key not in own}
        source = f"{path} ({architecture}, latent dimension {latent_dim})"
        build = functools.partial(registry.build, architecture, shape, latent_dim, options, adapter, latent_shape)
        try:
            if registry.is_built_in(architecture):
                with torch.device("meta"):  # nothing is allocated on the word of the metadata
                    outline = registry.build(architecture, shape, latent_dim, options).state_dict()
                _refuse(_misfits(outline, state) if adapter is None else _too_few(outline, state), source)
            model = build()
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        if isinstance(model, Adapted):
            model.take_given(state)
        load_state(model, state, source)
        return cls(model.eval(), architecture, shape, latent_dim, options, record, adapter, build)


def check_name(path: Path, metadata: Mapping[str, str], name: str | None) -> None:
    """Refuse by CheckpointError a file that says that it holds another manifold than ``name``, where that is given."""
    if name is not None and (stored := metadata.get(NAME, name)) != name:
        raise CheckpointError(
            f"{path} holds the manifold {stored!r} where {name!r} is needed: if files were swapped, bring them back "
            f"(dvc checkout --force {path}), or delete it and run the workflow again"
        )


def image_shape(text: str) -> tuple[int, int, int]:
    """(C, H, W) as it stands in metadata; ValueError if it is anything but three whole numbers above zero."""
    shape = json.loads(text)
    if not (isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and n > 0 for n in shape)):
        raise ValueError(f"{text} is no shape of an image")
    if math.prod(shape) > LARGEST_IMAGE:
        raise ValueError(f"an image of shape {text} has more than {LARGEST_IMAGE:,} numbers")
    channels, height, width = shape
    return channels, height, width


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a network, or say which of them do not fit.

    A name that is missing and shares its tensor with one that is there (tied weights) counts as there.

    Raises
    ------
    CheckpointError
        Naming ``source`` and the first layers that are missing, unknown, of another shape or kind of number, or that
        hold what is no number.
    """
    wanted = model.state_dict()
    if strange := [name for name, tensor in wanted.items() if not isinstance(tensor, Tensor)]:
        raise CheckpointError(f"{source}: the network keeps {strange[0]}, which is no tensor: keep tensors alone")
    state = _renamed(model, wanted, dict(state) | tied(wanted, state))
    problems = _misfits(wanted, state)
    problems += [
        f"{first} and {other} differ, which are one tensor in the architecture"
        for first, *others in _shared(wanted)
        for other in others
        if first in state and other in state and not torch.equal(state[first], state[other])
    ]
    _refuse(problems, source)
    check_numbers(state, source)
    model.load_state_dict(state)


def _misfits(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Names, shapes and kinds of numbers that are not those of a network."""
    problems = _listed("lacks", [name for name in wanted if name not in state])
    problems += _listed("has an unknown", [name for name in state if name not in wanted])
    both = [(name, state[name], wanted[name]) for name in wanted if name in state]
    problems += [
        f"{name} is {tuple(given.shape)} where the architecture has {tuple(needed.shape)}"
        for name, given, needed in both
        if given.shape != needed.shape
    ]
    return problems + [
        f"{name} is {given.dtype} where the architecture has {needed.dtype}"
        for name, given, needed in both
        if (given.is_complex(), given.is_floating_point()) != (needed.is_complex(), needed.is_floating_point())
    ]


def _too_few(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Whether there are fewer weights than a network has, whatever their names."""
    needed, given = (sum(tensor.numel() for tensor in tensors.values()) for tensors in (wanted, state))
    return [f"it has {given:,} numbers where the architecture has {needed:,}"] if given < needed else []


def _refuse(problems: list[str], source: str) -> None:
    """Raise CheckpointError if there are problems, with the first of them."""
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise CheckpointError(f"{source} does not fit its architecture: {'; '.join(problems[:SHOWN])}{more}")


def _renamed(model: nn.Module, wanted: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the names of today, where hooks of its layers know others, as of old weight norms."""
    if state.keys() == wanted.keys() or any(tensor.is_complex() for tensor in state.values()):
        return state
    try:
        other = copied(model)
        other.load_state_dict(state)
    except Exception:  # what does not fit is told by its names
        return state
    return other.state_dict()


def check_numbers(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse by CheckpointError, and by name, tensors with entries that are no numbers, and negative variances."""
    for name, tensor in tensors.items():
        if tensor.is_complex():
            problem = "complex numbers"
        elif tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            bad = ~tensor.isfinite()
            problem = f"NaN or Inf at {int(bad.sum())} of {tensor.numel()} places"
        elif name.rpartition(".")[2] == "running_var" and bool((tensor < 0).any()):
            problem = f"negative variances (down to {float(tensor.min()):g})"
        else:
            continue
        raise CheckpointError(f"{source}: {name} has {problem}: take the weights of an earlier epoch, or train again")


def tied(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Missing tensors that are one with another, which the state has."""
    found: dict[str, Tensor] = {}
    for names in _shared(wanted):
        if there := next((name for name in names if name in state), None):
            found |= {name: state[there] for name in names if name not in state}
    return found


def _shared(wanted: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of each tensor that has several."""
    names: dict[Any, list[str]] = {}
    for name, t in wanted.items():
        if isinstance(t, Tensor) and t.numel():
            names.setdefault((t.data_ptr(), t.shape, t.stride(), t.dtype), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def _listed(verb: str, names: list[str]) -> list[str]:
    """One problem of many names: the first of them, and how many there are."""
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"it {verb} {', '.join(names[:SHOWN])}{more}"]

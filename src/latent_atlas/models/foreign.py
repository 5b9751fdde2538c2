"""Files that others have saved: which tensors in a state dict are a network's, and by which names; and codes of images.

Nothing in a file is run: it is read as tensors and plain values, or refused.
"""

from __future__ import annotations

import pickle
import re
import tarfile
import tempfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from latent_atlas.data.sources.arrays import read, unusual_kind
from latent_atlas.errors import CheckpointError
from latent_atlas.files import check_archive, check_regular, impostor
from latent_atlas.models.checkpoints import SHOWN, tied

AGAIN = "save it again as torch.save(model.state_dict(), ...)"
# First bytes of files that are taken for state dicts, what they are, and what to do.
KINDS = (
    (rb"\x89HDF", "is an HDF5 file, as of Keras: only weights of PyTorch networks are read"),
    (rb"\x93NUMPY", "is a NumPy array: only state dicts are read"),
)
WRAPPERS = (
    "module",
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
)  # parts that torch's wrappers add
COUNTER = "num_batches_tracked"  # of BatchNorm since PyTorch 0.4.1; no output depends on it
# Plain values beside the weights, such as a best error that NumPy has computed. To make them runs no code of the file.
SCALAR = np.float64().__reduce__()[0]
HARMLESS: list[Any] = [
    *((SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?"))),
]

Say = Callable[[str], None]


def read_state_dict(path: Path, model: nn.Module | None = None, say: Say = lambda text: None) -> dict[str, Tensor]:
    """A state dict, as ``torch.save`` or safetensors wrote it, under the names of a network.

    A state dict that is one entry among others (``state_dict``, ``model``, ...) is taken out. Names lose the parts that
    wrappers have added, and the prefix that the network's own names do not have. Where several parts of a file would
    fit, none is taken.

    Parameters
    ----------
    path : Path
    model : nn.Module, optional
        Whose names count. Without one the names stay as they are.
    say : callable, optional
        Called with a sentence on each thing that was changed.

    Raises
    ------
    CheckpointError
        If the file is missing, is no state dict, would run code, or holds several that fit.
    """
    found = _state_dicts(_content(path), mixed=model is not None)
    if not found:
        raise CheckpointError(f"{path} is not a state dict (a mapping of names to tensors): {AGAIN}")
    wanted = {} if model is None else {n: t for n, t in model.state_dict().items() if isinstance(t, Tensor)}
    candidates = [named for place, state in found.items() for named in _named(place, state, wanted)]
    fitting = _different([named for named in candidates if not any(named.missing)])
    if len(fitting) > 1:
        places = ", ".join(named.place or "the file itself" for named in fitting)
        raise CheckpointError(f"{path} holds several state dicts that fit, {places}: save the one that you mean alone")
    named = fitting[0] if fitting else min(candidates, key=lambda named: named.missing)
    for change in named.changes:
        say(change)
    return _converted(named.state, wanted, path, say)


def _content(path: Path) -> Any:
    """What a file holds: tensors and plain values in mappings and lists."""
    check_regular(path, CheckpointError)
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if told := _told(path, head):
            raise CheckpointError(f"{path} {told}")
        if head[8:9] == b"{":
            return load_file(path)
        if head[:4] == b"PK\x03\x04":
            check_archive(path)
        with torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocol 3, which can be read
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        of = f" (it names {name.group(1)})" if name else ""
        raise CheckpointError(
            f"{path} holds more than tensors and was refused, since reading it could run foreign code{of}: {AGAIN}"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle raises errors of any kind
        first = str(error).partition("\n")[0][:200] or type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a PyTorch state dict ({first}): get it again, the file may be cut off"
        ) from error


def _told(path: Path, head: bytes) -> str | None:
    """What a file is that is no state dict, by its first bytes, with the remedy."""
    if what := impostor(head) or next((what for start, what in KINDS if re.match(start, head)), None):
        return what
    if head[257:262] == b"ustar":
        with tarfile.open(path) as archive:
            old = "pickle" in archive.getnames()
        return (
            f"is a tar archive of a PyTorch before 0.2: read it there and {AGAIN}"
            if old
            else "is a tar archive: unpack it"
        )
    if head[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if any(name.endswith("/constants.pkl") for name in names):
                return "is a TorchScript program: save torch.jit.load(...).state_dict() instead"
            if not pickles:
                return f"is a zip archive without a state dict ({', '.join(names[:SHOWN])}): unpack it"
            with archive.open(pickles[0]) as file:
                head = file.read(2)
    if head[:1] == b"\x80" and head[1] > 3:
        return f"is a pickle of protocol {head[1]}: {AGAIN}, without pickle_protocol"
    if head[:1] != b"\x80" and head[8:9] != b"{":
        return f"begins with the bytes {head[:4].hex()}, as no file of PyTorch or safetensors does: {AGAIN}"
    return None


def _state_dicts(content: Any, mixed: bool, place: str = "", depth: int = 4) -> dict[str, dict[str, Tensor]]:
    """All mappings of names to tensors in what a file holds, by their place in it; not those of optimizers.

    With ``mixed`` the tensors of a mapping count that holds plain values beside them.
    """
    if isinstance(content, list | tuple):
        content = {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping) or not depth or not all(isinstance(key, str) for key in content):
        return {}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    found: dict[str, dict[str, Tensor]] = {}
    if tensors and (mixed or len(tensors) == len(content)):
        found[place] = tensors
    for key, value in content.items():
        if not key.startswith(("optim", "lr_sched", "sched")):
            found |= _state_dicts(value, mixed, f"{place}.{key}" if place else key, depth - 1)
    return found


class _Named(NamedTuple):
    """A state dict under a network's names, as far as it has them."""

    place: str  # in the file
    state: dict[str, Tensor]
    missing: tuple[int, int]  # how many of the names it lacks, and has with another shape
    changes: list[str]


def _named(place: str, state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[_Named]:
    """A state dict under a network's names, in all the ways in which a prefix of its names can be taken off."""
    changes = [f"the weights are the entry {place} of the file"] if place else []
    own = {part for name in wanted for part in name.split(".")}
    added = {part: None for name in state for part in name.split(".") if part in WRAPPERS and part not in own}
    if wanted and added:
        bare = {".".join(part for part in name.split(".") if part not in added): t for name, t in state.items()}
        if len(bare) == len(state):
            changes.append(f"taken off the names: {', '.join(f'{part}.' for part in added)}")
            state = bare
    if "n_averaged" in state.keys() - wanted.keys():
        state = dict(state)
        count = state.pop("n_averaged").flatten()[:1].tolist()
        changes.append(f"it is the average of {', '.join(map(str, count))} states of a training")
    prefixes = {"": 0} | {
        ".".join(parts[:i]) + ".": 0
        for parts in (name.split(".") for name in state)
        for i in range(1, len(parts))
        if ".".join(parts[i:]) in wanted
    }
    return [_without(prefix, place, state, wanted, changes) for prefix in prefixes]


def _without(
    prefix: str, place: str, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], changes: list[str]
) -> _Named:
    chosen = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    changes, outside = list(changes), [name for name in state if not name.startswith(prefix)]
    if prefix:
        changes.append(f"taken off the names: {prefix}")
    if outside:
        changes.append(f"left out {len(outside)} tensors outside {prefix} ({', '.join(outside[:SHOWN])}, ...)")
    counters = [
        name for name in wanted if name.endswith(COUNTER) and (name not in chosen or chosen[name].is_floating_point())
    ]
    if counters:
        chosen |= {name: wanted[name].clone() for name in counters}
        changes.append(f"{len(counters)} {COUNTER} that are missing or no integers set to 0: no output depends on them")
    there = chosen | tied(wanted, chosen)
    lacks = sum(name not in there for name in wanted)
    misshapen = sum(name in there and there[name].shape != tensor.shape for name, tensor in wanted.items())
    return _Named(f"{place}:{prefix}" if prefix else place, chosen, (lacks, misshapen), changes)


def _different(found: list[_Named]) -> list[_Named]:
    """Those of some state dicts for the same network that are not equal to one before."""
    kept: list[_Named] = []
    for named in found:
        if not any(
            named.state.keys() == other.state.keys()
            and all(torch.equal(tensor, other.state[name]) for name, tensor in named.state.items())
            for other in kept
        ):
            kept.append(named)
    return kept


def _converted(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, say: Say) -> dict[str, Tensor]:
    """Dense tensors, of the floating-point types of the network's own."""
    converted, kinds = {}, Counter[str]()
    for name, tensor in state.items():
        if unusual := unusual_kind(tensor):
            raise CheckpointError(f"{path}: {name} is {unusual}: save the dense weights in floating point")
        needed = wanted[name].dtype if name in wanted else tensor.dtype
        converted[name] = tensor.detach()
        if tensor.is_floating_point() and needed.is_floating_point and tensor.dtype != needed:
            converted[name] = tensor.detach().to(needed)
            kinds[f"{tensor.dtype} converted to {needed}".replace("torch.", "")] += 1
    for kind, count in kinds.items():
        say(f"{count} tensors in {kind}")
    return converted


def read_codes(path: Path) -> dict[str, Any]:
    """The codes (N, ...) of the splits ``train`` and ``test`` in a .npz, .npy, .pt or .safetensors file.

    A file with a single array of two or more axes holds the codes of ``train``, also under another name or deeper in
    it, such as the state dict of an embedding.

    Raises
    ------
    CheckpointError
        If it holds others, and no ``train``.
    DataError
        If it cannot be read.
    """
    found = dict(_arrays(read(path, Path(tempfile.gettempdir()), "codes"), "train"))
    if len(found) == 1 and "test" not in found:
        found = {"train": next(iter(found.values()))}
    if "train" not in found:
        names = ", ".join(list(found)[:SHOWN]) or "no array of two or more axes"
        raise CheckpointError(f"codes: {path} holds {names}; it must hold train, and test if there are such codes")
    return {split: found[split] for split in ("train", "test") if split in found}


def _arrays(content: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays with two or more axes in what a file holds, by name."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _arrays(value, name if key == "weight" else str(key))
    elif isinstance(content, np.ndarray | Tensor) and content.ndim > 1 and str(content.dtype)[:2] != "<U":
        yield name, content

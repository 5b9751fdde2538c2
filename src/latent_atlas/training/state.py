"""The state of a half-done training, in files, and what it must share with a training to belong to it."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import latent_atlas
from latent_atlas.data.images import Images
from latent_atlas.errors import OutputError
from latent_atlas.files import atomic_write
from latent_atlas.training.devices import describe
from latent_atlas.training.schedule import Schedule

LIBRARY = Path(latent_atlas.__file__).resolve().parent
TAKE_PART = ("training/**/*.py", "kernels/*.py", "models/**/*.py", "data/images.py", "data/stored.py")  # in the library
INSTALLED = {"site-packages", "dist-packages"}
HEAD = "latent-atlas resume sha256"  # what a file of a state begins with
STANDARD = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "scripts")]
log = logging.getLogger("latent_atlas")


def fingerprint(model: nn.Module, images: Images, schedule: Schedule, device: torch.device) -> str:
    """What a stored state must share with a training to belong to it: code and fresh weights included."""
    digest = hashlib.sha256(json.dumps(asdict(schedule), sort_keys=True).encode())
    for path in source_files():
        digest.update(path.read_bytes())
    digest.update(
        f"{describe(device)} {torch.__version__} {torch.get_num_threads()} {images.checksum} {model} "
        f"{getattr(model, 'recipe', '')}".encode()
    )
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def source_files() -> list[Path]:
    """The library's files that take part in a training, and those of all loaded modules that nobody installed."""
    library = [path for pattern in TAKE_PART for path in LIBRARY.glob(pattern)]
    loaded = {Path(file).resolve() for module in list(sys.modules.values()) if (file := _file(module))}
    return sorted(library) + sorted(path for path in loaded if _is_the_users(path))


def _file(module: object) -> str | None:
    file = vars(module).get("__file__") if hasattr(module, "__dict__") else None  # lazy modules load nothing here
    return file if isinstance(file, str) else None


def _is_the_users(path: Path) -> bool:
    if INSTALLED.intersection(path.parts) or path.is_relative_to(LIBRARY):
        return False
    return path.is_file() and not any(path.is_relative_to(folder) for folder in STANDARD)


class OtherTrainingError(Exception):
    """A stored state belongs to a training of other arguments, images or code."""


class Done(NamedTuple):
    """What whole epochs have left behind."""

    start_error: float
    curve: list[dict[str, float]]
    snapshots: dict[int, dict[str, Tensor]]


class State:
    """The state of a training after an epoch: one file, and a folder beside it with the snapshots.

    The weights of an epoch are written once, before the state that counts on them. All files carry the fingerprint.
    """

    def __init__(
        self,
        path: Path | None,
        fingerprint: str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        cycle: torch.optim.lr_scheduler.OneCycleLR,
        generators: tuple[torch.Generator, ...],
        device: torch.device,
    ) -> None:
        self.path, self.fingerprint, self.device = path, fingerprint, device
        self.model, self.optimizer, self.cycle, self.generators = model, optimizer, cycle, generators
        self.warned = False

    def store(self, done: Done) -> None:
        """Write the snapshot of the last epoch, where it is kept, and the current state."""
        if self.path is None:
            return
        try:
            self._store(self.path, done)
        except OutputError as error:  # it is there for convenience: the training does not end for it
            if not self.warned:
                log.warning(f"warning: {error}; until then this training cannot be resumed if it is interrupted")
            self.warned = True

    def _store(self, path: Path, done: Done) -> None:
        if (epoch := int(done.curve[-1]["epoch"])) in done.snapshots:
            self._save(self._snapshot(path, epoch), {"weights": done.snapshots[epoch]})
        state = {
            "start_error": done.start_error,
            "curve": done.curve,
            "snapshots": list(done.snapshots),
            **self._current(),
        }
        self._save(path, state)

    def restore(self) -> Done | None:
        """Take up the stored state, if it is whole and belongs to this training. A damaged one is removed."""
        if self.path is None or not self.path.exists():
            return None
        before = copy.deepcopy(self._current())
        try:
            state = self._load(self.path)
            snapshots = {epoch: self._load(self._snapshot(self.path, epoch))["weights"] for epoch in state["snapshots"]}
            self._take(state)
            done = Done(float(state["start_error"]), list(state["curve"]), snapshots)
            int(done.curve[-1]["epoch"])
        except OtherTrainingError:
            log.info(f"{self.path} belongs to another training: this one begins anew")
            self._take(before)
            return None
        except Exception as error:  # whatever damage does
            reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
            log.warning(f"warning: {self.path} is damaged ({reason}): it is removed, and the training begins anew")
        else:
            return done
        self._take(before)
        remove(self.path)
        return None

    def _current(self) -> dict[str, Any]:
        """All that changes in the course of a training."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "cycle": {"last_epoch": self.cycle.last_epoch, "_step_count": self.cycle._step_count},
            "generators": [generator.get_state() for generator in self.generators],
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def _take(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`_current` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.cycle.load_state_dict(state["cycle"])
        for generator, stored in zip(self.generators, state["generators"], strict=True):
            generator.set_state(stored)
        torch.set_rng_state(state["generator"])
        if state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)

    def _save(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a file: a line with the checksum of the rest, then what torch makes of the content."""
        payload = io.BytesIO()
        torch.save({"fingerprint": self.fingerprint, **content}, payload)
        with atomic_write(path) as aside, aside.open("wb") as file:
            file.write(f"{HEAD} {hashlib.sha256(payload.getbuffer()).hexdigest()}\n".encode())
            file.write(payload.getbuffer())

    def _load(self, path: Path) -> dict[str, Any]:
        """The content of a file, verified.

        Raises
        ------
        OtherTrainingError
            If it was written by another training.
        ValueError
            If its content does not have the checksum that it names.
        """
        with path.open("rb") as file:
            head, payload = file.readline(len(HEAD) + 70), file.read()
        if head != f"{HEAD} {hashlib.sha256(payload).hexdigest()}\n".encode():
            raise ValueError(f"the content of {path.name} does not have the checksum that it names")
        stored: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True)
        if stored["fingerprint"] != self.fingerprint:
            raise OtherTrainingError(path)
        return stored

    @staticmethod
    def _snapshot(path: Path, epoch: int) -> Path:
        return _folder(path) / f"{epoch}.pt"


def remove(path: Path) -> None:
    """Remove a stored state and all that belongs to it, the state last; what cannot be removed is said."""
    shutil.rmtree(_folder(path), ignore_errors=True)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning(f"warning: {path} cannot be removed ({error.strerror}): delete it")


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.snapshots")

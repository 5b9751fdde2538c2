"""What several test files share: a small study in a folder of its own, and processes in a sealed place."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import warm
from click.testing import CliRunner, Result
from filelock import FileLock
from ruamel.yaml import YAML
from torch import Tensor, nn

from latent_atlas.files import read_table, write_tables
from latent_atlas.study import schema as config
from latent_atlas.study.defaults import EXAMPLES

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("latent-atlas")

# The project's own parameter file, made as small as it can be and still be a study.
SMALL: dict[str, Any] = config.read(ROOT / "params.yaml") | {
    "dataset": {"name": "digits", "colour": "grey", "folder": None, "limit": None},
    "models": {
        "fc2": {"architecture": "fully_connected", "latent_dim": 2},
        "fc4": {"architecture": "fully_connected", "latent_dim": 4, "training": {"epochs": 3}},
    },
    "training": {
        "epochs": 2,
        "batch_size": 128,
        "peak_learning_rate": 0.005,
        "objective": "mse",
        "snapshot_every": 1,
        "precision": "float32",
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    },
    "sample": {"split": "test", "size": 20, "seed": 0},
    "pca": {"latent_dims": [2]},
    "reconstruct": {"shown": 9},
    "examples": EXAMPLES["FashionMNIST"],
    "interpolate": {"pairs": {"sneaker_pullover": ["sneaker", "pullover"]}, "steps": 6, "shown": 4},
    "geodesics": {"pairs": 8, "nodes": 5, "seed": 0},
    "tangents": {"example": "pullover"},
    "invariance": {
        "transformations": {"rotation": {"step": 1.0}, "shift_x": {"step": 1.0}, "brightness": {"step": 5.0}},
        "pictures": ["pullover"],
        "step_study": {"example": "pullover", "transformations": ["rotation"], "steps": [0.5, 1.0]},
        "epoch_study": {"example": "pullover", "transformations": ["rotation"]},
    },
}


def rewritten(folder: Path, file: str, table: pd.DataFrame) -> None:
    """Write one of the tables of a folder anew, as its job would."""
    tables = {path.name: read_table(path) for path in folder.iterdir() if path.suffix in (".csv", ".parquet")}
    write_tables(folder, tables | {file: table})


@dataclass
class Study:
    """A folder with a params.yaml, and the ways to work in it."""

    folder: Path
    values: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SMALL))

    def __post_init__(self) -> None:
        if not (self.folder / "params.yaml").exists():
            self.write()

    def write(self) -> None:
        """Write the values as params.yaml."""
        with (self.folder / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(self.values, file)

    def edit(self, key: str, value: Any) -> None:
        """Set the entry at a dotted key, and write the file."""
        *above, last = key.split(".")
        section = self.values
        for part in above:
            section = section.setdefault(part, {})
        section[last] = value
        self.write()

    @contextlib.contextmanager
    def edited(self, key: str, value: Any) -> Iterator[None]:
        """As :meth:`edit`, undone when the block ends."""
        before = copy.deepcopy(self.values)
        self.edit(key, value)
        try:
            yield
        finally:
            self.values = before
            self.write()

    @property
    def params(self) -> config.Params:
        """The parameter file as the stages see it."""
        return config.load(self.folder / "params.yaml")

    def run(self, *arguments: object) -> Result:
        """``latent-atlas`` with these arguments, in this process."""
        from latent_atlas.cli import main

        path = sys.path[:]
        try:
            with contextlib.chdir(self.folder):
                return CliRunner().invoke(main, [str(argument) for argument in arguments])
        finally:
            sys.path[:] = path

    def process(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """``latent-atlas`` with these arguments, as a process of its own."""
        return process([COMMAND, *arguments], self.folder)

    def train_arguments(self, model: str, images: Path, folder: str) -> list[str]:
        """``train`` with all that it asks for: it writes ``folder/MODEL.safetensors`` and ``folder/curve.csv``."""
        return options(
            "train",
            name=model,
            images=images,
            checkpoint=f"{folder}/{model}.safetensors",
            curve=f"{folder}/curve.csv",
            snapshots=f"{folder}/snapshots.safetensors",
        )

    def pca_arguments(self, images: Path, folder: str) -> list[str]:
        """``pca`` with all that it asks for: it writes into ``folder``."""
        return options("pca", images=images, folder=folder, checkpoints=folder)

    def snakemake(self, *arguments: str, cold: bool = False) -> subprocess.CompletedProcess[str]:
        """The project's workflow in this folder, started from an environment that nobody has activated.

        ``cold``: in new interpreters, not in those that have loaded the packages.
        """
        path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != COMMAND.parent)
        python = sys.executable if cold or not warm.POSSIBLE else warm.tools() / "python"
        command = [python, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", 2, *arguments]
        return process(command, self.folder, PATH=path)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the whole session, made by the first of the processes that share the tests; the others wait."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, ready = base / name, base / f"{name}.ready"
    with FileLock(base / f"{name}.lock"):
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            ready.touch()
    return folder


def options(stage: str, **values: object) -> list[str]:
    """A stage and its options as words for the command line."""
    return [stage, *(word for name, value in values.items() for word in (f"--{name}", str(value)))]


def process(command: list[Any], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; what it says is text, and it may fail."""
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env={**os.environ, **environment})


def planned(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """The jobs that a dry run announces: how many of each rule (empty when there is nothing to do)."""
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    if "Nothing to be done" in text:
        return {}
    rows = re.findall(r"^(\w+) +(\d+)$", text.partition("Job stats:")[2], flags=re.MULTILINE)
    assert rows, text
    return {rule: int(count) for rule, count in rows if rule not in ("all", "total")}


def sealed(script: str, folder: Path, *namespaces: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in namespaces of its own, where it may mount what it likes or has no network.

    Skips the test where the system does not let us.
    """
    if shutil.which("unshare") is None:
        pytest.skip("needs util-linux's unshare, to mount a small or a read-only disk, or to be without a network")
    unshare = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), *namespaces]
    permitted = process([*unshare, "sh", "-c", "mount -t tmpfs -o size=64k tmpfs ."], folder)
    if permitted.returncode:
        pytest.skip(f"this system lets nobody mount a small disk in a namespace: {permitted.stderr.strip()}")
    return process([*unshare, "sh", "-ec", script], folder)


def quoted(*words: object) -> str:
    """Words as one line for a shell."""
    return shlex.join(str(word) for word in words)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    """Whether two networks hold the same tensors to the last bit."""
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def shake_statistics(model: nn.Module, seed: int = 0) -> None:
    """Give every BatchNorm layer statistics, scales and shifts that do something."""
    draw = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, low, high in (
                (layer.running_mean, -0.3, 0.3),
                (layer.running_var, 0.5, 2.0),
                (layer.weight, 0.5, 1.5),
                (layer.bias, -0.2, 0.2),
            ):
                assert isinstance(tensor, Tensor)
                with torch.no_grad():
                    tensor.copy_(torch.rand(tensor.shape, generator=draw) * (high - low) + low)

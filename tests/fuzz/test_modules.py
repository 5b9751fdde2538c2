"""Modules of users that cannot be imported or whose code fails: one sentence that names the thing and the line."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import Tally, check_message
from support import Study

from latent_atlas.data import sources
from latent_atlas.errors import ModelError
from latent_atlas.geometry.transformations import transformation
from latent_atlas.models.registry import build
from latent_atlas.models.trial import trial

NUMBERS = itertools.count()
RAISED = [
    "raise ValueError('no')", "raise ValueError", "raise Exception('x' * 10000)", "1 / 0", "import sys; sys.exit()",
    "import sys; sys.exit(0)", "import sys; sys.exit('bye')", "exit(3)", "raise SystemExit", "raise MemoryError",
    "raise RecursionError", "def f(): f()\n{indent}f()", "import nowhere_to_be_found", "from os import nothing",
    "raise UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'x')", "assert False", "raise StopIteration",
    "raise KeyError('a')", "raise OSError(2, 'gone')", "open('/nowhere')", "raise NotImplementedError",
    "class Odd(Exception):\n{indent}    def __str__(self): return ''\n{indent}raise Odd",
]  # fmt: skip
RESULTS = [
    "None", "1", "'text'", "object()", "[]", "{}", "(1, 2)", "lambda x: x", "torch.zeros(3)", "nn.Linear(4, 4)",
    "nn.Module()", "nn.Sequential()", "type", "nn.Module",
]  # fmt: skip
GOOD = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, shape, k):
        super().__init__()
        {init}
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, k))
        self.decoder = nn.Linear(k, 64)
    def forward(self, x):
        {forward}
        return self.decoder(self.encoder(x)).reshape(x.shape)
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Any]:
    """Writes a module that is found, under a new name each time."""
    written = []

    def write(text: str | bytes) -> str:
        name = f"of_a_user_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_bytes(text.encode() if isinstance(text, str) else text)
        importlib.invalidate_caches()
        written.append(name)
        return name

    sys.path.insert(0, str(tmp_path))
    yield write
    sys.path.remove(str(tmp_path))
    for name in written:
        sys.modules.pop(name, None)


def network(path: str) -> None:
    """What a stage does with an architecture before it trains."""
    model = build(path, (1, 8, 8), 2)
    trial(model, (1, 8, 8), 2, "net")


def moved(path: str) -> torch.Tensor:
    """What a stage does with a transformation."""
    return transformation(path).displacement(torch.rand(2, 1, 8, 8), 1.0)


def fails(found: Any) -> None:
    raise AssertionError("it was accepted")


@pytest.mark.parametrize("place", ["import", "init", "forward", "function", "dataset", "transformation"])
@pytest.mark.parametrize("raised", RAISED)
def test_code_that_fails(place: str, raised: str, module: Any, tmp_path: Path, tally: Tally) -> None:
    if place == "import":
        name = module(raised.format(indent=""))
        message = tally.case(lambda: network(f"{name}:Net"), fails, [name])
    elif place in ("init", "forward"):
        if place == "forward" and ("exit" in raised or "SystemExit" in raised):
            return  # the command says so: see below
        name = module(GOOD.format(**{"init": "pass", "forward": "pass"} | {place: raised.format(indent=" " * 8)}))
        message = tally.case(lambda: network(f"{name}:Net"), fails, [name, "net"])
    else:
        name = module(f"def f(*a, **k):\n    {raised.format(indent=' ' * 4)}\n")
        wanted = {"function": f"{name}:f"}
        if place == "function":
            message = tally.case(lambda: network(f"{name}:f"), fails, [name])
        elif place == "dataset":
            message = tally.case(lambda: sources.obtain(wanted, tmp_path), fails, [name])
        else:
            message = tally.case(lambda: moved(f"{name}:f"), fails, [name])
    assert message


@pytest.mark.parametrize("result", RESULTS)
def test_strange_things(result: str, module: Any, tmp_path: Path, tally: Tally) -> None:
    name = module(f"import torch\nfrom torch import nn\nNet = {result}\ndef f(*a, **k):\n    return {result}\n")
    for what in ("Net", "f", "missing"):
        assert tally.case(functools.partial(network, f"{name}:{what}"), fails, [name, "net"])
    for what in ("Net", "f", "missing"):
        assert tally.case(functools.partial(moved, f"{name}:{what}"), fails, [name])
    assert tally.case(lambda: sources.obtain({"function": f"{name}:f"}, tmp_path), fails, [name])


@pytest.mark.parametrize(
    "text",
    ["def", "\tx\n  y", "\0", b"\xff\xfe", b"# coding: nothing\n", "(" * 300, "x = " + "-" * 100_000 + "1",
     "from __future__ import x"],
)  # fmt: skip
def test_what_is_no_python(text: str | bytes, module: Any, tally: Tally) -> None:
    name = module(text)
    assert tally.case(lambda: network(f"{name}:Net"), fails, [name])


@pytest.mark.parametrize("code", ["", "0", "3", "'bye'"])
def test_exit_within_a_training(code: str, digits_file: Path, tmp_path: Path, tally: Tally) -> None:
    """A process never ends well, or without a word, because code of a user ended it."""
    study = Study(tmp_path)
    name = f"leaving{next(NUMBERS)}"
    forward = f"import sys; sys.exit({code}) if self.training else None"
    (tmp_path / f"{name}.py").write_text(GOOD.format(init="pass", forward=forward))
    study.edit("models", {"net": {"architecture": f"{name}:Net", "latent_dim": 2}})
    done = study.run(*study.train_arguments("net", digits_file, "out"))
    tally.figures["cases"] += 1
    tally.figures["refused"] += done.exit_code == 1
    assert done.exit_code == 1, done.output
    assert "sys.exit" in done.output
    assert f"{name}.py, line " in done.output
    check_message(done.output)
    assert not (tmp_path / "out" / "net.safetensors").exists()


def test_a_module_that_is_no_file(module: Any, tmp_path: Path, tally: Tally) -> None:
    os.mkfifo(tmp_path / "pipe_of_a_user.py")
    (tmp_path / "loop_of_a_user.py").symlink_to(tmp_path / "loop_of_a_user.py")
    (tmp_path / "folder_of_a_user.py").mkdir()
    for name in ("pipe_of_a_user", "loop_of_a_user", "folder_of_a_user", "nowhere_of_a_user"):
        with contextlib.chdir(tmp_path):
            assert tally.case(functools.partial(network, f"{name}:Net"), fails, [name])
    assert torch.is_grad_enabled()
    with pytest.raises(ModelError):
        network("nowhere:Net")

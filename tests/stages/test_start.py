"""What summaries and the report load: no torch, neither before nor while they work."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from support import ROOT, Study, process

from latent_atlas.cli import stages
from latent_atlas.signatures import example

LIGHT = [name for name in stages() if name.endswith("-summary") or name == "report"]
OF_FIGURES = "factors-summary"  # which this study of digits has not
LOADED = "print(*({'torch', 'onnx', 'sklearn', 'torchvision'} & sys.modules.keys()))"


def test_all_summaries_are_meant() -> None:
    assert len(LIGHT) == 11
    assert OF_FIGURES in LIGHT


@pytest.mark.parametrize("name", LIGHT)
def test_loading_takes_no_torch(name: str) -> None:
    code = (
        "import importlib, sys\n"
        "from pathlib import Path\n"
        "from latent_atlas.study import schema\n"
        "schema.load(Path('params.yaml'))\n"
        f"importlib.import_module('latent_atlas.stages.{name.replace('-', '_')}')\n"
    )
    done = process([sys.executable, "-c", code + LOADED], ROOT)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in LIGHT if name != OF_FIGURES])
def test_working_takes_no_torch(name: str, finished: Study) -> None:
    words = shlex.split(example(stages()[name]))[1:]
    assert run_cold(finished.folder, words) == ""


def run_cold(folder: Path, words: list[str]) -> str:
    """Which heavy packages are loaded when a command has run, in an interpreter of its own."""
    code = f"import sys; from latent_atlas.cli import main; main({words!r}, standalone_mode=False); {LOADED}"
    done = process([sys.executable, "-c", code], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()

"""Bad input through the real command: status 1 or 2, one message, no traceback, soon, and in little memory."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fuzzing import BYTES, EXAMPLES, SECONDS, Process, Tally
from ruamel.yaml import YAML
from support import COMMAND, SMALL, Study, options

from latent_atlas.cli import main, stages
from latent_atlas.errors import OutputError
from latent_atlas.files import write_text
from latent_atlas.signatures import FOLDER, signature

STAGES = stages()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """A pipe and devices."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    Study(tmp_path)
    with contextlib.chdir(tmp_path):
        yield {name: tmp_path / name for name in ("pipe", "device")} | {"zero": Path("/dev/zero")}


def arguments(stage: str) -> dict[str, str]:
    """All options of a stage, with files that are not there."""
    found = {}
    for name, option in STAGES[stage].options.items():
        kind = STAGES[stage].annotations[name].partition(" ")[0]
        found[name.replace("_", "-")] = {"str": "fc2", "int": "0"}.get(
            kind, f"gone/{name}{'' if option.type is FOLDER else '.safetensors'}"
        )
    return found


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_pipes_and_devices_at_each_option(stage: str, places: dict[str, Path], tally: Tally) -> None:
    """Refused within a second, whatever option names them."""
    given = arguments(stage) | {"params": "params.yaml"}
    for option in given.keys() - {"name", "seed"}:
        for path in places.values():
            words = options(stage, **{**given, option: str(path)})
            start = time.process_time()
            with tally.limits():
                done = CliRunner().invoke(main, words)
            tally.figures["cases"] += 1
            tally.figures["refused"] += 1
            assert done.exit_code == 2, (
                option,
                path,
                done.output,
                done.exception,
            )
            assert "Traceback" not in done.output, (option, path, done.output)
            assert time.process_time() - start < 1, (option, path)


def test_logs(places: dict[str, Path]) -> None:
    """A log may go to a device, not into a pipe, where writing might never begin."""
    words = ["fetch", "--images", "images.safetensors", "--log"]
    assert CliRunner().invoke(main, [*words, str(places["pipe"])]).exit_code == 2
    assert CliRunner().invoke(main, [*words, "/dev/null"]).exit_code == 0
    assert not Path("/dev/null.record.json").exists()


def test_outputs(places: dict[str, Path]) -> None:
    """Nothing replaces a device or a pipe."""
    for path in (places["pipe"], places["device"]):
        with pytest.raises(OutputError, match="not a file: name a file"):
            write_text(path, "text")
    assert places["pipe"].is_fifo()
    assert places["device"].is_char_device()


def process(folder: Path, *words: object) -> Process:
    with contextlib.chdir(folder):
        return Process([str(COMMAND), *map(str, words)], folder)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Process:
    """A fetch that succeeds, whose memory is that of the libraries."""
    study = Study(tmp_path_factory.mktemp("usual"))
    done = process(study.folder, "fetch", "--images", "images.safetensors")
    assert done.status == 0, done.errors
    return done


def bad(folder: Path) -> dict[str, dict[str, Any]]:
    """Sections `dataset` that cannot be used, with their files."""
    from test_pictures import headers

    (folder / "pictures").mkdir()
    (folder / "pictures" / "bomb.png").write_bytes(headers()["40000.png"])
    torch.save(torch.zeros(1).expand(10**9, 5, 6), folder / "repeated.pt")
    np.savez_compressed(folder / "huge.npz", images=np.zeros((3, 6000, 6000), np.float32))
    np.save(folder / "objects.npy", np.array([{}] * 9, object), allow_pickle=True)
    (folder / "cut.npy").write_bytes((folder / "objects.npy").read_bytes()[:40])
    (folder / "leaving.py").write_text("import sys\ndef f(): sys.exit(0)\n")
    os.mkfifo(folder / "pipe.npz")
    return {
        "bomb": {"images": "pictures", "size": 8}, "repeated": {"arrays": "repeated.pt"},
        "huge": {"arrays": "huge.npz"},
        "objects": {"arrays": "objects.npy"}, "cut": {"arrays": "cut.npy"}, "pipe": {"arrays": "pipe.npz"},
        "exit": {"function": "leaving:f"}, "labels": {"images": "pictures", "labels": "pipe.npz", "size": 8},
        "zero": {"arrays": "/dev/zero"}, "folder": {"arrays": "pictures"},
        "size": {"images": "pictures", "size": 10**6},
    }  # fmt: skip


def test_processes(usual: Process, tmp_path: Path, tally: Tally, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    study = Study(tmp_path)
    some = ("bomb", "repeated", "exit", "size")  # in a long search all of them
    for name, dataset in bad(tmp_path).items():
        if name not in some and not EXAMPLES:
            continue
        study.values = {**SMALL, "dataset": dataset}
        study.write()
        done = process(tmp_path, "fetch", "--images", "images.safetensors")
        tally.figures["cases"] += 1
        tally.figures["refused"] += 1
        assert done.status == 1, (name, done.errors)
        assert "Traceback" not in done.errors, (name, done.errors)
        assert re.search(r"^\[fetch\] error: \S", done.errors, re.MULTILINE), (name, done.errors)
        assert done.bytes - usual.bytes < BYTES, name
        assert done.seconds < usual.seconds + SECONDS, name
        assert not (tmp_path / "images.safetensors").exists()
        assert not list(tmp_path.glob(".fetch-*"))


def test_parameter_files_of_a_process(tmp_path: Path, tally: Tally) -> None:
    """The Snakefile refuses them as well as the command, before anything runs."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "large.yaml").write_text("#" * 1_100_000)
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 5000)
    (tmp_path / "anchors.yaml").write_text("a: &a [1]\nb: [*a, *a]\n")
    with (tmp_path / "number.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({**SMALL, "seeds": 10**400}, file)
    for path in ("pipe.yaml", "large.yaml", "deep.yaml", "anchors.yaml", "number.yaml", "/dev/zero", "/dev/tty"):
        if not EXAMPLES and path not in ("pipe.yaml", "large.yaml", "/dev/zero"):
            continue
        done = process(tmp_path, "fetch", "--params", path, "--images", "images.safetensors")
        tally.figures["cases"] += 1
        tally.figures["refused"] += 1
        assert done.status in (1, 2), (path, done.errors)
        assert path in done.errors
        assert "Traceback" not in done.errors
        assert done.seconds < SECONDS


def test_every_stage_is_tried() -> None:
    assert all(
        signature(Path(sys.modules["latent_atlas"].__path__[0]) / "stages" / f"{s.function}.py")
        for s in STAGES.values()
    )
    assert len(STAGES) > 20

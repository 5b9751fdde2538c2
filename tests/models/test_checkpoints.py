"""Files of weights are not believed: nothing is built or allocated before their tensors fit their metadata."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import Study

from latent_atlas.errors import LatentAtlasError
from latent_atlas.files import write_safetensors
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.models.checkpoints import Checkpoint, load_state
from latent_atlas.models.registry import build

OPTIONS = {"widths": [16, 8]}
METADATA = {
    "kind": "autoencoder",
    "architecture": "fully_connected",
    "input_shape": "[1, 8, 8]",
    "latent_dim": "3",
    "options": json.dumps(OPTIONS),
}


def write(path: Path, state: dict[str, torch.Tensor] | None, **metadata: str) -> Path:
    """A file with a checksum as the project writes it, whatever it says."""
    if state is None:
        state = dict(build("fully_connected", (1, 8, 8), 3, OPTIONS).state_dict())
    write_safetensors(path, state, METADATA | metadata)
    return path


def test_as_it_was_written(tmp_path: Path) -> None:
    state = dict(build("fully_connected", (1, 8, 8), 3, OPTIONS).state_dict())
    loaded = Checkpoint.load(write(tmp_path / "m.safetensors", state))
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.model.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in loaded.model.state_dict().values())


def test_swapped_manifolds_are_named(study: Study, trained: Study, digits_file: Path) -> None:
    checkpoints = study.folder / "checkpoints"
    shutil.copytree(trained.folder / "checkpoints", checkpoints)
    for path, other in (("fc2", "fc4"), ("pca2", "pca2_uncentred")):
        shutil.copy(checkpoints / f"{other}.safetensors", checkpoints / f"{path}.safetensors")
        done = study.run(
            *("tangents", "--name", path, "--manifold", f"checkpoints/{path}.safetensors"),
            *("--images", digits_file, "--folder", "results"),
        )
        assert done.exit_code == 1
        assert f"checkpoints/{path}.safetensors holds the manifold '{other}' where '{path}' is needed" in done.output
        assert load_manifold(checkpoints / f"{path}.safetensors").latent_dim  # outside a study, a copy is a copy


@pytest.mark.parametrize(
    "metadata",
    [
        {"input_shape": "[1, 30000, 30000]"},
        {"input_shape": "[1, 9000, 9000]"},
        {"input_shape": "[1, 9000, 9000]", "latent_dim": "80000000"},
        {"input_shape": "[1, 9000, 9000]", "adapter": "plain"},
        {"input_shape": "[1, 9000, 9000]", "adapter": "decoder_only", "latent_shape": "[3]"},
        {"adapter": "decoder_only", "latent_shape": "[100000, 100000]"},
        {"adapter": "decoder_only", "latent_shape": "[-1, -3]"},
        {"options": '{"widths": [100000, 100000]}'},
        {"options": '{"widths": [1000000000000, 1000000000000]}'},
        {"architecture": "convolutional", "input_shape": "[3, 5000, 5000]", "options": "{}"},
        {"architecture": "convolutional", "options": '{"kernel": 3, "widths": [1000000, 1000000]}'},
        {"latent_dim": "64"},
        {"latent_dim": "-1"},
        {"latent_dim": "9" * 5000},
        {"input_shape": "[1, 8, 8, 1]"},
        {"input_shape": "[1, 8, true]"},
        {"options": "[]"},
        {"options": "[1]"},
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_allocate_nothing(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = write(tmp_path / "m.safetensors", None, **metadata)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(LatentAtlasError) as error:
        Checkpoint.load(path)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["os:system", "torch.nn:Linear", "latent_atlas.models.registry:build", "", "a" * 1000])
def test_no_other_code_is_run(tmp_path: Path, name: str) -> None:
    for key in ("architecture", "adapter"):
        with (
            pytest.raises(LatentAtlasError, match="whose code would be run")
            if name
            else pytest.raises(LatentAtlasError)
        ):
            Checkpoint.load(write(tmp_path / "m.safetensors", None, **{key: name or "no such"}))


def test_nothing_is_imported_for_an_unknown_name(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('was_here', 'w')\nclass Evil: ...\n")
    write(tmp_path / "m.safetensors", None, architecture="evil:Evil")
    code = "import latent_atlas; latent_atlas.load('m.safetensors')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "names the architecture 'evil:Evil', whose code would be run" in done.stderr
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.fill_(torch.nan), "NaN or Inf"),
        (lambda t: t.fill_(-torch.inf), "NaN or Inf"),
        (lambda t: t.to(torch.complex64), "complex"),
        (lambda t: t.to(torch.int8), "int8"),
        (lambda t: t.to(torch.bool), "bool"),
        (lambda t: t[:1], "where the architecture has"),
    ],
)
def test_weights_that_are_none_are_named(tmp_path: Path, change: object, said: str) -> None:
    state = dict(build("fully_connected", (1, 8, 8), 3, OPTIONS).state_dict())
    name = next(iter(state))
    state[name] = change(state[name].clone())  # type: ignore[operator]
    with pytest.raises(LatentAtlasError, match=f"{name} .*{said}"):
        Checkpoint.load(write(tmp_path / "m.safetensors", state))
    with pytest.raises(LatentAtlasError, match=f"{name} .*{said}"):
        load_state(build("fully_connected", (1, 8, 8), 3, OPTIONS), state, "theirs")

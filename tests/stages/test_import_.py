"""import: a state dict from elsewhere, and what must not come in with it."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from support import Study, shake_statistics
from surfaces import succeeded
from torch import nn

from latent_atlas.data.images import Images, as_float
from latent_atlas.errors import CheckpointError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.models.checkpoints import load_state
from latent_atlas.models.registry import build


class Bomb:
    """An object whose pickle makes a folder when it is read without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def network() -> nn.Module:
    """What somebody has trained elsewhere: fc2 of the study."""
    torch.manual_seed(7)
    model = build("fully_connected", (1, 8, 8), 2)
    shake_statistics(model)
    return model.eval()


def run_import(study: Study, images: Path, model: str = "fc2") -> Result:
    """``latent-atlas import`` of ``weights.pth``."""
    return study.run(
        "import", "--name", model, "--images", images, "--state-dict", "weights.pth",
        "--checkpoint", "out.safetensors", "--log", "logs/import.log",
    )  # fmt: skip


def put(study: Study, thing: object) -> Path:
    """Write ``weights.pth`` as torch does."""
    path = study.folder / "weights.pth"
    torch.save(thing, path)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_imported_network_is_the_same(
    zipped: bool, study: Study, network: nn.Module, digits: Images, digits_file: Path
) -> None:
    torch.save(network.state_dict(), study.folder / "weights.pth", _use_new_zipfile_serialization=zipped)
    done = run_import(study, digits_file)
    assert done.exit_code == 0, done.output
    surface = load_manifold(study.folder / "out.safetensors")
    x = as_float(digits.test)
    with torch.no_grad():
        assert torch.equal(surface.reconstruct(x), network(x))
    metadata, _ = read_safetensors(study.folder / "out.safetensors")
    assert metadata["imported_from"] == "weights.pth"
    assert metadata["architecture"] == "fully_connected"
    assert metadata["dataset_sha256"] == digits.checksum
    error = float((surface.reconstruct(x) - x).double().square().mean())
    assert float(metadata["test_mse"]) == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("torchs_own", [True, False])
def test_code_in_a_pickle_is_not_run(torchs_own: bool, study: Study, network: nn.Module, digits_file: Path) -> None:
    trap = study.folder / "trap"
    path = study.folder / "weights.pth"
    cargo = dict(network.state_dict()) | {"extra": Bomb(trap)}
    if torchs_own:
        torch.save(cargo, path)
        torch.load(path, weights_only=False)
    else:
        path.write_bytes(pickle.dumps(cargo, protocol=2))
        pickle.loads(path.read_bytes())  # noqa: S301
    assert trap.is_dir()  # it does go off when it is read without care
    trap.rmdir()
    done = run_import(study, digits_file)
    assert done.exit_code == 1
    assert "weights.pth holds more than tensors and was refused" in done.stderr
    assert "torch.save(model.state_dict(), ...)" in done.stderr
    assert not trap.exists()
    assert not (study.folder / "out.safetensors").exists()


def test_whole_model_is_refused(study: Study, network: nn.Module, digits_file: Path) -> None:
    put(study, network)
    done = run_import(study, digits_file)
    assert done.exit_code == 1
    assert "save it again as torch.save(model.state_dict(), ...)" in done.stderr


def test_layers_that_do_not_fit_are_named(study: Study, network: nn.Module, digits_file: Path) -> None:
    state = dict(network.state_dict())
    state["encoder.elayer9.weight"] = state.pop("encoder.elayer1.weight")
    put(study, state)
    done = run_import(study, digits_file)
    assert done.exit_code == 1
    assert "weights.pth (as fc2: fully_connected, latent dimension 2)" in done.stderr
    assert "lacks encoder.elayer1.weight" in done.stderr
    assert "has an unknown encoder.elayer9.weight" in done.stderr
    assert not (study.folder / "out.safetensors").exists()


def test_shapes_that_do_not_fit_are_named(study: Study, network: nn.Module, digits_file: Path) -> None:
    put(study, network.state_dict())
    done = run_import(study, digits_file, model="fc4")
    assert done.exit_code == 1
    assert "encoder.elayer3.weight is (2, 128) where the architecture has (4, 128)" in done.stderr


def test_long_lists_are_cut(network: nn.Module) -> None:
    other = build("convolutional", (1, 8, 8), 2, {"kernel": 3})
    wanted, given = other.state_dict(), network.state_dict()
    shapes = sum(wanted[name].shape != given[name].shape for name in wanted.keys() & given.keys())
    with pytest.raises(CheckpointError) as caught:
        load_state(other, given, "x")
    told = re.fullmatch(r".* it lacks (.*) and (\d+) more; it has an unknown (.*) and (\d+) more; .*; and (\d+) more",
                        str(caught.value))  # fmt: skip
    assert told is not None
    first = [name for name in wanted if name not in given]
    assert told.group(1).split(", ") == first[:4]
    assert [int(told.group(n)) for n in (2, 4, 5)] == [
        len(first) - 4,
        len(given.keys() - wanted.keys()) - 4,
        shapes - 2,
    ]


def test_reading_weights_leaves_the_network_alone_when_they_do_not_fit(network: nn.Module) -> None:
    target = build("fully_connected", (1, 8, 8), 2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = dict(network.state_dict())
    del state["decoder.dlayer3.bias"]
    with pytest.raises(CheckpointError):
        load_state(target, state, "x")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value"), [("decoder.dlayer3.bias", float("nan")), ("encoder.ebatch1.running_var", -1.0)]
)
def test_what_is_no_number_is_refused_by_name_on_import_and_on_load(
    name: str, value: float, study: Study, network: nn.Module, digits_file: Path
) -> None:
    state = dict(network.state_dict())
    state[name] = torch.full_like(state[name], value)
    put(study, state)
    done = run_import(study, digits_file)
    assert done.exit_code == 1
    assert f"weights.pth (as fc2: fully_connected, latent dimension 2): {name} has " in done.stderr
    assert not (study.folder / "out.safetensors").exists()
    put(study, network.state_dict())
    succeeded(run_import(study, digits_file))
    metadata, tensors = read_safetensors(study.folder / "out.safetensors")
    write_safetensors(study.folder / "out.safetensors", tensors | {name: state[name]}, metadata)
    for stage in ("jacobian", "reconstruct", "interpolate", "invariance"):
        done = study.run(stage, *("--name", "fc2", "--manifold", "out.safetensors", "--images", digits_file),
                         *("--folder", stage))  # fmt: skip
        assert done.exit_code == 1
        assert re.search(rf"out\.safetensors \(.*\): {name} has ", done.stderr)
        assert not list((study.folder / stage).glob("*"))


def test_what_was_changed_stands_in_the_log(study: Study, network: nn.Module, digits_file: Path) -> None:
    put(study, {"state_dict": {f"model._orig_mod.{name}": t.half() for name, t in network.state_dict().items()}})
    succeeded(run_import(study, digits_file))
    log = (study.folder / "logs" / "import.log").read_text()
    for said in (
        "weights.pth: the weights are the entry state_dict of the file",
        "weights.pth: taken off the names: _orig_mod.",
        "weights.pth: taken off the names: model.",
        "weights.pth: 4 num_batches_tracked that are missing or no integers set to 0",
        "converted to float32",
    ):
        assert said in log


class TestCodes:
    """Codes that are given for the images."""

    @pytest.fixture
    def run(self, study: Study, network: nn.Module, digits: Images, digits_file: Path) -> Callable[..., Result]:
        """Import the decoder alone of fc2, with the codes that its encoder gives, or others."""
        put(study, network.state_dict())
        study.edit("models.fc2.adapter", "decoder_only")
        study.edit("models.fc2.state_dict", "weights.pth")
        study.edit("models.fc2.codes", "codes.npz")

        def imported(**codes: np.ndarray) -> Result:
            np.savez(study.folder / "codes.npz", allow_pickle=False, **codes)
            words = ("--name", "fc2", "--images", digits_file, "--state-dict", "weights.pth")
            return study.run("import", *words, "--codes", "codes.npz", "--checkpoint", "out.safetensors")

        return imported

    @pytest.fixture
    def right(self, network: nn.Module, digits: Images) -> dict[str, np.ndarray]:
        """The encoder's codes of all images."""
        with torch.no_grad():
            splits = ("train", "test")
            return {split: network.encoder(as_float(digits.pixels(split))).numpy() for split in splits}  # type: ignore[operator]

    def test_are_those_of_the_images(
        self, run: Callable[..., Result], right: dict[str, np.ndarray], study: Study, network: nn.Module, digits: Images
    ) -> None:
        succeeded(done := run(**right))
        different = len(torch.cat([digits.train, digits.test]).flatten(1).unique(dim=0))
        assert f"codes.npz: codes of {different} different images; others get that of the closest point" in done.stderr
        surface = load_manifold(study.folder / "out.safetensors")
        for split in ("train", "test"):
            assert torch.equal(surface.encode(digits.pixels(split)), torch.from_numpy(right[split]))
        metadata, _ = read_safetensors(study.folder / "out.safetensors")
        assert metadata["codes_from"] == "codes.npz"
        with torch.no_grad():
            error = (network(as_float(digits.train)) - as_float(digits.train)).double().square().mean()
        assert float(metadata["train_mse"]) == pytest.approx(float(error), rel=1e-5)

    def test_in_another_order_are_told(self, run: Callable[..., Result], right: dict[str, np.ndarray]) -> None:
        warning = "are the codes in the order of the images?"
        succeeded(done := run(train=right["train"][::-1] * 9, test=right["test"]))
        assert warning in done.stderr

    def test_of_another_number_are_refused(self, run: Callable[..., Result], right: dict[str, np.ndarray]) -> None:
        done = run(train=right["train"], test=right["test"][1:])
        assert done.exit_code == 1
        assert "codes.npz: test has the shape 296 x 2; needed: a code of 2 numbers (latent_dim) for each of 297" in (
            done.stderr
        )

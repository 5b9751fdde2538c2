"""Images in colour that are not square, through every stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options
from torch import Tensor
from torch.nn.functional import interpolate

from latent_atlas.data.images import Images

SHAPE = (3, 12, 8)
NAMES = ("conv2", "fc2", "pca2", "pca2_uncentred")
MEASURES = ("jacobian", "invariance", "reconstruct", "interpolate", "geodesics", "tangents")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all stages have written."""
    study = Study(tmp_path_factory.mktemp("colour"))
    coarse = torch.rand(60, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    pixels = interpolate(coarse, SHAPE[1:], mode="bilinear").mul(255).to(torch.uint8)
    labels = torch.arange(60) % 2
    images = study.folder / "images.safetensors"
    Images("own", pixels[20:], labels[20:], pixels[:20], labels[:20], ("even", "odd")).save(images)
    study.edit("dataset", {"name": "digits", "colour": "rgb", "folder": ".", "limit": None})
    study.edit("models", {
        "conv2": {"architecture": "convolutional", "latent_dim": 2, "options": {"kernel": 3}},
        "fc2": {"architecture": "fully_connected", "latent_dim": 2},
    })  # fmt: skip
    study.edit("sample.size", 8)
    study.edit("examples", {"pullover": "train/5", "sneaker": "train/6"})
    commands = [options("pca", images=images, folder="results/pca", checkpoints="results/checkpoints")]
    for name in ("conv2", "fc2"):
        checkpoint, train = f"results/checkpoints/{name}.safetensors", f"results/train/{name}"
        files = {"checkpoint": checkpoint, "curve": f"{train}/curve.csv", "snapshots": f"{train}/snapshots.safetensors"}
        commands.append(options("train", name=name, images=images, **files))
        commands.append(options("layers", name=name, checkpoint=checkpoint, folder=f"results/layers/{name}"))
        folder = f"results/invariance_epochs/{name}"
        commands.append(options("invariance-epochs", name=name, images=images, folder=folder, **files))
    for name in NAMES:
        manifold = f"results/checkpoints/{name}.safetensors"
        for stage in MEASURES:
            folder = f"results/{stage}/{name}"
            commands.append(options(stage, name=name, manifold=manifold, images=images, folder=folder))
    commands.append(options("interpolate", name="pixels", images=images, folder="results/interpolate/pixels"))
    files = {"checkpoints": "results/checkpoints", "trainings": "results/train", "folder": "results/tangents_shared"}
    commands.append(options("tangents-shared", images=images, **files))
    read = {
        "invariance": {"jacobians": "results/jacobian", "epochs": "results/invariance_epochs"},
        "tangents": {"measured": "results/tangents_shared"},
    }
    for stage in ("train", "layers", "jacobian", "invariance", "interpolate", "geodesics", "tangents"):
        commands.append(options(f"{stage}-summary", folder=f"results/{stage}", **read.get(stage, {})))
    commands.append(options("reconstruct-summary", images=images, folder="results/reconstruct"))
    commands.append(options("report", results="results", images=images, folder="results/report"))
    for command in commands:
        done = study.run(*command)
        assert done.exit_code == 0, (command, done.output)
    return study.folder / "results"


def test_every_table_has_a_row_for_every_manifold(results: Path) -> None:
    for stage in ("jacobian", "invariance", "reconstruct", "interpolate"):
        table = pd.read_csv(results / stage / "summary.csv")
        assert set(NAMES) <= set(table["model"])
        assert not table.drop(columns=["seed", "reason"], errors="ignore").select_dtypes("number").isna().any().any()
    assert (results / "report" / "index.html").stat().st_size > 50_000


@pytest.mark.parametrize("name", NAMES)
def test_pictures_keep_channels_and_sides(name: str, results: Path) -> None:
    files = {"reconstruct": "shown", "interpolate": "images", "invariance": "pictures"}
    for stage, file in files.items():
        for images in load_file(results / stage / name / f"{file}.safetensors").values():
            assert tuple(images.shape[1:]) == SHAPE
    tangents: dict[str, Tensor] = load_file(results / "tangents" / name / "tangents.safetensors")
    assert {len(vectors) for vectors in tangents.values()} == {3 * 12 * 8}


def test_layers_of_oblong_kernels(results: Path) -> None:
    layers = pd.read_csv(results / "layers" / "conv2" / "layers.csv").set_index("layer")
    assert layers.loc["econv1", "input_shape"] == "3x12x8"
    assert layers.loc["econv3", "input_shape"] == "8x8x4"
    assert layers.loc["dconv3", "output_shape"] == "3x12x8"

"""Checkpoints, manifolds and images of this project, damaged or with metadata that lie: refused, or read as is."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import Change, Tally, damage, damaged, quick
from hypothesis import example, given
from hypothesis import strategies as some
from support import same_state
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.errors import CheckpointError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace, load_manifold
from latent_atlas.loading import load
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.registry import build

SHAPE, K = (1, 8, 8), 2
X = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))


def checkpoint(architecture: str, options: dict[str, Any]) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(build(architecture, SHAPE, K, options).eval(), architecture, SHAPE, K, options)


CHECKPOINTS = {
    "fc": checkpoint("fully_connected", {"widths": [8, 4]}),
    "conv": checkpoint("convolutional", {"kernel": 3}),
}
SUBSPACE = PrincipalSubspace(torch.eye(64)[:K].clone(), torch.rand(64), SHAPE)
LABELS = torch.zeros(3, dtype=torch.int64)
IMAGES = Images("some", (X * 255).byte(), LABELS, (X * 255).byte(), LABELS, ("a",))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("good")
    things: dict[str, Any] = {**CHECKPOINTS, "pca": SUBSPACE, "images": IMAGES}
    for name, thing in things.items():
        thing.save(folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in things}


def drawn(found: Manifold) -> Tensor:
    """What a manifold makes of images: a damaged one may not get as far as this."""
    with torch.no_grad():
        return found.reconstruct(
            X.to(found.dtype) if found.image_shape == SHAPE else torch.zeros(1, *found.image_shape)
        )


def tried(tally: Tally, name: str, path: Path) -> str | None:
    if name == "images":

        def same(found: Images) -> None:
            assert torch.equal(found.train, IMAGES.train)
            assert found.checksum == IMAGES.checksum

        return tally.case(lambda: Images.load(path), same, [str(path)])

    def of(found: Manifold) -> None:
        image = drawn(found)
        assert image.isfinite().all()
        if isinstance(found, PrincipalSubspace):
            assert torch.equal(image, SUBSPACE.reconstruct(X).reshape(image.shape))
        elif isinstance(found, Autoencoder):
            assert same_state(found.model, CHECKPOINTS[name].model)

    return tally.case(lambda: load_manifold(path), of, [str(path)])


@quick(200)
@given(name=some.sampled_from(["fc", "conv", "pca", "images"]), changes=damage())
def test_damaged(name: str, changes: list[Change], good: dict[str, Path], tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "x.safetensors"
    content = good[name].read_bytes()
    path.write_bytes(damaged(content, changes))
    message = tried(tally, name, path)
    assert message or path.read_bytes() == content


VALUES = some.sampled_from(
    ["", "null", "{}", "[]", "1", "-1", "0", "2", "1e400", "[1e400, 1, 1]", "[1, 8, 8]", "[1, 8]", "[1, 8, 8, 1]",
     "[100000000, 1000, 1000]", "[1, 8, -8]", '"x"', "true", "[true, 8, 8]", "9" * 5000, "[" * 100_000,
     '{"a":' * 50_000, "NaN", "[[1, 2]]", '{"widths": [1000000000000, 4]}', '{"widths": [1000000, 1000000]}',
     '{"widths": "x"}',
     '{"kernel": 1000000000}', '{"kernel": -1}', '{"kernel": 3, "x": 1}', '{"self": 1}', '{"latent_dim": 1}',
     '{"__class__": 1}', "evil:Evil", "os:system", "builtins:eval", "fully_connected", "convolutional", "vae",
     "decoder_only", "../x", "x" * 10_000, "\u202e", "autoencoder", "pca", '{"widths": [' + "1, " * 3000 + "1]}",
     '{"widths": [' + "1, " * 200_000 + "1]}"]
)  # fmt: skip
KEYS = some.sampled_from(
    ["kind", "architecture", "input_shape", "latent_dim", "options", "adapter", "latent_shape", "image_shape", "family",
     "classes", "made", "name", "x"]
)  # fmt: skip


@quick(250)
@given(
    name=some.sampled_from(["fc", "conv", "pca", "images"]),
    entries=some.dictionaries(KEYS, some.none() | VALUES | some.text(max_size=9), min_size=1, max_size=3),
)
@example(name="fc", entries={"architecture": "evil:Evil"})
@example(name="fc", entries={"input_shape": "[100000000, 1000, 1000]"})
@example(name="fc", entries={"input_shape": "[true, 8, 8]"})
@example(name="fc", entries={"input_shape": "[" * 100_000})
@example(name="fc", entries={"latent_shape": "[1e400, 1, 1]"})
@example(name="fc", entries={"options": "[[1, 2]]"})
@example(name="fc", entries={"options": '{"widths": [' + "1, " * 200_000 + "1]}"})
@example(name="pca", entries={"image_shape": "[1, 8, 9]"})
def test_metadata(
    name: str, entries: dict[str, str | None], good: dict[str, Path], tmp_path: Path, tally: Tally
) -> None:
    """With a right checksum."""
    metadata, tensors = read_safetensors(good[name])
    path = tmp_path / "x.safetensors"
    kept = {key: value for key, value in (metadata | entries).items() if value is not None}
    write_safetensors(path, tensors, {key: value.encode("utf-8", "replace").decode() for key, value in kept.items()})
    tried(tally, name, path)


@quick(120)
@given(
    name=some.sampled_from(["fc", "conv", "pca", "images"]), which=some.integers(0, 30),
    how=some.sampled_from(
        ["gone", "nan", "inf", "complex", "int8", "bool", "half", "double", "longer", "scalar", "empty", "renamed",
         "more"]
    ),
)  # fmt: skip
def test_tensors(name: str, which: int, how: str, good: dict[str, Path], tmp_path: Path, tally: Tally) -> None:
    """With a right checksum."""
    metadata, tensors = read_safetensors(good[name])
    key = sorted(tensors)[which % len(tensors)]
    tensor = tensors[key]
    made: dict[str, Any] = {
        "nan": lambda: tensor * torch.nan, "inf": lambda: tensor / 0, "complex": lambda: tensor.to(torch.complex64),
        "int8": lambda: tensor.to(torch.int8), "bool": lambda: tensor > 0, "half": lambda: tensor.half(),
        "double": lambda: tensor.double(), "longer": lambda: torch.stack([tensor, tensor]), "scalar": tensor.sum,
        "empty": lambda: tensor.flatten()[:0], "renamed": lambda: tensor, "more": lambda: tensor,
    }  # fmt: skip
    changed = {k: t for k, t in tensors.items() if k != key or how == "more"}
    if how != "gone":
        changed |= {f"{key}.x" if how in ("renamed", "more") else key: made[how]()}
    path = tmp_path / "x.safetensors"
    write_safetensors(path, changed, metadata)

    def fine(found: Any) -> None:
        """A type of the same kind that holds the same numbers may be read; all else is refused."""
        assert how in ("half", "double") or torch.equal(tensor, made[how]())
        if how == "double" and isinstance(found, Autoencoder):
            assert same_state(found.model, CHECKPOINTS[name].model)

    tally.case(lambda: Images.load(path) if name == "images" else load_manifold(path), fine, [str(path)])


def test_foreign_code_is_not_run(good: dict[str, Path], tmp_path: Path, tally: Tally) -> None:
    metadata, tensors = read_safetensors(good["fc"])
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    path = tmp_path / "x.safetensors"
    sys.path.insert(0, str(tmp_path))
    try:
        for key in ("architecture", "adapter"):
            write_safetensors(path, tensors, metadata | {key: "evil:Evil"})
            message = tally.case(lambda: load_manifold(path), lambda found: None, ["evil:Evil"])
            assert message
            assert "would be run" in message
            assert not (tmp_path / "ran").exists()
    finally:
        sys.path.remove(str(tmp_path))


def test_no_files(tmp_path: Path, tally: Tally) -> None:
    pipe, device, loop = (tmp_path / f"{kind}.safetensors" for kind in ("pipe", "device", "loop"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    for path in (pipe, device, loop, tmp_path, tmp_path / "gone.safetensors"):
        for read in (Images.load, load_manifold, Checkpoint.load, load):
            assert tally.case(functools.partial(read, path), lambda found: None, [str(path)])
        assert tally.case(functools.partial(load, f"file://{path}"), lambda found: None, [str(path)])
    with pytest.raises(CheckpointError, match="named pipe"):
        load_manifold(pipe)

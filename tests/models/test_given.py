"""Codes that are given for images: found again by the content of an image, kept in a checkpoint."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from latent_atlas.errors import CheckpointError, DataError
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import Autoencoder, load_manifold
from latent_atlas.models.adapters import Adapted, adapted
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.export import export
from latent_atlas.models.foreign import read_codes
from latent_atlas.models.given import GivenCodes

SHAPE, K, COUNT = (3, 4, 5), 4, 6


def images() -> Tensor:
    """uint8 images (N, 3, 4, 5)."""
    return torch.randint(0, 256, (COUNT, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def codes(*shape: int) -> Tensor:
    """Codes of all images."""
    return torch.randn(COUNT, *(shape or (K,)), generator=torch.Generator().manual_seed(2))


def generator() -> nn.Module:
    """A decoder of codes (N, k)."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(K, 12), nn.Tanh(), nn.Linear(12, math.prod(SHAPE)), nn.Unflatten(1, SHAPE))


def surface(**more: Any) -> Autoencoder:
    """A generator with given codes."""
    return Autoencoder.from_functions(
        None, lambda net, z: net(z), (K,), SHAPE, model=generator(), codes=(images(), codes()), **more
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_known_image_has_its_code_in_any_order_and_precision(dtype: torch.dtype) -> None:
    net = surface().to(dtype)
    order = torch.tensor([4, 0, 2])
    for x in (images()[order], images()[order].to(dtype) / 255):
        assert torch.equal(net.encode(x), codes()[order].to(dtype))


def test_any_other_image_has_that_of_the_closest_point() -> None:
    net = surface().to(torch.float64)
    z = codes()[:1].double() / 3
    changed = images()[:1].clone()
    changed[0, 0, 0, 0] ^= 1
    between = images()[1:2].double() / 255 + 0.3 / 255
    x = torch.cat([images()[:1].double() / 255, net.decode(z), changed.double() / 255, between.clamp(0, 1)])
    found = net.encode(x)
    assert torch.equal(found[0], codes()[0].double())
    torch.testing.assert_close(found[1], z[0], rtol=0, atol=1e-6)
    bare = Autoencoder.from_functions(None, lambda n, t: n(t), (K,), SHAPE, model=generator()).to(torch.float64)
    torch.testing.assert_close(found[2:], bare.encode(x[2:]), rtol=0, atol=1e-6)
    assert float((found[2] - codes()[0]).abs().max()) > 0.01


def test_of_equal_images_the_first_counts() -> None:
    twice = torch.cat([images()[:1], images()[:1]])
    given = GivenCodes.of({"codes": (twice, codes()[:2])}, K)
    known, found = given.of_known(twice.float() / 255)
    assert known.all()
    assert torch.equal(found, codes()[:1].expand(2, -1))


def test_numpy_arrays_and_codes_with_a_shape() -> None:
    net = Autoencoder.from_functions(
        None, lambda z: z.mean((1, 2, 3))[:, None].expand(-1, 60), (1, 2, 2), SHAPE,
        codes=(images().numpy(), codes(1, 2, 2).double().numpy()),
    )  # fmt: skip
    assert torch.equal(net.encode(images()), codes(1, 2, 2).flatten(1))
    with pytest.raises(CheckpointError, match="this adapter has an encoder; codes are given only where there is none"):
        Autoencoder.from_functions(nn.Flatten(), nn.Identity(), (60,), SHAPE, codes=(images(), codes(60)))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (codes()[1:], "x has the shape 5 x 4; needed: a code of 4 numbers .* for each of 6 images, in their order"),
        (codes(5), "x has the shape 6 x 5; needed: a code of 4 numbers"),
        (codes() / 0, "x holds numbers that are not finite"),
        (codes().long(), "x holds torch.int64; needed: finite floating-point numbers"),
    ],
)
def test_what_does_not_fit_is_refused(given: Tensor, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        GivenCodes.of({"x": (images(), given)}, K)
    with pytest.raises(CheckpointError, match="x: images of codes must be uint8"):
        GivenCodes.of({"x": (images().float(), codes())}, K)


class Net(nn.Module):
    """Codes (N, 1, 2, 2) to images, in the manner of a convolutional generator."""

    def __init__(self, shape: tuple[int, int, int] = SHAPE, latent_dim: int = K) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(1, 3, (3, 4))

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 4:
            raise ValueError("no map")
        return self.up(z).sigmoid()  # N x 3 x 4 x 5


class TestCheckpoint:
    """What is kept of them in a file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        network = adapted(Net(), "decoder_only", SHAPE, K, (1, 2, 2))
        assert isinstance(network, Adapted)
        network.give(GivenCodes.of({"codes": (images(), codes(1, 2, 2))}, K))
        Checkpoint(network.eval(), f"{__name__}:Net", SHAPE, K, adapter="decoder_only").save(tmp_path / "m.safetensors")
        return tmp_path / "m.safetensors"

    def test_comes_back(self, path: Path) -> None:
        net = load_manifold(path, {f"{__name__}:Net"})
        assert torch.equal(net.encode(images()), codes(1, 2, 2).flatten(1))
        assert torch.equal(net.to(torch.float64).encode(images()), codes(1, 2, 2).flatten(1).double())
        other = copy.deepcopy(net)
        assert torch.equal(other.encode(images()[2:3]), codes(1, 2, 2)[2:3].flatten(1))

    def test_an_exported_state_dict_is_the_networks_own(self, path: Path, tmp_path: Path) -> None:
        export(Checkpoint.load(path, {f"{__name__}:Net"}), "state_dict", tmp_path / "net.pth")
        assert list(torch.load(tmp_path / "net.pth", weights_only=True)) == ["up.weight", "up.bias"]

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("given.codes", codes()[:, :3], "codes of 3 numbers, not 4"),
            ("given.codes", codes()[1:], "do not fit each other"),
            ("given.codes", codes() * math.nan, "given.codes has NaN or Inf"),
            ("given.images", torch.zeros(COUNT, 16), "do not fit each other"),
        ],
    )
    def test_damage_is_refused(self, name: str, value: Tensor, says: str, path: Path) -> None:
        metadata, tensors = read_safetensors(path)
        write_safetensors(path, tensors | {name: value}, metadata)
        with pytest.raises(CheckpointError, match=says):
            load_manifold(path, {f"{__name__}:Net"})


class TestFile:
    """Files of codes."""

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.npy", codes().numpy()),
            ("a.npz", {"z": codes().numpy()}),
            ("a.npz", {"train": codes().numpy(), "other": codes().numpy(), "names": np.array([["a"]])}),
            ("a.pt", codes()),
            ("a.pt", nn.Embedding.from_pretrained(codes()).state_dict()),
            ("a.pth", {"epoch": 3, "latent_codes": {"weight": codes()}}),  # as DeepSDF writes them
            ("a.safetensors", {"train": codes()}),
        ],
    )
    def test_of_any_kind(self, name: str, content: Any, tmp_path: Path) -> None:
        path = tmp_path / name
        match path.suffix:
            case ".npy":
                np.save(path, content)
            case ".npz":
                np.savez_compressed(path, **content)
            case ".safetensors":
                save_file(content, path)
            case _:
                torch.save(content, path)
        found = read_codes(path)
        assert list(found) == ["train"]
        train = found["train"]
        assert torch.equal(torch.from_numpy(train.copy()) if isinstance(train, np.ndarray) else train, codes())

    def test_of_both_splits(self, tmp_path: Path) -> None:
        torch.save({"test": codes()[:2], "train": codes()}, tmp_path / "a.pt")
        assert {split: len(found) for split, found in read_codes(tmp_path / "a.pt").items()} == {"train": 6, "test": 2}

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ({"a": codes(), "b": codes()}, "holds a, b; it must hold train, and test if there are such codes"),
            ({"test": codes()}, "holds test; it must hold train"),
            ({"train": codes()[:, 0]}, "holds no array of two or more axes; it must hold train"),
        ],
    )
    def test_of_something_else(self, content: Any, says: str, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match=says):
            read_codes(tmp_path / "a.pt")
        with pytest.raises(DataError, match=r"codes: .*absent\.npy cannot be read"):
            read_codes(tmp_path / "absent.npy")

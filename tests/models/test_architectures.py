"""The architectures: what they are made of, and how a name becomes a network."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from latent_atlas.errors import ModelError
from latent_atlas.kernels import convolutions
from latent_atlas.kernels.convolutions import conv2d_valid, conv_transpose2d_valid, faster, kernel_gradient
from latent_atlas.models.registry import build, import_path

SHAPE = (1, 28, 28)
MODULES = (f"architectures_of_a_user_{number}" for number in itertools.count())

FULLY_CONNECTED_KEYS = [
    "elayer1.weight", "elayer1.bias",
    "ebatch1.weight", "ebatch1.bias", "ebatch1.running_mean", "ebatch1.running_var", "ebatch1.num_batches_tracked",
    "elayer2.weight", "elayer2.bias",
    "ebatch2.weight", "ebatch2.bias", "ebatch2.running_mean", "ebatch2.running_var", "ebatch2.num_batches_tracked",
    "elayer3.weight", "elayer3.bias",
    "dlayer1.weight", "dlayer1.bias",
    "dbatch1.weight", "dbatch1.bias", "dbatch1.running_mean", "dbatch1.running_var", "dbatch1.num_batches_tracked",
    "dlayer2.weight", "dlayer2.bias",
    "dbatch2.weight", "dbatch2.bias", "dbatch2.running_mean", "dbatch2.running_var", "dbatch2.num_batches_tracked",
    "dlayer3.weight", "dlayer3.bias",
]  # fmt: skip
CONVOLUTIONAL_KEYS = [
    "econv1.weight",
    "ebatch1.weight", "ebatch1.bias", "ebatch1.running_mean", "ebatch1.running_var", "ebatch1.num_batches_tracked",
    "econv2.weight",
    "ebatch2.weight", "ebatch2.bias", "ebatch2.running_mean", "ebatch2.running_var", "ebatch2.num_batches_tracked",
    "econv3.weight", "econv3.bias",
    "dconv1.weight", "dconv1.bias",
    "dbatch1.weight", "dbatch1.bias", "dbatch1.running_mean", "dbatch1.running_var", "dbatch1.num_batches_tracked",
    "dconv2.weight",
    "dbatch2.weight", "dbatch2.bias", "dbatch2.running_mean", "dbatch2.running_var", "dbatch2.num_batches_tracked",
    "dconv3.weight",
]  # fmt: skip


def built(architecture: str, shape: tuple[int, int, int], latent_dim: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """An autoencoder in eval mode, its encoder and its decoder."""
    torch.manual_seed(0)
    model = build(architecture, shape, latent_dim).eval()
    encoder, decoder = model.get_submodule("encoder"), model.get_submodule("decoder")
    return model, encoder, decoder


@pytest.mark.parametrize(
    ("architecture", "latent_dim", "count"),
    [
        ("fully_connected", 16, 474_144),
        ("fully_connected", 32, 478_256),
        ("fully_connected", 128, 502_928),
        ("convolutional", 16, 116_984),
        ("convolutional", 32, 219_400),
        ("convolutional", 128, 833_896),
    ],
)
def test_parameter_count(architecture: str, latent_dim: int, count: int) -> None:
    model = build(architecture, SHAPE, latent_dim)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize(
    ("architecture", "keys"), [("fully_connected", FULLY_CONNECTED_KEYS), ("convolutional", CONVOLUTIONAL_KEYS)]
)
def test_layer_names(architecture: str, keys: list[str]) -> None:
    found = list(build(architecture, SHAPE, 16).state_dict())
    assert found == [f"{'encoder' if key[0] == 'e' else 'decoder'}.{key}" for key in keys]


def outputs(model: nn.Module, x: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of each named layer's output."""
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        layer.register_forward_hook(lambda _, __, y, name=name: shapes.__setitem__(name, tuple(y.shape[1:])))
        for name, layer in model.named_modules()
        if not list(layer.children())
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return shapes


def test_shapes_inside_the_convolutional_network() -> None:
    shapes = outputs(build("convolutional", SHAPE, 16), torch.zeros(2, *SHAPE))
    assert shapes["encoder.econv1"] == shapes["encoder.eact1"] == (32, 24, 24)
    assert shapes["encoder.econv2"] == shapes["encoder.eact2"] == (8, 20, 20)
    assert shapes["encoder.econv3"] == shapes["encoder.eact3"] == (16, 1, 1)
    assert shapes["decoder.dconv1"] == shapes["decoder.dact1"] == (8, 20, 20)
    assert shapes["decoder.dconv2"] == shapes["decoder.dact2"] == (32, 24, 24)
    assert shapes["decoder.dconv3"] == shapes["decoder.dact3"] == (1, 28, 28)


def test_shapes_inside_the_fully_connected_network() -> None:
    shapes = outputs(build("fully_connected", SHAPE, 16), torch.zeros(2, *SHAPE))
    chain = ["elayer1", "elayer2", "elayer3", "dlayer1", "dlayer2", "dlayer3"]
    found = [shapes[f"{'encoder' if name[0] == 'e' else 'decoder'}.{name}"] for name in chain]
    assert found == [(256,), (128,), (16,), (128,), (256,), (784,)]


@pytest.mark.parametrize("architecture", ["fully_connected", "convolutional"])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 10)])
def test_images_go_through_codes_to_images(architecture: str, shape: tuple[int, int, int]) -> None:
    model, encoder, decoder = built(architecture, shape, 5)
    x = torch.rand(7, *shape)
    z = encoder(x)
    y = decoder(z)
    assert z.shape == (7, 5)
    assert z.min() > -1  # the code comes out of an ELU
    assert y.shape == x.shape
    assert 0 < y.min() < y.max() < 1
    assert torch.equal(y, model(x))


def test_options_reach_the_class() -> None:
    model = build("fully_connected", (1, 8, 8), 2, {"widths": [20, 10]})
    assert model.state_dict()["encoder.elayer2.weight"].shape == (10, 20)
    assert build("convolutional", (1, 8, 8), 2, {"kernel": 3}).state_dict()["encoder.econv3.weight"].shape == (
        2,
        8,
        4,
        4,
    )


def test_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build("fully_connected", (1, 8, 8), 2).state_dict()["decoder.dlayer3.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


class TestRefusals:
    """What is no architecture, and the words for it."""

    def test_image_too_small(self) -> None:
        with pytest.raises(ModelError, match="take 8 pixels from each side, but the images are 8x8") as caught:
            build("convolutional", (1, 8, 8), 2)
        assert "choose a smaller 'kernel'" in str(caught.value)

    def test_smallest_image_that_fits(self) -> None:
        _, _, decoder = built("convolutional", (1, 9, 9), 2)
        assert decoder(torch.zeros(1, 2)).shape == (1, 1, 9, 9)

    def test_more_latent_coordinates_than_pixels(self) -> None:
        with pytest.raises(ModelError, match="latent dimension 65"):
            build("fully_connected", (1, 8, 8), 65)

    @pytest.mark.parametrize("name", ["convolutoinal", "a b:C", "module:", ":Class", "my-module:Class", ""])
    def test_unknown_name(self, name: str) -> None:
        with pytest.raises(
            ModelError, match=re.escape(f"{name!r} is no architecture") + "(;|, did you mean .*\\?) choose"
        ) as caught:
            import_path(name)
        assert "convolutional, fully_connected" in str(caught.value)
        assert "'module:Class'" in str(caught.value)

    def test_unknown_option(self) -> None:
        with pytest.raises(ModelError, match=r"'fully_connected' does not take these options: .*'depth'"):
            build("fully_connected", SHAPE, 2, {"depth": 3})


class TestClassOfTheUser:
    """An architecture given by its import path."""

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """A module of architectures, of which one is sound."""
        name = next(MODULES)
        (tmp_path / f"{name}.py").write_text(
            textwrap.dedent(
                """
                import math
                from torch import nn

                class Linear(nn.Module):
                    def __init__(self, input_shape, latent_dim, bias=True):
                        super().__init__()
                        pixels = math.prod(input_shape)
                        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim, bias))
                        self.decoder = nn.Sequential(nn.Linear(latent_dim, pixels, bias), nn.Unflatten(1, input_shape))

                    def forward(self, x):
                        return self.decoder(self.encoder(x))

                class Headless(nn.Module):
                    def __init__(self, input_shape, latent_dim):
                        super().__init__()
                        self.encoder = nn.Linear(2, 2)

                class Functions(nn.Module):
                    def __init__(self, input_shape, latent_dim):
                        super().__init__()
                        self.encoder = lambda x: x
                        self.decoder = lambda z: z

                class Plain:
                    def __init__(self, input_shape, latent_dim):
                        pass

                class Small(nn.Module):
                    def __init__(self, latent_dim):
                        super().__init__()

                def function(input_shape, latent_dim):
                    return Linear(input_shape, latent_dim)

                def number(input_shape, latent_dim):
                    return latent_dim

                def half(input_shape, latent_dim):
                    return Linear(input_shape, latent_dim).half()

                """
            )
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return name

    def test_is_built(self, module: str) -> None:
        model = build(f"{module}:Linear", (1, 3, 3), 2, {"bias": False})
        assert sorted(model.state_dict()) == ["decoder.0.weight", "encoder.1.weight"]
        assert model(torch.zeros(4, 1, 3, 3)).shape == (4, 1, 3, 3)

    def test_of_a_function_is_built(self, module: str) -> None:
        assert type(build(f"{module}:function", (1, 3, 3), 2)).__name__ == "Linear"

    @pytest.mark.parametrize(
        ("name", "says"),
        [
            ("Headless", "has no 'decoder' that is a torch.nn.Module"),
            ("Functions", "has no 'encoder' that is a torch.nn.Module"),
            ("Plain", "is not a class derived from torch.nn.Module"),
            ("Small", "too many positional arguments; it is called with (1, 3, 3), 2 and its options"),
            ("number", "gives a int, not a torch.nn.Module"),
            ("Absent", "has no Absent"),
        ],
    )
    def test_is_refused(self, module: str, name: str, says: str) -> None:
        with pytest.raises(ModelError, match=re.escape(says)) as caught:
            build(f"{module}:{name}", (1, 3, 3), 2)
        assert f"{module}:{name}" in str(caught.value)

    def test_in_another_precision_is_used_in_float32(self, module: str, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO", logger="latent_atlas"):
            models = [build(f"{module}:half", (1, 3, 3), 2) for _ in range(2)]
        assert {weight.dtype for model in models for weight in model.parameters()} == {torch.float32}
        assert caplog.text.count(f"architecture '{module}:half' is built in torch.float16: used in float32") == 1

    def test_whose_module_ends_the_program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = next(MODULES)
        (tmp_path / f"{name}.py").write_text("import sys\n\nsys.exit(3)\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ModelError, match=rf"the import of {name} raises SystemExit: 3 \(.*{name}\.py, line 3\)"):
            build(f"{name}:Net", (1, 3, 3), 2)

    def test_whose_module_sets_defaults_of_torch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = next(MODULES)
        text = "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\nNet = torch.nn.Identity\n"
        (tmp_path / f"{name}.py").write_text(f"import torch\n{text}")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(ModelError, match="has no 'encoder'"):
            build(f"{name}:Net", (1, 3, 3), 2)
        assert torch.get_default_dtype() == torch.float32
        assert torch.is_grad_enabled()

    def test_whose_module_has_the_name_of_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "random.py").write_text("class Net: pass\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelError, match=r"random has no Net: it is .*random\.py, not random\.py; rename yours"):
            build("random:Net", (1, 3, 3), 2)

    def test_in_a_module_that_is_not_there(self) -> None:
        with pytest.raises(ModelError, match=r"no module named 'nowhere'; put nowhere\.py beside the Snakefile"):
            build("nowhere:Class", (1, 3, 3), 2)


class TestConvolutions:
    """The project's own are the library's, whichever way they take."""

    @pytest.mark.parametrize("count", [0, 3])
    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
    @pytest.mark.parametrize(
        ("channels", "size", "options"),
        [
            ((3, 5), (4, 4), {}),
            ((5, 3), (3, 3), {"padding": 1}),
            ((9, 1), (6, 9), {}),
            ((9, 2), (6, 9), {"bias": False}),
            ((1, 9), (6, 9), {"bias": False}),
            ((1, 9), (6, 9), {"bias": False, "stride": 2}),
            ((6, 9), (7, 9), {}),
            ((9, 8), (7, 9), {"bias": False}),
            ((9, 8), (7, 10), {"bias": False}),
            ((8, 8), (7, 9), {"groups": 2}),
            ((17, 18), (5, 6), {}),
        ],
    )
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_values_and_gradients(
        self,
        kind: type[nn.Conv2d | nn.ConvTranspose2d],
        channels: tuple[int, int],
        size: tuple[int, int],
        options: dict[str, Any],
        train: bool,
        count: int,
        layout: torch.memory_format,
    ) -> None:
        given = size
        if kind is nn.ConvTranspose2d and not options.get("stride", options.get("padding")):
            given = (size[0] - 3, size[1] - 3)  # as the adjoint of the same convolution
        theirs = kind(*channels, 4, dtype=torch.float64, **options).train(train)
        mine = getattr(convolutions, kind.__name__)(*channels, 4, dtype=torch.float64, **options).train(train)
        for layer in (mine, theirs):
            nn.Module.to(layer, memory_format=layout)  # type: ignore[call-overload]
        mine.load_state_dict(theirs.state_dict())
        x = torch.randn(count, channels[0], *given, dtype=torch.float64).to(memory_format=layout).requires_grad_()
        weights = torch.randn_like(theirs(x))
        assert torch.allclose(mine(x), theirs(x), rtol=1e-12, atol=1e-12)
        gradients = (
            torch.autograd.grad((layer(x) * weights).sum(), [x, *layer.parameters()]) for layer in (mine, theirs)
        )
        for found, expected in zip(*gradients, strict=True):
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("kind", ["Conv2d", "ConvTranspose2d"])
    @pytest.mark.parametrize(("channels", "side"), [((9, 8), 10), ((9, 1), 9), ((5, 6), 4)])
    def test_under_autocast(self, kind: str, channels: tuple[int, int], side: int) -> None:
        mine, theirs = (getattr(module, kind)(*channels, 4) for module in (convolutions, nn))
        mine.load_state_dict(theirs.state_dict())
        side = side if kind == "Conv2d" else side - 3
        x = torch.randn(3, channels[0], side, side)
        found: list[Tensor] = []
        expected: list[Tensor] = []
        for layer, results in ((mine, found), (theirs, expected)):
            with torch.autocast("cpu", torch.bfloat16):
                results.append(layer(x))
            results[0].float().square().mean().backward()
            results += [parameter.grad for parameter in layer.parameters()]
        assert found[0].dtype == expected[0].dtype == torch.bfloat16
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one.float(), other.float(), rtol=0.05, atol=0.02)

    @pytest.mark.parametrize("channels", [1, 8, 20])
    def test_are_adjoint(self, channels: int) -> None:
        weight = torch.randn(channels, 3, 4, 3, dtype=torch.float64)
        x, y = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, channels, 5, 6, dtype=torch.float64)
        inner = (conv2d_valid(x, weight) * y).sum()
        assert torch.allclose((x * conv_transpose2d_valid(y, weight)).sum(), inner)
        assert torch.allclose((kernel_gradient(x, y, weight) * weight).sum(), inner)

    @pytest.mark.parametrize(
        "size", [(5, 8, 7, 5, 20, 20), (3, 2, 6, 4, 1, 9), (4, 20, 5, 3, 6, 1), (0, 3, 9, 2, 4, 4)]
    )
    def test_transposed_in_double_precision(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        """To more channels than are thin, in parts of a few images that do not divide their number."""
        count, channels, out, kernel, height, width = size
        weight = torch.randn(channels, out, kernel, kernel + 1, dtype=torch.float64)
        x = torch.randn(count, channels, height, width, dtype=torch.float64)
        expected = conv_transpose2d(x, weight) if count else x.new_empty(0, out, height + 1, width + 2)
        for cache in (1, 8 * 2 * (expected[:1].numel() + x[:1].numel() * 2), 2**30):
            monkeypatch.setattr(convolutions, "CACHE", cache)
            found = conv_transpose2d_valid(x.contiguous(memory_format=torch.channels_last), weight)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize(
        "size", [(5, 8, 32, 5, 20, 20), (3, 16, 16, 3, 7, 9), (2, 3, 5, 4, 1, 6), (1, 6, 8, 2, 3, 1)]
    )
    def test_ways_agree(self, size: tuple[int, ...], dtype: torch.dtype) -> None:
        """Each way to compute a transposed convolution to many channels, of either memory order."""
        count, channels, out, kernel, height, width = size
        weight = torch.randn(channels, out, kernel, kernel + 1, dtype=dtype)
        x = torch.randn(count, channels, height, width, dtype=dtype)
        expected = conv_transpose2d(x.double(), weight.double())
        ways = (convolutions._with_margin, convolutions._to_many, convolutions._by_rows, convolutions._folded)
        for way in (*ways, conv_transpose2d, conv_transpose2d_valid):
            for given in (x, x.contiguous(memory_format=torch.channels_last)):
                near = 1e-12 if dtype == torch.float64 else 1e-4
                torch.testing.assert_close(way(given, weight).double(), expected, rtol=0, atol=near)


class TestWays:
    """The way to compute a transposed convolution follows from the name that torch has for the processor."""

    NAMES = ("AVX512", "AVX2", "NO AVX", "DEFAULT", "VSX", "Z VECTOR", "SVE256")

    def test_every_processor_has_one(self) -> None:
        documented = re.findall(r'- "(.*)"', torch.backends.cpu.get_cpu_capability.__doc__ or "")
        assert set(documented) <= set(self.NAMES), "torch names a processor that is not considered here"
        assert {convolutions.WAYS.get(name, convolutions.OTHERWISE) for name in self.NAMES} == {"margin", "library"}
        assert set(convolutions.WAYS) <= set(self.NAMES)
        assert torch.backends.cpu.get_cpu_capability() == convolutions.CAPABILITY

    def test_each_is_the_fastest_of_the_two_that_was_measured(self) -> None:
        """In the layer that takes most of the time, on each processor of the table."""
        table = pd.read_csv(Path(convolutions.__file__).parents[3] / "benchmarks" / "convolutions.csv")
        middle = table[(table["dtype"] == "float32") & (table["layer"] == "middle")]
        times = middle.pivot(index=["processor", "capability"], columns="way", values="us_an_image")
        assert {name.split()[0] for _, name in times.index} == set(convolutions.WAYS)
        for (_, name), row in times.iterrows():
            assert row[["margin", "library"]].astype(float).idxmin() == convolutions.WAYS[name.split()[0]]

    @pytest.mark.parametrize("limit", ["avx2", "default"])
    def test_a_processor_with_fewer_instructions(self, limit: str) -> None:
        """Derivatives agree where torch is limited to them, and are those of the way that the table names."""
        code = (
            "import torch; from torch.nn.functional import conv_transpose2d\n"
            "from latent_atlas.kernels import convolutions as c\n"
            "x, w = torch.randn(4, 8, 20, 20), torch.randn(8, 32, 5, 5)\n"
            "assert torch.equal(c.conv_transpose2d_valid(x, w), conv_transpose2d(x, w))\n"
            "x, w = x.double(), w.double()\n"
            "torch.testing.assert_close(c.conv_transpose2d_valid(x, w), conv_transpose2d(x, w), rtol=0, atol=1e-12)\n"
            "print(c.CAPABILITY)"
        )
        limited = os.environ | {"ATEN_CPU_CAPABILITY": limit, "ONEDNN_MAX_CPU_ISA": "AVX2"}
        told = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        assert told.stdout.strip() in set(self.NAMES) - {"AVX512"}


class TestFaster:
    """The project's layers stand in for torch's around a computation, and leave no trace."""

    def kinds(self, model: nn.Module) -> set[type]:
        """The classes of its convolutions."""
        return {
            type(layer)
            for layer in model.modules()
            if "Conv" in type(layer).__name__ and "weight" in vars(layer)["_parameters"]
        }

    def test_networks_are_made_of_torchs_layers(self) -> None:
        model = build("convolutional", SHAPE, 4)
        assert self.kinds(model) == {nn.Conv2d, nn.ConvTranspose2d}

    def test_training_mode_takes_functional_transformations(self) -> None:
        layer = build("convolutional", SHAPE, 4).train().get_submodule("decoder.dconv2")
        x = torch.rand(2, 8, 6, 6)
        _, tangent = torch.func.jvp(layer, (x,), (x,))  # type: ignore[misc]
        assert torch.allclose(tangent, layer(x))

    @pytest.mark.parametrize("fails", [False, True])
    def test_layers_are_exchanged_and_restored(self, fails: bool) -> None:
        model = build("convolutional", SHAPE, 4).eval()
        x = torch.rand(3, *SHAPE)
        expected = model(x)
        try:
            with faster(model), faster(model):
                assert self.kinds(model) == {convolutions.Conv2d, convolutions.ConvTranspose2d}
                assert torch.allclose(model(x), expected, atol=1e-5)
                if fails:
                    raise KeyError
        except KeyError:
            pass
        assert self.kinds(model) == {nn.Conv2d, nn.ConvTranspose2d}

    def test_derived_classes_stay(self) -> None:
        class Own(nn.Conv2d):
            pass

        layer = Own(1, 1, 3)
        with faster(layer):
            assert type(layer) is Own

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        "layer",
        [
            nn.Conv2d(1, 8, 3),
            nn.Conv2d(1, 32, 3),
            nn.Conv2d(3, 8, 6),
            nn.ConvTranspose2d(8, 1, 3),
            nn.ConvTranspose2d(3, 4, 5),
        ],
    )
    def test_results_lie_in_memory_as_those_of_torch(self, layer: nn.Module, last: bool, training: bool) -> None:
        """``view`` may follow a convolution; the layers of one pixel are those of a square as large as the kernel."""
        layout = torch.channels_last if last else torch.contiguous_format
        layer = layer.to(memory_format=layout).train(training)  # type: ignore[call-overload]
        channels = layer.get_parameter("weight").shape[1 if isinstance(layer, nn.Conv2d) else 0]
        for side in (6, 8, 1) if isinstance(layer, nn.ConvTranspose2d) else (6, 8):
            x = torch.rand(2, channels, side, side).to(memory_format=layout)
            y = layer(x)
            with faster(layer):
                found = layer(x)
            torch.testing.assert_close(found, y, rtol=1e-4, atol=1e-6)
            assert found.is_contiguous() or not y.is_contiguous()
            if last and isinstance(layer, nn.Conv2d):  # else the next layer were slower
                assert found.is_contiguous(memory_format=torch.channels_last)

    def test_compiled_layers_stay(self) -> None:
        model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3))
        model[0].compile(backend="eager")
        with faster(model):
            assert [type(layer) for layer in model] == [nn.Conv2d, convolutions.Conv2d]

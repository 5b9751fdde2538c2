"""layers: spectra of linear layers against explicit matrices, and what may and may not be concluded from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options, shake_statistics
from surfaces import planted, random, succeeded
from torch import Tensor, nn

from latent_atlas.files import write_tables
from latent_atlas.geometry import layers as module
from latent_atlas.geometry.layers import Layer, immersion, layers, operator_spectrum, submersion
from latent_atlas.geometry.spectra import Spectrum
from latent_atlas.models.registry import build
from latent_atlas.report.figures.layers import plot_layers
from latent_atlas.report.sections import layers as sections
from latent_atlas.stages.tables import LAYERS, combined

MODELS = ("fc2", "fc4")
LINEAR_RANKS = {16: [256, 128, 16, 16, 128, 256], 32: [256, 128, 32, 32, 128, 256], 128: [256, 128, 128, 128, 128, 256]}
PARAMETERS = {16: 474_144, 32: 478_256, 128: 502_928}

CONVOLUTIONS = {
    "plain": (nn.Conv2d(1, 4, 3), (1, 6, 5)),
    "narrowing": (nn.Conv2d(4, 1, 3), (4, 6, 5)),
    "bias": (nn.Conv2d(2, 3, 2, bias=True), (2, 4, 4)),
    "stride": (nn.Conv2d(2, 3, 3, stride=2), (2, 7, 6)),
    "padding": (nn.Conv2d(2, 2, 3, padding=(1, 2)), (2, 4, 5)),
    "dilation": (nn.Conv2d(1, 3, 2, dilation=3), (1, 6, 7)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5)),
    "all of it": (nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), bias=True), (2, 6, 6)),
    "one dimension": (nn.Conv1d(2, 3, 3, padding=1), (2, 9)),
    "transposed": (nn.ConvTranspose2d(3, 2, 3), (3, 4, 4)),
    "a kernel larger than the rest": (nn.Conv2d(3, 2, 4), (3, 5, 6)),
    "transposed with such a kernel": (nn.ConvTranspose2d(3, 2, (4, 2)), (3, 2, 5)),
    "transposed narrowing": (nn.ConvTranspose2d(8, 1, 2), (8, 3, 3)),
    "transposed from one pixel": (nn.ConvTranspose2d(5, 2, 4, bias=True), (5, 1, 1)),
    "transposed stride": (nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1), (2, 3, 4)),
    "transposed dilation": (nn.ConvTranspose2d(2, 1, 2, dilation=2, padding=1), (2, 4, 4)),
}


def stacked(*members: nn.Module) -> list[Layer]:
    """The layers of a stack that begins with a linear one."""
    first = members[0]
    assert isinstance(first, nn.Linear)
    return layers(nn.Sequential(*members), torch.zeros(1, first.in_features))


def parts(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of an autoencoder."""
    return model.get_submodule("encoder"), model.get_submodule("decoder")


def linear(rows: int, columns: int, rank: int | None = None) -> nn.Linear:
    """A linear layer of full rank with the singular values 1 to 2, or of a smaller rank, exactly so in float32."""
    layer = nn.Linear(columns, rows)
    count = min(rows, columns)
    full = planted(rows, columns, torch.linspace(2, 1, count).tolist())
    lacking = (4 * random(rows, rank or 1)).round() @ (4 * random(rank or 1, columns, seed=1)).round()
    with torch.no_grad():
        layer.weight.copy_(full if rank is None else lacking)
    return layer


def norm(width: int, *dead: int) -> nn.BatchNorm1d:
    """BatchNorm with scales and statistics at work, and a scale of zero for some of its channels."""
    layer = nn.BatchNorm1d(width)
    shake_statistics(layer)
    with torch.no_grad():
        layer.weight[list(dead)] = 0
    return layer


def operator_values(layer: nn.Module, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Spectrum:
    """The spectrum of a layer that is small enough to have one."""
    found = operator_spectrum(layer, input_shape, output_shape)
    assert found is not None
    return found


class TestOperator:
    """The singular values of a convolution as a matrix."""

    @pytest.mark.parametrize("name", list(CONVOLUTIONS))
    def test_are_those_of_the_explicit_matrix(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        layer, shape = CONVOLUTIONS[name]
        layer = layer.double()
        layer.reset_parameters()  # from the seed that every test starts with
        size = math.prod(shape)
        with torch.no_grad():
            out = layer(torch.zeros(1, *shape).double())
            matrix = (layer(torch.eye(size).double().reshape(size, *shape)) - out).flatten(1).T  # outputs x inputs
        expected = np.linalg.svd(matrix.numpy(), compute_uv=False)
        found = operator_values(layer, shape, tuple(out.shape[1:]))
        assert found.values.shape == expected.shape
        assert found.values.numpy() == pytest.approx(expected, abs=1e-13 * float(expected[0]))
        monkeypatch.setattr(module, "SMALL", 0)  # as for a large one
        found = operator_values(layer, shape, tuple(out.shape[1:]))
        largest = float(expected[0])
        well_above = expected > 1e-3 * largest
        assert found.values.numpy()[well_above] == pytest.approx(expected[well_above], rel=1e-9)
        assert found.values.numpy() == pytest.approx(expected, abs=1e-7 * largest)
        assert found.rank == (expected > found.tolerance).sum()

    def test_of_a_circular_convolution_are_its_frequencies(self) -> None:
        layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").double()
        found = operator_values(layer, (1, 8, 8), (1, 8, 8))
        frequencies = np.abs(np.fft.fft2(layer.weight.detach().numpy()[0, 0], (8, 8))).ravel()
        assert found.values.numpy() == pytest.approx(np.sort(frequencies)[::-1], abs=1e-7)

    def test_of_a_kernel_without_a_frequency_has_a_smaller_rank(self) -> None:
        layer = nn.Conv1d(1, 1, 2, padding=1, padding_mode="circular", bias=False).double()
        with torch.no_grad():
            layer.weight.fill_(0.5)  # the mean of neighbours: a wave of period 2 is lost
        found = operator_values(layer, (1, 8), (1, 9))
        assert found.rank == 7

    @pytest.mark.parametrize("name", ["padding", "transposed stride"])
    def test_do_not_depend_on_how_many_columns_are_taken_at_once(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        layer, shape = CONVOLUTIONS[name]
        layer = layer.double()
        monkeypatch.setattr(module, "SMALL", 0)
        with torch.no_grad():
            output_shape = tuple(layer(torch.zeros(1, *shape).double()).shape[1:])
            whole = operator_values(layer, shape, output_shape)
            monkeypatch.setattr(module, "CHUNK", 5 * 8 * max(math.prod(shape), math.prod(output_shape)))
            parts = operator_values(layer, shape, output_shape)
        assert parts.values.tolist() == pytest.approx(whole.values.tolist(), rel=1e-10, abs=1e-7)


class TestLayers:
    """What is read off a network."""

    def test_in_the_order_of_their_calls_with_shapes_and_parameters(self) -> None:
        model = build("convolutional", (1, 9, 8), 3, {"kernel": 3, "widths": (4, 2)})
        _, decoder = parts(model)
        found = layers(decoder, torch.zeros(1, 3))
        assert [
            (layer.name, layer.kind, layer.input_shape, layer.output_shape, layer.parameters) for layer in found
        ] == [
            ("unflatten", "Unflatten", (3,), (3, 1, 1), 0),
            ("dconv1", "ConvTranspose2d", (3, 1, 1), (2, 5, 4), 3 * 2 * 5 * 4 + 2),
            ("dbatch1", "BatchNorm2d", (2, 5, 4), (2, 5, 4), 4),
            ("dact1", "ELU", (2, 5, 4), (2, 5, 4), 0),
            ("dconv2", "ConvTranspose2d", (2, 5, 4), (4, 7, 6), 2 * 4 * 9),
            ("dbatch2", "BatchNorm2d", (4, 7, 6), (4, 7, 6), 8),
            ("dact2", "ELU", (4, 7, 6), (4, 7, 6), 0),
            ("dconv3", "ConvTranspose2d", (4, 7, 6), (1, 9, 8), 4 * 9),
            ("dact3", "Sigmoid", (1, 9, 8), (1, 9, 8), 0),
        ]
        assert sum(layer.parameters for layer in found) == sum(p.numel() for p in decoder.parameters())
        assert (found[1].inputs, found[1].outputs) == (3, 40)

    @pytest.mark.parametrize("k", [16, 32, 128])
    def test_published_ranks_and_parameter_counts(self, k: int) -> None:
        torch.manual_seed(k)
        model = build("fully_connected", (1, 28, 28), k)
        encoder, decoder = parts(model)
        found = layers(encoder, torch.zeros(1, 1, 28, 28)) + layers(decoder, torch.zeros(1, k))
        assert [layer.rank for layer in found if layer.kind == "Linear"] == LINEAR_RANKS[k]
        assert sum(layer.parameters for layer in found) == PARAMETERS[k]

    def test_spectrum_of_a_linear_layer_is_that_of_its_weight_in_float64(self) -> None:
        layer = nn.Linear(7, 4)
        (found,) = layers(nn.Sequential(layer), torch.zeros(1, 7))
        assert found.spectrum is not None
        expected = np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False)
        assert found.spectrum.values.tolist() == pytest.approx(expected.tolist(), rel=1e-13)
        assert layer.weight.dtype == torch.float32  # a copy was taken

    def test_scales_of_batch_norm(self) -> None:
        layer = nn.BatchNorm2d(3, eps=0.5)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([2.0, -6.0, 0.0]))
            assert layer.running_var is not None
            layer.running_var.copy_(torch.tensor([0.5, 3.5, 1.0]))
        (found,) = layers(nn.Sequential(layer.train()), torch.zeros(1, 3, 2, 1))
        assert found.spectrum is not None
        assert found.spectrum.values.tolist() == pytest.approx([3, 3, 2, 2, 0, 0], rel=1e-12)
        assert (found.rank, found.immersive, found.submersive) == (4, False, False)
        (plain,) = layers(nn.Sequential(nn.BatchNorm1d(2, affine=False, eps=0.0)), torch.zeros(1, 2))
        assert plain.spectrum is not None
        assert plain.spectrum.values.tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("activation", "bijective"),
        [
            (nn.ELU(), True),
            (nn.ELU(alpha=0.0), False),
            (nn.CELU(), True),
            (nn.Sigmoid(), True),
            (nn.Tanh(), True),
            (nn.Softplus(), True),
            (nn.LeakyReLU(0.1), True),
            (nn.LeakyReLU(0.0), False),
            (nn.ReLU(), False),
            (nn.Hardtanh(), False),
            (nn.Dropout(0.5), True),
            (nn.Identity(), True),
            (nn.SiLU(), None),
            (nn.BatchNorm1d(4, track_running_stats=False), None),
        ],
    )
    def test_activations(self, activation: nn.Module, bijective: bool | None) -> None:
        (found,) = layers(nn.Sequential(activation), torch.zeros(1, 4, 2))
        assert (found.bijective, found.immersive, found.submersive) == (bijective,) * 3
        assert found.rank == (8 if bijective else None)

    def test_does_not_touch_the_network(self) -> None:
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        layers(model, torch.zeros(1, 3))
        assert model.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert not model[0]._forward_hooks


class Skip(nn.Module):
    """A layer with a way around it."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.before = nn.Linear(3, 3)
        self.around = nn.Linear(3, 3)
        self.after = nn.Linear(3, 3)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            return x + self.around(x)
        y = self.before(x)
        return self.after(y + self.around(y))


class Squared(nn.Module):
    """A function that is no layer, between two layers or after them."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Linear(3, 3), nn.Linear(3, 3), last

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x)) ** 2 if self.last else self.two(self.one(x) ** 2)


class Ending(nn.Module):
    """A layer, and a function after it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


class TestNoStack:
    """Networks that are no plain stack of layers are not judged."""

    @pytest.mark.parametrize("example", [torch.zeros(1, 3), torch.ones(1, 3)])
    def test_skip_connection(self, example: Tensor) -> None:
        for first in (False, True):
            with pytest.raises(ValueError, match="the operation add is not fed with the output of the layer before it"):
                layers(Skip(first), example)

    def test_function_that_is_no_layer(self) -> None:
        for last in (False, True):
            with pytest.raises(ValueError, match="the operation pow_1 is no layer"):
                layers(Squared(last), torch.zeros(1, 3))

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            (lambda x: torch.maximum(x, -9 * torch.ones(3)), "the operation maximum is"),
            (lambda x: x.clamp(min=-9), "the operation clamp is no layer"),
            (lambda x: x.clone().clamp_(-9, 9), "the operation clone is no layer"),
            (lambda x: x if x.sum() < 99 else x * 0, "cannot be followed"),
            (lambda x: x if isinstance(x, torch.fx.Proxy) else x.clamp(-9, 9), "something other than its layers"),
            (lambda x: x.reshape(1, -1), "the operation reshape is no layer"),
            (lambda x: torch.flatten(x, 0).reshape(-1, 3), "does not map each point"),
        ],
    )
    def test_function_that_does_nothing_near_zero(self, function: Callable[[Tensor], Tensor], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            layers(Ending(function), torch.zeros(1, 3))

    def test_hooks_and_parametrizations(self) -> None:
        hooked = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        hooked[1].register_forward_hook(lambda layer, given, out: out.clamp(-9, 9))
        with pytest.raises(ValueError, match="a hook or a function of its own changes 1"):
            layers(hooked, torch.zeros(1, 3))
        computed = nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)))
        with pytest.raises(ValueError, match="the weights of 0 are computed from others"):
            layers(computed, torch.zeros(1, 3))

    def test_functions_that_are_layers(self) -> None:
        def ends(function: Callable[[Tensor], Tensor]) -> list[str]:
            return [layer.kind for layer in layers(Ending(function), torch.zeros(1, 3))][1:]

        assert ends(lambda x: torch.clamp(x, 0.0, max=1.0)) == ["Hardtanh"]
        assert immersion(layers(Ending(lambda x: x.clamp(-9, 9)), torch.zeros(1, 3))).verdict == "undetermined"
        assert ends(lambda x: torch.tanh(nn.functional.elu(x).sigmoid())) == ["ELU", "Sigmoid", "Tanh"]
        assert ends(lambda x: x.view(x.size(0), 3, 1).flatten(1)) == ["Flatten", "Unflatten", "Flatten"]
        assert ends(lambda x: torch.flatten(x.view(x.shape[0], -1), start_dim=1)) == ["Flatten", "Flatten"]


class TestVerdict:
    """Yes, no, or not to be told."""

    def test_full_rank_stack_is_an_immersion(self) -> None:
        stack = stacked(linear(4, 2), norm(4), nn.ELU(), linear(9, 4), nn.Sigmoid())
        found = immersion(stack)
        assert (found.property, found.verdict) == ("immersion", "yes")
        assert "the ranks are full (0 2, 3 4; smallest singular value 1, of 3)" in found.reason or (
            "the ranks are full (0 2, 3 4; smallest singular value 1, of 0)" in found.reason
        )
        scales = stack[1].spectrum
        assert scales is not None
        assert f"no BatchNorm scale is zero (smallest {scales.sigma_min:.3g}, of 1)" in found.reason
        assert "activations increase strictly" in found.reason

    def test_full_rank_stack_is_a_submersion(self) -> None:
        found = submersion(stacked(linear(5, 9), norm(5), nn.ELU(), linear(2, 5), nn.ELU()))
        assert (found.property, found.verdict) == ("submersion", "yes")

    def test_stack_without_batch_norm(self) -> None:
        found = immersion(stacked(linear(4, 2), nn.ELU(), linear(9, 4)))
        assert found.verdict == "yes"
        assert "BatchNorm" not in found.reason

    def test_stack_without_a_linear_layer(self) -> None:
        stack = layers(nn.Sequential(nn.Sigmoid(), nn.Flatten()), torch.zeros(1, 2, 3))
        assert immersion(stack).verdict == submersion(stack).verdict == "yes"
        assert immersion(stack).reason == "Every layer's derivative is one-to-one: the activations increase strictly."

    @pytest.mark.parametrize("k", [16, 128])
    def test_published_ones_of_fully_connected_models(self, k: int) -> None:
        torch.manual_seed(k)
        model = build("fully_connected", (1, 28, 28), k)
        shake_statistics(model)
        encoder, decoder = parts(model)
        assert submersion(layers(encoder, torch.zeros(1, 1, 28, 28))).verdict == "yes"
        assert immersion(layers(decoder, torch.zeros(1, k))).verdict == "yes"

    def test_published_ones_of_convolutional_models(self) -> None:
        torch.manual_seed(0)
        model = build("convolutional", (1, 12, 12), 4, {"kernel": 3})
        shake_statistics(model)
        networks = parts(model)
        encoder = submersion(layers(networks[0], torch.zeros(1, 1, 12, 12)))
        decoder = immersion(layers(networks[1], torch.zeros(1, 4)))
        assert encoder.verdict == decoder.verdict == "undetermined"
        assert encoder.reason == (
            "econv1 (Conv2d) maps 144 dimensions to 3200 with rank 144, which is not onto; the whole may be all the "
            "same, so that the weights alone cannot tell."
        )
        assert decoder.reason.startswith("dconv3 (ConvTranspose2d) maps 3200 dimensions to 144 with rank 144, which is")

    def test_zero_scale_where_others_are_left(self) -> None:
        """Five of six channels may still carry two dimensions, so nothing follows."""
        found = immersion(stacked(linear(6, 2), norm(6, 3), nn.ELU(), linear(9, 6), nn.Sigmoid()))
        assert found.verdict == "undetermined"
        assert "1 (BatchNorm1d) maps 6 dimensions to 6 with rank 5, which is not one-to-one" in found.reason

    def test_zero_scale_where_none_is_left(self) -> None:
        found = immersion(stacked(linear(2, 2), norm(2, 0), nn.ELU(), linear(9, 2), nn.Sigmoid()))
        assert found.verdict == "no"
        assert found.reason == (
            "The rank of 1 (BatchNorm1d, 2 to 2) is at most 1, so the rank of the whole cannot reach the 2 that an "
            "immersion needs."
        )

    def test_zero_scales_that_leave_too_few(self) -> None:
        found = submersion(stacked(linear(5, 9), norm(5, 0, 1, 2, 4), nn.ELU(), linear(2, 5)))
        assert found.verdict == "no"
        assert found.reason == (
            "The rank of 1 (BatchNorm1d, 5 to 5) is at most 1, so the rank of the whole cannot reach the 2 that a "
            "submersion needs."
        )

    def test_layer_that_lacks_rank_to_rounding(self) -> None:
        found = immersion(stacked(linear(4, 2, rank=1), nn.ELU(), linear(9, 4)))
        assert found.verdict == "undetermined"
        assert "The rank of 0 (Linear, 2 to 4) is 1 to rounding: its smallest singular value, " in found.reason
        assert "does not exceed the tolerance, " in found.reason
        late = submersion(stacked(linear(5, 9), nn.ELU(), linear(3, 5, rank=2)))
        assert late.verdict == "undetermined"

    def test_layer_with_weights_of_zero(self) -> None:
        layer = linear(4, 2)
        with torch.no_grad():
            layer.weight[:, 1] = 0
        found = immersion(stacked(layer, nn.ELU(), linear(9, 4)))
        assert found.verdict == "no"
        assert "The rank of 0 (Linear, 2 to 4) is at most 1" in found.reason
        pixel = nn.ConvTranspose2d(2, 4, 1)
        with torch.no_grad():
            pixel.weight.copy_(layer.weight.T[:, :, None, None])
        assert immersion(layers(pixel, torch.zeros(1, 2, 1, 3))).verdict == "no"

    @pytest.mark.parametrize("smallest", [0.5, 1e-11, 1e-20])
    @pytest.mark.parametrize("side", [1, 3, 40])
    def test_one_verdict_for_a_product_and_a_convolution_of_pixels(self, smallest: float, side: int) -> None:
        product, pixel = nn.Linear(3, 3).double(), nn.Conv2d(3, 3, 1).double()
        with torch.no_grad():
            product.weight.copy_(torch.diag(torch.tensor([2.0, 1.0, smallest])))
            pixel.weight.copy_(product.weight[:, :, None, None])
        verdict = immersion(layers(product, torch.zeros(1, 3))).verdict
        assert verdict == ("undetermined" if smallest == 1e-20 else "yes")
        assert immersion(layers(pixel, torch.zeros(1, 3, side, side))).verdict == verdict

    def test_layer_that_lacks_rank_but_has_enough(self) -> None:
        """Rank 3 of a layer from 4 to 9 dimensions may suffice for 2."""
        found = immersion(stacked(linear(4, 2), nn.ELU(), linear(9, 4, rank=3)))
        assert found.verdict == "undetermined"
        assert "The rank of 2 (Linear, 4 to 9) is 3 to rounding" in found.reason

    def test_bottleneck_below_the_latent_dimension(self) -> None:
        found = immersion(stacked(linear(2, 3), nn.ELU(), linear(9, 2)))
        assert found.verdict == "no"
        assert "The rank of 0 (Linear, 3 to 2) is at most 2" in found.reason

    def test_relu(self) -> None:
        for found in (
            immersion(stacked(linear(4, 2), nn.ReLU(), linear(9, 4))),
            submersion(stacked(linear(4, 9), nn.ReLU(), linear(2, 4))),
        ):
            assert found.verdict == "undetermined"
            assert "The derivative of 1 (ReLU) vanishes in places" in found.reason

    def test_layer_of_an_unknown_kind(self) -> None:
        found = immersion(stacked(linear(4, 2), nn.SiLU(), linear(9, 4)))
        assert found.verdict == "undetermined"
        assert found.reason == "Nothing is known here of the derivative of 1 (SiLU)."

    def test_layer_too_large_for_its_singular_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LARGEST", 3)
        (large, small), within = stacked(linear(5, 4), linear(3, 5)), stacked(linear(3, 5))
        assert (large.spectrum, large.rank) == (None, None)
        assert (large.bound, small.rank) == (4, 3)
        found = submersion([large, small])
        assert found.verdict == "undetermined"
        assert found.reason == (
            "Nothing is known here of the derivative of 0 (Linear, 4 to 5: too large for its singular values)."
        )
        assert submersion(within).verdict == "yes"
        assert operator_spectrum(nn.Conv2d(1, 2, 3).double(), (1, 4, 4), (2, 2, 2)) is None

    def test_certain_loss_counts_more_than_what_is_unknown(self) -> None:
        assert immersion(stacked(linear(4, 2), nn.SiLU(), linear(1, 4))).verdict == "no"


@pytest.fixture(scope="module")
def results(trained: Study) -> Path:
    """What both stages have written."""
    for model in MODELS:
        succeeded(
            trained.run(
                *options(
                    "layers",
                    name=model,
                    checkpoint=f"checkpoints/{model}.safetensors",
                    folder=f"results/layers/{model}",
                )
            )
        )
    succeeded(trained.run("layers-summary", "--folder", "results/layers"))
    return trained.folder / "results"


class TestStage:
    """Both stages on a small study."""

    def test_columns(self, results: Path) -> None:
        table = pd.read_csv(results / "layers" / "layers.csv")
        assert list(table.columns) == [
            "manifold", "model", "seed", "latent_dim", "part", "layer", "kind", "input_shape", "output_shape",
            "input_dim", "output_dim", "parameters", "rank", "sigma_max", "sigma_min", "rank_tolerance",
        ]  # fmt: skip
        assert list(dict.fromkeys(zip(table["model"], table["part"], strict=True))) == [
            (model, part) for model in MODELS for part in ("encoder", "decoder")
        ]

    @pytest.mark.parametrize("model", MODELS)
    def test_numbers(self, model: str, results: Path) -> None:
        table = pd.read_csv(results / "layers" / "layers.csv")
        table = table[table["model"] == model].set_index("layer")
        k = int(model[2:])
        network = build("fully_connected", (1, 8, 8), k)
        assert table["parameters"].sum() == sum(p.numel() for p in network.parameters())
        assert table[table["kind"] == "Linear"]["rank"].tolist() == [64, 128, k, k, 128, 64]
        assert table.loc["elayer1", "input_shape"] == "64"
        assert table.loc["flatten", "input_shape"] == "1x8x8"
        assert table.loc["unflatten", "output_shape"] == "1x8x8"
        assert table[["sigma_max", "sigma_min"]].loc["eact1"].isna().all()
        weights = table[table["kind"] == "Linear"]
        assert (weights["sigma_max"] > weights["sigma_min"]).all()
        assert (weights["sigma_min"] > weights["rank_tolerance"]).all()

    def test_spectra_are_those_of_the_checkpoint(self, results: Path, trained: Study) -> None:
        table = pd.read_csv(results / "layers" / "spectra.csv")
        weight = load_file(trained.folder / "checkpoints" / "fc4.safetensors")["decoder.dlayer2.weight"].double()
        rows = table[(table["model"] == "fc4") & (table["layer"] == "dlayer2")]
        assert rows["order"].tolist() == list(range(1, 129))
        expected = np.linalg.svd(weight.numpy(), compute_uv=False)
        assert rows["singular_value"].tolist() == pytest.approx(expected.tolist(), rel=1e-10)

    def test_verdicts(self, results: Path) -> None:
        """The images have 64 pixels only, so that the outer layers of 256 units widen and narrow again."""
        table = pd.read_csv(results / "layers" / "summary.csv")
        assert table[["model", "part", "property", "verdict"]].to_numpy().tolist() == [
            [model, part, name, "undetermined"]
            for model in MODELS
            for part, name in (("encoder", "submersion"), ("decoder", "immersion"))
        ]
        assert table["reason"][0].startswith(
            "elayer1 (Linear) maps 64 dimensions to 256 with rank 64, which is not onto"
        )

    def test_picture(self, results: Path) -> None:
        assert (results / "layers" / "spectra.svg").stat().st_size > 5000
        assert (results / "layers" / "spectra.png").stat().st_size > 5000

    def test_section(self, results: Path, trained: Study) -> None:
        section = sections.section(results, trained.params)
        assert section.sentences == [
            "Is the encoder a submersion? The weights alone cannot tell for fc2, fc4.",
            "Is the decoder an immersion? The weights alone cannot tell for fc2, fc4.",
        ]
        first, second = section.folded_tables
        count = sum(p.numel() for p in build("fully_connected", (1, 8, 8), 2).parameters())
        assert f"fc2: {count:,} parameters; dimensions 64 → 256 → 128 → 2 → 128 → 256 → 64" in first.words
        assert "fc4: " in second.words

    def test_network_with_a_skip_connection_is_not_judged(self, study: Study, digits_file: Path) -> None:
        (study.folder / "network_with_a_skip.py").write_text(
            "import torch\n"
            "from torch import nn\n\n"
            "class Around(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.inner = nn.Linear(64, 64)\n\n"
            "    def forward(self, x):\n"
            "        return x + torch.sigmoid(self.inner(x))\n\n"
            "class Net(nn.Module):\n"
            "    def __init__(self, input_shape, latent_dim):\n"
            "        super().__init__()\n"
            "        self.encoder = nn.Sequential(nn.Flatten(), Around(), nn.Linear(64, latent_dim))\n"
            "        layers = [nn.Linear(latent_dim, 64), nn.Sigmoid(), nn.Unflatten(1, input_shape)]\n"
            "        self.decoder = nn.Sequential(*layers)\n\n"
            "    def forward(self, x):\n"
            "        return self.decoder(self.encoder(x))\n"
        )
        study.edit("models", {"around": {"architecture": "network_with_a_skip:Net", "latent_dim": 2}})
        succeeded(study.run(*study.train_arguments("around", digits_file, "out")))
        succeeded(study.run(*options("layers", name="around", checkpoint="out/around.safetensors", folder="out")))
        verdicts = pd.read_csv(study.folder / "out" / "summary.csv").set_index("part")
        assert verdicts["verdict"].to_dict() == {"encoder": "undetermined", "decoder": "yes"}
        assert verdicts.loc["encoder", "reason"] == (
            "This encoder is no plain stack of layers: the operation add is not fed with the output of the layer "
            "before it alone."
        )
        assert set(pd.read_csv(study.folder / "out" / "layers.csv")["part"]) == {"decoder"}

    def test_networks_without_any_listed_layer(self, study: Study, digits_file: Path) -> None:
        (study.folder / "networks_with_skips.py").write_text(
            "from torch import nn\n\n"
            "class Around(nn.Module):\n"
            "    def __init__(self, *inner):\n"
            "        super().__init__()\n"
            "        self.inner = nn.Sequential(*inner)\n\n"
            "    def forward(self, x):\n"
            "        return x + self.inner(x)\n\n"
            "class Net(nn.Module):\n"
            "    def __init__(self, input_shape, latent_dim):\n"
            "        super().__init__()\n"
            "        self.encoder = nn.Sequential(nn.Flatten(), Around(nn.Linear(64, 64)), nn.Linear(64, latent_dim))\n"
            "        layers = [nn.Linear(latent_dim, 64), Around(nn.Linear(64, 64)), nn.Unflatten(1, input_shape)]\n"
            "        self.decoder = nn.Sequential(*layers)\n\n"
            "    def forward(self, x):\n"
            "        return self.decoder(self.encoder(x))\n"
        )
        study.edit("models", {"around": {"architecture": "networks_with_skips:Net", "latent_dim": 2}})
        succeeded(study.run(*study.train_arguments("around", digits_file, "checkpoints")))
        one = {"name": "around", "checkpoint": "checkpoints/around.safetensors", "folder": "results/layers/around"}
        succeeded(study.run(*options("layers", **one)))
        succeeded(study.run("layers-summary", "--folder", "results/layers"))
        folder = study.folder / "results" / "layers"
        for file in ("layers.csv", "spectra.csv"):
            assert list(pd.read_csv(folder / file).columns) == list(LAYERS[file])
        section = sections.section(study.folder / "results", study.params)
        assert "The weights alone cannot tell for around." in section.sentences[0]
        assert section.folded_tables == []

    def test_summary_of_some_models_without_rows(self, tmp_path: Path) -> None:
        columns = LAYERS["spectra.csv"]
        row = ("fc", "fc", 0, 4, "decoder", "dlayer1", "Linear", 1, 0.5)
        half = ("half", "half", None, 4, "encoder", *row[5:])
        for name, rows in {"around": [], "fc": [row], "half": [half]}.items():
            write_tables(tmp_path / name, {"spectra.csv": pd.DataFrame(rows, columns=list(columns))})
        table = combined(tmp_path, ["around", "fc", "half"], "spectra.csv")
        assert table["order"].tolist() == [1, 1]
        assert table["order"].dtype == int
        panels = {axes.get_title(): len(axes.get_lines()) for axes in plot_layers(table).axes}
        assert panels == {"fc, decoder": 1, "fc, encoder": 0, "half, decoder": 0, "half, encoder": 1}


def test_models_of_each_verdict() -> None:
    """What the report finds, and that its sentences name all of it."""
    rows = [
        ("convA", "decoder", "immersion", "undetermined"), ("reluNet", "decoder", "immersion", "no"),
        ("fcB", "decoder", "immersion", "yes"), ("fcC", "decoder", "immersion", "yes"),
        ("fcB", "encoder", "submersion", "no"),
    ]  # fmt: skip
    found = sections.findings(pd.DataFrame(rows, columns=["manifold", "part", "property", "verdict"]))
    assert found == {
        ("decoder", "immersion"): {"yes": ["fcB", "fcC"], "no": ["reluNet"], "undetermined": ["convA"]},
        ("encoder", "submersion"): {"no": ["fcB"]},
    }
    decoder, encoder = sections.sentences(found)
    assert all(name in decoder for name in ("decoder an immersion", "fcB, fcC", "reluNet", "convA"))
    assert encoder == "Is the encoder a submersion? No for fcB."
    assert [(one.relation, one.value) for one in decoder.findings] == [("yes", 2), ("no", 1), ("undetermined", 1)]


def test_random_layers_of_full_rank_compose_to_full_rank() -> None:
    """The argument itself: the derivative of a stack that is judged an immersion has full rank wherever one looks."""
    torch.manual_seed(0)
    members = (nn.Linear(3, 5), norm(5), nn.ELU(), nn.Linear(5, 8), nn.Tanh())
    assert immersion(stacked(*members)).verdict == "yes"
    decoder = nn.Sequential(*members).double().eval()
    for z in 3 * random(20, 3):
        jacobian = torch.autograd.functional.jacobian(lambda code: decoder(code[None])[0], z)
        assert np.linalg.matrix_rank(np.asarray(jacobian)) == 3

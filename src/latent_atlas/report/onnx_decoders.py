"""Decoders as ONNX graphs that a browser runs: codes to images, and one code to its image and the Jacobian there.

The two graphs of a decoder share one block of weights, which they refer to as external data. It is stored in the
smallest type, and the graphs compute in the fastest one, with which pixels and angles stay close to those of float64.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.func import jvp
from torch.fx.experimental.proxy_tensor import make_fx

from latent_atlas.geometry.manifold import Autoencoder, Manifold, PrincipalSubspace
from latent_atlas.geometry.tangent_spaces import TangentSpaces
from latent_atlas.geometry.transformations import Transformation
from latent_atlas.models.surroundings import computing, differentiable

PIXEL_LIMIT, ANGLE_LIMIT = 0.5 / 255, 0.05  # half of what the explorer promises, in pixel values and degrees
CODES, SPACES = 250, 16  # how many codes of each kind pixels and angles are compared at
SMALL = 16  # numbers up to which a weight stays in the graph
WEIGHTS = "weights"  # what the graphs call their external data
LADDER = (("float16", "float32"), ("float32", "float32"), ("float16", "float64"), ("float32", "float64"))
# What ONNX Runtime computes on numbers of float64.
DOUBLE = {
    "Abs", "Add", "BatchNormalization", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Exp",
    "Expand", "Gather", "Gemm", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max",
    "Min", "Mul", "Neg", "Not", "Pow", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Sign",
    "Slice", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
TYPES = {"float16": np.float16, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Graphs:
    """What the explorer gets of a decoder.

    Attributes
    ----------
    decoder : bytes
        ONNX: codes ``z`` (N, k) to images ``x`` (N, C·H·W). Empty if there is none.
    jacobian : bytes
        ONNX: one code ``z`` (1, k) to its image ``x`` (1, C·H·W) and the transposed Jacobian ``j`` (k, C·H·W). Empty if
        there is none.
    weights : bytes
        The external data of both.
    stored, precision : str
        Types of the weights and of the computation.
    pixel_error, angle_error : float
        Largest deviations from float64 at codes of images and at random codes, in pixel values and degrees; NaN if
        nothing was compared.
    reason, jacobian_reason : str
        Why a graph is missing.
    """

    decoder: bytes = b""
    jacobian: bytes = b""
    weights: bytes = b""
    stored: str = ""
    precision: str = ""
    pixel_error: float = math.nan
    angle_error: float = math.nan
    reason: str = ""
    jacobian_reason: str = ""


def graphs(surface: Manifold, codes: Tensor, transformations: Mapping[str, tuple[Transformation, float]]) -> Graphs:
    """The graphs of a manifold's decoder, in the smallest and fastest types that are exact enough.

    Parameters
    ----------
    surface : Manifold
    codes : tensor (N, k)
        Codes of images. Random codes with their mean and covariance are compared as well.
    transformations : mapping of name to (transformation, step)
        Whose displacements are compared by their angles.
    """
    tried = codes.double()[:CODES]
    generator = torch.Generator().manual_seed(0)
    spread = torch.linalg.qr((tried - tried.mean(0)) / math.sqrt(max(1, len(tried) - 1)), mode="r").R  # r x k
    noise = torch.randn(CODES, len(spread), generator=generator, dtype=torch.float64)
    drawn = tried.mean(0) + noise @ spread  # n x k
    compared = torch.cat([tried, drawn])
    places = torch.cat([tried[:SPACES], drawn[:SPACES]])
    exact = surface.to(torch.float64)
    images = exact.decode(compared).flatten(1)
    found: Graphs | None = None
    jacobian_reason = ""
    try:
        angles: Tensor | None = _angles(exact, places, places, exact, transformations)
    except Exception as error:  # whatever a network raises where it is differentiated
        angles, jacobian_reason = None, _line(error)
    made: dict[str, tuple[onnx.ModelProto, onnx.ModelProto | None]] = {}
    for stored, precision in LADDER:
        dtype: torch.dtype = getattr(torch, precision)
        try:
            if precision not in made:
                decoder = _decoder(surface.to(dtype))
                jacobian = None
                if angles is not None:
                    try:
                        jacobian = _jacobian(surface.to(dtype))
                    except Exception as error:  # whatever the exporter has no form for
                        jacobian_reason = _line(error)
                        angles = None
                made[precision] = (decoder, jacobian)
            decoder, jacobian = made[precision]
            models = [decoder, *([jacobian] if jacobian else [])]
            if precision == "float64" and not all(map(_runs_in_double, models)):
                continue
            rounded = _rounded(surface, getattr(torch, stored), dtype)
            pixel_error = float((rounded.decode(compared.to(dtype)).flatten(1).double() - images).abs().max())
            angle_error = math.nan
            if angles is not None:
                changed = _angles(rounded, places.to(dtype), places, exact, transformations) - angles
                angle_error = float(changed.abs().max()) if changed.numel() else 0.0
        except Exception as error:  # whatever the exporter has no form for
            if found is None:
                return Graphs(reason=_line(error))
            continue
        exact_enough = pixel_error <= PIXEL_LIMIT and not angle_error > ANGLE_LIMIT
        better = found is None or (
            (pixel_error <= PIXEL_LIMIT, -angle_error) > (found.pixel_error <= PIXEL_LIMIT, -found.angle_error)
        )
        if exact_enough or better:
            weights = _Weights(stored, precision)
            written = [weights.taken_out(model) for model in models]
            found = Graphs(written[0], written[1] if jacobian else b"", bytes(weights.data), stored, precision,
                           pixel_error, angle_error, jacobian_reason=jacobian_reason)  # fmt: skip
        if exact_enough:
            break
    assert found is not None
    return found


def _line(error: Exception) -> str:
    """The first line that says something of an error."""
    inner = error.__cause__ or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0]}" if lines else type(inner).__name__


def _angles(
    surface: Manifold,
    codes: Tensor,
    places: Tensor,
    exact: Manifold,
    transformations: Mapping[str, tuple[Transformation, float]],
) -> Tensor:
    """Angles (n, t) of displacements of the exact images to a surface's tangent spaces; NaN as 0."""
    images = exact.decode(places)
    moved = [entry.displacement(images, step).flatten(1) for entry, step in transformations.values()]
    found = []
    for number in range(len(codes)):  # one Jacobian at a time
        jacobian = surface.jacobian(codes[number : number + 1])  # 1 x P x k
        if moved:
            found.append(TangentSpaces(jacobian).angles_deg(torch.stack([move[number] for move in moved])[None]))
    return torch.cat(found).nan_to_num() if found else torch.empty(0)


def _rounded(surface: Manifold, stored: torch.dtype, dtype: torch.dtype) -> Manifold:
    """A copy that computes in one type with weights that were stored in another."""
    if isinstance(surface, PrincipalSubspace):
        parts = [part.to(stored).to(dtype) for part in (surface.components, surface.mean)]
        return PrincipalSubspace(parts[0], parts[1], surface.image_shape, surface.family)
    assert isinstance(surface, Autoencoder)
    copy = surface.to(dtype)
    with torch.no_grad():
        for tensor in (*copy.model.parameters(), *copy.model.buffers()):
            if tensor.is_floating_point() and tensor.numel() > SMALL:
                tensor.copy_(tensor.to(stored))
    return copy


class _Decode(nn.Module):
    """Codes (N, k) to images (N, C·H·W), as torch's exporters follow it."""

    def __init__(self, surface: Manifold) -> None:
        super().__init__()
        if isinstance(surface, PrincipalSubspace):
            self.decoder: nn.Module = nn.Linear(surface.latent_dim, surface.pixel_count, dtype=surface.dtype)
            self.decoder.weight = nn.Parameter(surface.components.T.contiguous())
            self.decoder.bias = nn.Parameter(surface.mean.clone())
        else:
            assert isinstance(surface, Autoencoder)
            self.decoder = surface.decoder
        self.requires_grad_(False)
        self.eval()

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z.clone()).reshape(z.shape[0], -1)


class _Jacobian(nn.Module):
    """One code (1, k) to its image (1, C·H·W) and the transposed Jacobian (k, C·H·W), in forward mode."""

    def __init__(self, decode: _Decode, k: int) -> None:
        super().__init__()
        self.decode, self.k = decode, k
        self.eval()

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        pushed = jvp(self.decode, (z.repeat(self.k, 1),), (torch.eye(self.k, dtype=z.dtype),))
        return pushed[0][:1], pushed[1]  # 1 x CHW, k x CHW


def _decoder(surface: Manifold) -> onnx.ModelProto:
    example = torch.randn(2, surface.latent_dim, dtype=surface.dtype, generator=torch.Generator().manual_seed(0))
    with _surroundings(surface):
        return _onnx(_Decode(surface), example, ["x"], ({0: torch.export.Dim("n")},))


def _jacobian(surface: Manifold) -> onnx.ModelProto:
    example = torch.randn(1, surface.latent_dim, dtype=surface.dtype, generator=torch.Generator().manual_seed(0))
    with _surroundings(surface):
        # The exporter does not follow derivatives, but the operations that they come down to.
        followed = make_fx(_Jacobian(_Decode(surface), surface.latent_dim))(example)
        return _without_zeros(_onnx(followed, example, ["x", "j"], None))


@contextmanager
def _surroundings(surface: Manifold) -> Iterator[None]:
    """Where a network of somebody else computes in the asked precision and can be differentiated."""
    if isinstance(surface, Autoencoder):
        with differentiable(surface.model), computing(surface.model, surface.dtype):
            yield
    else:
        yield


def _onnx(module: nn.Module, example: Tensor, results: list[str], dynamic: Any) -> onnx.ModelProto:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module, (example,), dynamo=True, input_names=["z"], output_names=results, dynamic_shapes=dynamic,
            external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _bare(model)
    return _elementary(model)


def _bare(model: onnx.ModelProto) -> None:
    """Remove what tells of the place where a graph was made."""
    model.ClearField("metadata_props")
    model.doc_string = ""
    del model.graph.value_info[:]
    parts: list[Any] = [model.graph, *model.graph.node, *model.graph.initializer]
    parts += [*model.graph.input, *model.graph.output]
    for part in parts:
        part.ClearField("metadata_props")
        part.doc_string = ""


def _constant(model: onnx.ModelProto, name: str, value: float) -> str:
    model.graph.initializer.append(helper.make_tensor(name, TensorProto.DOUBLE, [], [value]))
    return name


def _elementary(model: onnx.ModelProto) -> onnx.ModelProto:
    """ELU of float64, for which ONNX Runtime has no kernel, as max(x, 0) + α (exp(min(x, 0)) - 1)."""
    if model.graph.input[0].type.tensor_type.elem_type != TensorProto.DOUBLE:
        return model
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Elu":
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        alpha = next((a.f for a in node.attribute if a.name == "alpha"), 1.0)
        zero, one, scale = (_constant(model, f"{y}_{n}", v) for n, v in (("zero", 0.0), ("one", 1.0), ("alpha", alpha)))
        nodes += [
            helper.make_node("Min", [x, zero], [f"{y}_below"]), helper.make_node("Max", [x, zero], [f"{y}_above"]),
            helper.make_node("Exp", [f"{y}_below"], [f"{y}_exp"]),
            helper.make_node("Sub", [f"{y}_exp", one], [f"{y}_less"]),
            helper.make_node("Mul", [f"{y}_less", scale], [f"{y}_scaled"]),
            helper.make_node("Add", [f"{y}_scaled", f"{y}_above"], [y]),
        ]  # fmt: skip
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _runs_in_double(model: onnx.ModelProto) -> bool:
    return {node.op_type for node in model.graph.node} <= DOUBLE


def _without_zeros(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without the products with the weights' tangents, which are zero, and without what nothing uses."""
    graph = model.graph
    zeros = {tensor.name for tensor in graph.initializer if not numpy_helper.to_array(tensor).any()}
    vanishing: set[str] = set()
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type in ("MatMul", "Conv", "ConvTranspose") and len(node.input) == 2 and node.input[1] in zeros:
            vanishing.add(node.output[0])
        elif node.op_type == "Add" and vanishing.intersection(node.input):
            first, second = node.input
            renamed[node.output[0]] = second if first in vanishing else first
        nodes.append(node)
    used = {renamed.get(output.name, output.name) for output in graph.output}
    kept = []
    for node in reversed(nodes):
        if used.intersection(node.output) and not set(renamed).intersection(node.output):
            kept.append(node)
            used.update(node.input)
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(tensors)
    return model


@dataclass
class _Weights:
    """The weights that the graphs of one decoder share."""

    stored: str
    precision: str
    data: bytearray = field(default_factory=bytearray)
    known: dict[tuple[tuple[int, ...], bytes], int] = field(default_factory=dict)

    def taken_out(self, model: onnx.ModelProto) -> bytes:
        """The graph with its larger weights as external data in the type that is stored, cast where they are used."""
        graph = onnx.GraphProto()
        graph.CopyFrom(model.graph)
        casts, tensors = [], []
        for tensor in graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype != TYPES[self.precision] or values.size <= SMALL:
                tensors.append(tensor)
                continue
            shape, offset, turned = self._place(values.astype(TYPES[self.stored]))
            outside = onnx.TensorProto(name=f"{tensor.name}_stored", dims=shape, data_location=TensorProto.EXTERNAL)
            outside.data_type = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[self.stored]))
            length = math.prod(shape) * np.dtype(TYPES[self.stored]).itemsize
            for key, value in (("location", WEIGHTS), ("offset", offset), ("length", length)):
                outside.external_data.add(key=key, value=str(value))
            tensors.append(outside)
            to = helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[self.precision]))
            cast = f"{tensor.name}_cast" if turned else tensor.name
            casts.append(helper.make_node("Cast", [outside.name], [cast], to=to))
            if turned:
                casts.append(helper.make_node("Transpose", [cast], [tensor.name], perm=[1, 0]))
        nodes = [*casts, *graph.node]
        del graph.node[:], graph.initializer[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensors)
        graph.name = "graph"
        finished = helper.make_model(graph, opset_imports=model.opset_import, producer_name="latent-atlas")
        finished.ir_version = min(model.ir_version, 10)
        return finished.SerializeToString(deterministic=True)

    def _place(self, values: np.ndarray) -> tuple[tuple[int, ...], int, bool]:
        """Shape and offset of a weight in the data, and whether it lies there transposed."""
        ways: list[tuple[np.ndarray, bool]] = [(values, False)]
        if values.ndim == 2:
            ways.append((np.ascontiguousarray(values.T), True))
        for array, turned in ways:
            if (array.shape, array.tobytes()) in self.known:
                return array.shape, self.known[array.shape, array.tobytes()], turned
        self.data.extend(b"\0" * (-len(self.data) % 16))
        offset = self.known[values.shape, values.tobytes()] = len(self.data)
        self.data.extend(values.tobytes())
        return values.shape, offset, False

"""Trained networks in formats that other programs read."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from latent_atlas.errors import ModelError
from latent_atlas.files import atomic_write
from latent_atlas.models.adapters import Adapted
from latent_atlas.models.checkpoints import Checkpoint

FORMATS = ("state_dict", "onnx", "torch_export")


def export(checkpoint: Checkpoint, file_format: str, path: Path) -> list[Path]:
    """Write a network in another format.

    Parameters
    ----------
    checkpoint : Checkpoint
    file_format : str
        ``state_dict``: the file ``path`` with the network's own layer names, for ``torch.load``. ``onnx`` and
        ``torch_export``: the folder ``path`` with the encoder, (N, C, H, W) to (N, k), as ``encoder.onnx`` or
        ``encoder.pt2``, and the decoder, (N, k) to images in the shape in which the network gives them, as
        ``decoder.onnx`` or ``decoder.pt2``, for any N. Where a decoder has no encoder but a search for the closest
        point, the decoder alone.
    path : Path

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ModelError
        If ONNX is wanted and not installed, or if the format has no form for the network.
    OutputError
        If a file cannot be written.
    """
    model = checkpoint.model
    if file_format == "state_dict":
        with atomic_write(path) as aside:
            torch.save((model.model if isinstance(model, Adapted) else model).state_dict(), aside)
        return [path]
    if file_format == "onnx" and importlib.util.find_spec("onnx") is None:
        raise ModelError("writing ONNX needs the package onnx: pip install 'latent-atlas[export]'")
    dtype = next((weight.dtype for weight in model.parameters()), torch.float32)
    write, ending = (_write_onnx, "onnx") if file_format == "onnx" else (_write_program, "pt2")
    inputs = {"encoder": ("x", checkpoint.input_shape), "decoder": ("z", (checkpoint.latent_dim,))}
    files = []
    if isinstance(model, Adapted) and model.encode is None:
        del inputs["encoder"]
    for part, (name, shape) in inputs.items():
        files.append(path / f"{part}.{ending}")
        with atomic_write(files[-1]) as aside:
            try:
                # two images, since one would become a constant of the program
                write(getattr(model, part), torch.rand(2, *shape, dtype=dtype), name, aside)
            except OSError:
                raise
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise ModelError(
                    f"{checkpoint.architecture}: its {part} has no form as {file_format}: {reason}"
                ) from error
    return files


def _write_onnx(part: nn.Module, example: Tensor, name: str, path: Path) -> None:
    """By the exporter that follows one call of the network; the newer one needs one more package."""
    result = "z" if name == "x" else "x"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(part, (example,), str(path), dynamo=False, input_names=[name], output_names=[result],
                          dynamic_axes={name: {0: "n"}, result: {0: "n"}})  # fmt: skip


def _write_program(part: nn.Module, example: Tensor, name: str, path: Path) -> None:
    program = torch.export.export(part, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, path)

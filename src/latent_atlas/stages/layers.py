"""layers: what the weights of each autoencoder tell of its geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from latent_atlas.command import log
from latent_atlas.files import write_tables
from latent_atlas.geometry import layers as geometry
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.stages import tables
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def layers(params: Params, name: str, checkpoint: Path, folder: Path) -> None:
    """List the layers of one autoencoder with their ranks, and judge encoder and decoder by them."""
    loaded = Checkpoint.load(checkpoint, architectures(params), name)
    examples = {
        "encoder": (torch.zeros(1, *loaded.input_shape), geometry.submersion),
        "decoder": (torch.zeros(1, loaded.latent_dim), geometry.immersion),
    }
    first = tables.head(params, name, loaded.latent_dim)
    rows: list[dict[str, Any]] = []
    spectra: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for part, (example, judge) in examples.items():
        head = first | {"part": part}
        try:
            stack = geometry.layers(getattr(loaded.model, part), example)
        except ValueError as reason:
            why = f"This {part} is no plain stack of layers: {reason}."
            verdicts.append(head | {"property": judge.__name__, "verdict": "undetermined", "reason": why})
            continue
        rows += [head | _row(layer) for layer in stack]
        spectra += [
            head | {"layer": layer.name, "kind": layer.kind, "order": order, "singular_value": value}
            for layer in stack
            if layer.spectrum is not None and not layer.kind.startswith("BatchNorm")
            for order, value in enumerate(layer.spectrum.values.tolist(), 1)
        ]
        verdict = judge(stack)
        verdicts.append(head | {"property": verdict.property, "verdict": verdict.verdict, "reason": verdict.reason})
        log.info(f"{part}: {verdict.property} {verdict.verdict}")
    content = zip(tables.LAYERS.items(), (rows, spectra, verdicts), strict=True)
    write_tables(folder, {file: pd.DataFrame(lines, columns=list(columns)) for (file, columns), lines in content})


def _row(layer: geometry.Layer) -> dict[str, object]:
    values = layer.spectrum
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "input_shape": "x".join(map(str, layer.input_shape)),
        "output_shape": "x".join(map(str, layer.output_shape)),
        "input_dim": layer.inputs,
        "output_dim": layer.outputs,
        "parameters": layer.parameters,
        "rank": layer.rank,
        "sigma_max": values.sigma_max if values else None,
        "sigma_min": values.sigma_min if values else None,
        "rank_tolerance": values.tolerance if values else None,
    }

"""jacobian: singular values of the decoder's Jacobian at the examples and the sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log, manifold_options, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_parquet, write_table
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.spectra import spectrum
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import measured_spectra, spectrum_columns
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage("name")
@manifold_options
def jacobian(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Singular values of one decoder's Jacobians: in float64 everywhere, at the examples in float32 as well."""
    stored = load_manifold(manifold, architectures(params))
    surface = stored.to(torch.float64)
    data = Images.load(images)
    pixels, keys = tables.measured_images(params, data)
    spectra = measured_spectra(surface, pixels, lambda done: log.info(f"{done} of {len(pixels)} images"))
    head = tables.head(params, name, surface.latent_dim)
    rows = pd.concat([keys.assign(**head)[[*head, *keys.columns]], spectrum_columns(spectra)], axis=1)
    write_parquet(folder / "spectra.parquet", rows)

    single = stored.to(torch.float32)
    codes = single.encode(data.examples(params.examples, torch.float32))  # examples x k
    at_examples = {
        "float64": spectra[: len(codes)],
        "float32": [spectrum(single.jacobian(code)[0]) for code in codes.split(1)],
    }
    values = [
        pd.DataFrame(
            head
            | {
                "example": example,
                "dtype": dtype,
                "order": range(1, surface.latent_dim + 1),
                "singular_value": one.values.numpy(),
            }
        )
        for dtype, several in at_examples.items()
        for example, one in zip(params.examples, several, strict=True)
    ]
    summary = [
        spectrum_columns(several).assign(**head, example=list(params.examples), dtype=dtype)
        for dtype, several in at_examples.items()
    ]
    first = [*head, "example", "dtype"]
    write_table(folder / "values.csv", pd.concat(values))
    write_table(folder / "examples.csv", pd.concat(summary).set_index(first).reset_index())

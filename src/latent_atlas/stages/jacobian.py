"""jacobian: singular values of the decoder's Jacobian at the examples and the sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log, manifold_options, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_parquet, write_safetensors, write_table
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.spectra import spectrum
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import measured_spectra, spectrum_columns, spread
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage("name")
@manifold_options
def jacobian(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Singular values of one decoder's Jacobians, also per standard deviation of its codes."""
    stored = load_manifold(manifold, architectures(params))
    surface = stored.to(torch.float64)
    data = Images.load(images)
    pixels, keys = tables.measured_images(params, data)
    factor = spread(stored, data.train)  # k x r
    log.info(f"codes of {len(data.train)} training images vary in {factor.shape[1]} of {surface.latent_dim} directions")
    plain, scaled = measured_spectra(surface, pixels, lambda done: log.info(f"{done} of {len(pixels)} images"), factor)
    head = tables.head(params, name, surface.latent_dim)
    rows = pd.concat([keys.assign(**head)[[*head, *keys.columns]], spectrum_columns(plain, scaled)], axis=1)
    write_parquet(folder / "spectra.parquet", rows)
    count = len(params.examples)
    sample = torch.stack([one.values for one in scaled[count:]])  # images of the sample x r
    write_safetensors(folder / "singular_values.safetensors", {"per_sd": sample}, {"manifold": name})

    single = stored.to(torch.float32)
    codes = single.encode(data.examples(params.examples, torch.float32))  # examples x k
    rough = [spectrum(single.jacobian(code)[0]) for code in codes.split(1)]
    each, values = [], []
    for dtype, several, per_sd in (("float64", plain[:count], scaled[:count]), ("float32", rough, None)):
        each.append(spectrum_columns(several, per_sd).assign(**head, example=list(params.examples), dtype=dtype))
        for number, example in enumerate(params.examples):
            columns = {"singular_value": several[number].values, "singular_value_per_sd": torch.empty(0)}
            columns |= {"singular_value_per_sd": per_sd[number].values} if per_sd else {}
            rows = pd.DataFrame({name: pd.Series(column.numpy()) for name, column in columns.items()})
            values.append(rows.assign(**head, example=example, dtype=dtype, order=rows.index + 1))
    first = [*head, "example", "dtype"]
    write_table(folder / "values.csv", pd.concat(values).set_index([*first, "order"]).reset_index())
    write_table(folder / "examples.csv", pd.concat(each).set_index(first).reset_index())

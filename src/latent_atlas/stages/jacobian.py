"""jacobian: the decoder's Jacobian at the examples and the sample: its singular values, and angles to its span."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log, report_progress
from latent_atlas.data.images import Images
from latent_atlas.errors import counted
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry.krylov import PartialSpectrum
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.spectra import Spectrum, spectrum
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import at_images, spectrum_columns, spread
from latent_atlas.study.models import architectures
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def jacobian(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Spectra of one decoder's Jacobians, also per standard deviation of its codes, and angles to their columns' span.

    The examples are measured in float64, the sample in the precision that params.yaml gives. Of more
    coordinates than ``sample.exact_up_to``, products in that precision give limits at both, and there is no comparison
    with float32.
    """
    stored = load_manifold(manifold, architectures(params), name)
    sample = params.sample
    whole, precise = stored.latent_dim <= sample.exact_up_to, sample.precision == "float64"
    surface = stored.to(torch.float64 if whole or precise else torch.float32)
    data, chosen = Images.load(images), transformations(params)
    pixels, keys = tables.measured_images(params, data)
    factor = spread(stored, data.train)  # k x r
    log.info(
        f"codes of {counted(len(data.train), 'training image')} vary in {factor.shape[1]} of "
        f"{counted(surface.latent_dim, 'direction')}"
    )
    count = len(params.examples)
    first = at_images(
        surface, pixels[:count], chosen, factor=factor, exact_up_to=sample.exact_up_to, products=sample.products
    )
    rest = at_images(
        surface if precise else stored.to(torch.float32), pixels[count:], chosen,
        lambda done: report_progress(f"{done} of {counted(len(pixels) - count, 'image')} of the sample"), factor,
        sample.exact_up_to, sample.products,
    )  # fmt: skip
    plain, scaled = first.spectra, first.scaled
    head = tables.head(params, name, surface.latent_dim)
    spectra = spectrum_columns(plain + rest.spectra, scaled + rest.scaled)
    columns = keys.assign(**head)[[*head, *keys.columns]]
    written = {"spectra.parquet": pd.concat([columns, spectra], axis=1)}
    angles = pd.concat([first.angles, rest.angles.assign(image=rest.angles["image"] + count)], ignore_index=True)
    rows = columns.loc[angles.pop("image")].reset_index(drop=True)
    written["angles.parquet"] = pd.concat([rows, angles], axis=1)
    kept = min((one.accurate for one in rest.scaled if isinstance(one, PartialSpectrum)), default=factor.shape[1])
    per_sd_values = torch.stack([one.values[:kept] for one in rest.scaled])  # images of the sample x r
    write_safetensors(folder / "singular_values.safetensors", {"per_sd": per_sd_values}, {"manifold": name})

    measured: list[tuple[str, list[Spectrum], list[Spectrum] | None]] = [
        (str(surface.dtype).removeprefix("torch."), plain, scaled)
    ]
    if whole:
        single = stored.to(torch.float32)
        codes = single.encode(data.examples(params.examples, torch.float32))  # examples x k
        measured.append(("float32", [spectrum(single.jacobian(code)[0]) for code in codes.split(1)], None))
    each, values = [], []
    for dtype, several, per_sd in measured:
        each.append(spectrum_columns(several, per_sd).assign(**head, example=list(params.examples), dtype=dtype))
        for number, example in enumerate(params.examples):
            columns = {"singular_value": several[number].values, "singular_value_per_sd": torch.empty(0)}
            columns |= {"singular_value_per_sd": per_sd[number].values} if per_sd else {}
            for ending, one in (("", several[number]), ("_per_sd", per_sd[number] if per_sd else None)):
                columns |= {f"bound{ending}": one.bounds} if isinstance(one, PartialSpectrum) else {}
            rows = pd.DataFrame({name: pd.Series(column.numpy()) for name, column in columns.items()})
            values.append(rows.assign(**head, example=example, dtype=dtype, order=rows.index + 1))
    keys = [*head, "example", "dtype"]
    written["values.csv"] = pd.concat(values).set_index([*keys, "order"]).reset_index()
    written["examples.csv"] = pd.concat(each).set_index(keys).reset_index()
    write_tables(folder, written)

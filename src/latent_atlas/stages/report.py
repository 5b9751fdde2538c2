"""report: one self-contained page that shows all results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from jinja2 import Environment, PackageLoader, StrictUndefined

from latent_atlas.command import IN, OUT, log, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_text
from latent_atlas.models.provenance import PACKAGES, provenance
from latent_atlas.report.sections import (
    interpolate,
    invariance,
    jacobian,
    known_answers,
    layers,
    pca,
    reconstruct,
    tangents,
    train,
)

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

SECTIONS = (reconstruct, invariance, jacobian, layers, tangents, interpolate, train, pca, known_answers)


@stage()
@click.option("--results", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="Folder with the results of all stages.")  # fmt: skip
@click.option("--images", type=IN, required=True, help="The dataset, as written by fetch.")
@click.option("--page", type=OUT, required=True, help="The page to write (HTML).")
def report(params: Params, results: Path, images: Path, page: Path) -> None:
    """Write the page that shows all results; it needs no other file."""
    data = Images.load(images)
    environment = Environment(
        loader=PackageLoader("latent_atlas.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    metadata = provenance(data.checksum)
    html = environment.get_template("report.html").render(
        data=data,
        params=params,
        sections=[found for module in SECTIONS if (found := module.section(results, params))],
        versions={name: metadata[f"version_{name}"] for name in (*PACKAGES, "python")},
    )
    write_text(page, html)
    log.info(f"{len(html) / 1e6:.1f} MB: {page.resolve()}")

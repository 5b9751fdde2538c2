"""jacobian_summary: the decoders' spectra compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures import jacobian as pictures
from latent_atlas.stages.tables import gathered

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@summary_options
def jacobian_summary(params: Params, folder: Path) -> None:
    """Join the manifolds' tables and draw their spectra."""
    spectra = gathered(folder, params.manifolds, "spectra.csv")
    summary = gathered(folder, params.manifolds, "summary.csv")
    write_table(folder / "spectra.csv", spectra)
    write_table(folder / "summary.csv", summary)
    for probe in params.probes:
        pictures.jacobian_spectra(
            spectra[spectra["probe"] == probe], summary[summary["probe"] == probe], params.groups, probe,
            folder / f"spectra_{probe}.svg",
        )  # fmt: skip
    log.info(f"{len(params.manifolds)} manifolds at {len(params.probes)} probes: {folder}")

"""jacobian: the decoder's derivative at each probe, its singular values and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import log, manifold_options, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_table
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.spectra import Spectrum, spectrum

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@stage("name")
@manifold_options
def jacobian(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Singular values of one manifold's decoder Jacobian at each probe, in double and in single precision."""
    stored = load_manifold(manifold)
    data = Images.load(images)
    spectra, summary = [], []
    for dtype_name, dtype in DTYPES.items():
        surface = stored.to(dtype)
        codes = surface.encode(data.picked(params.probes, dtype))  # probes x k
        for probe, matrix in zip(params.probes, surface.jacobian(codes), strict=True):  # CHW x k
            found = spectrum(matrix)
            head = {"manifold": name, "latent_dim": surface.latent_dim, "probe": probe, "dtype": dtype_name}
            spectra.append(
                pd.DataFrame(head | {"order": range(1, len(found.values) + 1), "singular_value": found.values})
            )
            summary.append(head | summarised(found))
            log.info(f"{probe}, {dtype_name}: rank {found.rank}, σ {found.sigma_max:.4g} to {found.sigma_min:.4g}")
    write_table(folder / "spectra.csv", pd.concat(spectra))
    write_table(folder / "summary.csv", pd.DataFrame(summary))


def summarised(found: Spectrum) -> dict[str, float]:
    """One row of the summary table."""
    return {
        "sigma_max": found.sigma_max,
        "sigma_min": found.sigma_min,
        "rank": found.rank,
        "rank_tolerance": found.tolerance,
        "condition_number": found.condition_number,
        "log_volume": found.log_volume,
    }

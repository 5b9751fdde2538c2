"""interpolate_summary: the manifolds' walks compared, in one table and one under the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file

from latent_atlas.command import log, stage, summary_options
from latent_atlas.files import write_table
from latent_atlas.report.figures import interpolate as pictures
from latent_atlas.stages.interpolate import PIXELS
from latent_atlas.stages.tables import combined
from latent_atlas.study.manifolds import manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


@stage()
@summary_options
def interpolate_summary(params: Params, folder: Path) -> None:
    """Join the walks of all manifolds and of pixel space, and draw a picture for each pair."""
    names = [PIXELS, *manifolds(params)]
    table = combined(folder, names, "path.csv")
    write_table(folder / "paths.csv", table)
    summary = combined(folder, names, "summary.csv")
    write_table(folder / "summary.csv", summary)
    for pair, (start, end) in params.interpolate.pairs.items():
        rows = {name: load_file(folder / name / "images.safetensors")[pair] for name in names}
        pictures.walks(rows, f"{start} to {end}", folder / f"{pair}.png")
        pictures.walk_curves(table[table["pair"] == pair], f"{start} to {end}", folder / f"{pair}_curves.svg")
    log.info(f"{len(names)} walks for each of {len(params.interpolate.pairs)} pairs: {folder}")

"""interpolate_summary: the paths of all manifolds in one table and in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latent_atlas.command import log
from latent_atlas.errors import counted
from latent_atlas.files import write_tables
from latent_atlas.report.figures.interpolate import plot_interpolation, plot_path
from latent_atlas.report.figures.style import save
from latent_atlas.stages.tables import arrays_of, combined
from latent_atlas.study.manifolds import PIXELS, firsts, groups, manifolds

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def interpolate_summary(params: Params, folder: Path) -> None:
    """Join the paths of all manifolds and of pixel space, and draw them for each pair of examples."""
    names = [PIXELS, *manifolds(params)]
    table = combined(folder, names, "path.csv")
    write_tables(folder, {"paths.csv": table, "summary.csv": combined(folder, names, "summary.csv")})
    shown = {
        name: arrays_of(
            name, folder / name / "images.safetensors", dict.fromkeys(params.interpolate.pairs, "float32 * * * *")
        )
        for name in [PIXELS, *firsts(params)]
    }
    for pair, (start, end) in params.interpolate.pairs.items():
        title = f"{start} to {end}"
        rows = {name: images[pair] for name, images in shown.items()}
        save(plot_interpolation(rows, title), folder / f"{pair}.png")
        save(plot_path(table[table["pair"] == pair], title, groups=groups(params)), folder / f"{pair}_curves.svg")
    log.info(f"{counted(len(names), 'path')} for each of {counted(len(params.interpolate.pairs), 'pair')}: {folder}")

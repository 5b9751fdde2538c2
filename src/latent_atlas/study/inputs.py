"""inputs: what stands for sources and parameters in ``dvc.yaml``, brought up to date."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from latent_atlas.errors import LatentAtlasError
from latent_atlas.versioning import lists
from latent_atlas.versioning.common import VersioningError, regular, values_at
from latent_atlas.versioning.pipeline import INPUTS, PARAMS_FILE, outs_of, stages_of


@click.command()
def inputs() -> None:
    """Update the files in .latent-atlas that stand for source files and parameters.

    A stage of dvc.yaml calls it. Every `snakemake` updates these files too.

    \b
    Example:
      latent-atlas inputs
    """
    try:
        stage = stages_of(regular(Path("dvc.yaml")) or "").get(INPUTS)
        if stage is None:
            raise click.ClickException(f"dvc.yaml has no stage {INPUTS} here: run latent-atlas pipeline")
        update(outs_of(stage))
    except (LatentAtlasError, VersioningError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def update(files: Iterable[str]) -> None:
    """Write lists of sources and values of parameters anew where they have changed."""
    from latent_atlas.study.schema import read  # here, so that the help is shown at once
    from latent_atlas.study.sources import update_list

    values = read(PARAMS_FILE) if any(map(lists.has_values, files)) else {}
    for file in files:
        if lists.is_list(file):
            update_list(file)
        elif lists.has_values(file):
            lists.write_values(file, values_at(values, *lists.keys(file)))


if __name__ == "__main__":
    inputs()

"""run, snakefile: the pipeline of the installed package, in any folder with a ``params.yaml``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import click

PACKAGE = Path(__file__).parents[1]
# in an installed package, in a checkout of the project
SNAKEFILE = next(
    file for file in (PACKAGE / "pipeline" / "Snakefile", PACKAGE.parents[1] / "Snakefile") if file.exists()
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> None:
    """Run the pipeline in this folder: `snakemake` with the given arguments.

    The Snakefile is that of the folder, or else that of the package.

    \b
    Example:
      latent-atlas run --cores all
    """
    snakefile = "Snakefile" if Path("Snakefile").is_file() else str(SNAKEFILE)
    sys.stdout.flush()
    os.environ.setdefault("LATENT_ATLAS_RUN", shlex.join(["latent-atlas", "run", *arguments]))  # or what make was told
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it can be answered there
    start = "from latent_atlas.study.starting import start; start()"
    command = [sys.executable, "-c", start, "--snakefile", snakefile, *arguments]
    os.execv(sys.executable, command)  # noqa: S606


@click.command()
def snakefile() -> None:
    """Print the path of the package's Snakefile; profiles/ lies beside it.

    \b
    Example:
      snakemake --snakefile "$(latent-atlas snakefile)" --cores all
    """
    click.echo(SNAKEFILE)

"""pipeline: ``dvc.yaml``, derived from the Snakefile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

MODE_VARIABLE = "LATENT_ATLAS_PIPELINE"  # read by versioning.engine


@click.command()
@click.option("--check", is_flag=True, help="Only compare; fail if dvc.yaml does not agree with the Snakefile.")
def pipeline(check: bool) -> None:
    """Write dvc.yaml from the Snakefile, or check that it agrees with the Snakefile.

    Every `snakemake` call for the whole pipeline writes it too. No job is run here.

    \b
    Example:
      latent-atlas pipeline --check
    """
    if not (Path(".dvc").is_dir() and Path("Snakefile").is_file()):
        raise click.ClickException("this folder is no DVC repository with a Snakefile: run it in the project's folder")
    from latent_atlas.versioning.engine import stands_aside

    if aside := stands_aside():
        raise click.ClickException(f"{aside}: dvc.yaml is neither written nor compared")
    environment = os.environ | {MODE_VARIABLE: "check" if check else "write"}
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "host", "rules", "reason", "progress"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        click.echo(f"{done.stdout}{done.stderr}".strip(), err=True)
        sys.exit(1)
    click.echo("dvc.yaml agrees with the Snakefile")


if __name__ == "__main__":
    pipeline()

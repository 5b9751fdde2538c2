"""The command line: ``latent-atlas STAGE``, each stage loaded only when it is called."""

from __future__ import annotations

import importlib
import os
from typing import NamedTuple

import click

# One thread each unless the caller says otherwise, so that a job gives the same bytes whoever starts it.
# Set before numpy or torch is loaded, which read these once.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


class Entry(NamedTuple):
    """Where a command is defined, and its line in the list of commands."""

    target: str
    summary: str


COMMANDS = {
    "fetch": Entry("stages.fetch:fetch", "Get the dataset, verify it, and store it as one file."),
    "train": Entry("stages.train:train", "Train one autoencoder."),
    "import": Entry("stages.import_:import_", "Bring in a trained state dict (.pth)."),
    "pca": Entry("stages.pca:pca", "Fit PCA, the flat baseline."),
    "reconstruct": Entry("stages.reconstruct:reconstruct", "Reconstruct all images by one manifold."),
    "reconstruct-gather": Entry("stages.reconstruct:reconstruct_gather", "Compare the manifolds' reconstructions."),
    "report": Entry("stages.report:report", "Write the page that shows all results."),
}


class Stages(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].target.partition(":")
        command = getattr(importlib.import_module(f"latent_atlas.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Stages, in the order of the pipeline"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.command(cls=Stages, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latent-atlas", prog_name="latent-atlas")
def main() -> None:
    """Train autoencoders, measure the surface that each one draws in pixel space, and show it.

    Each stage reads files and writes files; the workflow (`snakemake`) calls them in order.
    """


if __name__ == "__main__":
    main()

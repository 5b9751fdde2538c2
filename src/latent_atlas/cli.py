"""The command line: ``latent-atlas STAGE``, each stage loaded only when it is called.

A stage's command, its module in ``stages`` and its rule bear the same name.
"""

from __future__ import annotations

import importlib
import keyword
import os
import sys
from pathlib import Path

import click

# One thread each unless the caller says otherwise, so that a job gives the same bytes whoever starts it.
# Set before numpy or torch is loaded, which read these once.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


COMMANDS = {
    "fetch": "Get the dataset, verify it, and store it as one file.",
    "train": "Train one autoencoder.",
    "train-summary": "Draw the learning curves.",
    "import": "Bring in a trained state dict (.pth).",
    "pca": "Fit PCA, the flat baseline.",
    "reconstruct": "Reconstruct all images by one manifold.",
    "reconstruct-summary": "Compare the manifolds' reconstructions.",
    "interpolate": "Walk between images along one manifold.",
    "interpolate-summary": "Compare the manifolds' walks.",
    "layers": "Judge one autoencoder by the ranks of its layers.",
    "layers-summary": "Join the models' layers and verdicts.",
    "jacobian": "Singular values of one decoder's derivative.",
    "jacobian-summary": "Compare the decoders' spectra.",
    "tangents": "Draw the tangent vectors of one manifold.",
    "invariance": "Angles of small motions to one manifold.",
    "invariance-epochs": "The same after each epoch of a training.",
    "invariance-summary": "Compare the manifolds' angles.",
    "report": "Write the page that shows all results.",
}


TOOLS = {
    "doctor": "Check this site before the first run.",
    "pipeline": "Derive dvc.yaml from the Snakefile, or check it.",
    "records": "Gather which machine made each result, and what it took.",
    "resources": "Write what jobs were measured to take, for clusters.",
}


TOOL_MODULES = {
    "doctor": "cluster.doctor",
    "pipeline": "versioning.command",
    "records": "cluster.records",
    "resources": "cluster.measured",
}


class Stages(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *TOOLS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        name += "_" if keyword.iskeyword(name) else ""
        module = f"stages.{name}" if cmd_name in COMMANDS else TOOL_MODULES[cmd_name]
        command = getattr(importlib.import_module(f"latent_atlas.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Stages, in the order of the pipeline"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Tools"):
            formatter.write_dl(list(TOOLS.items()))


@click.command(cls=Stages, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latent-atlas", prog_name="latent-atlas")
def main() -> None:
    """Train autoencoders, measure the surface that each one draws in pixel space, and show it.

    Each stage reads files and writes files; the workflow (`snakemake`) calls them in order.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # where a study keeps classes and functions of its own


if __name__ == "__main__":
    main()

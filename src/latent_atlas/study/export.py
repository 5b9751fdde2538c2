"""export: a trained network in a format that other programs read."""

from __future__ import annotations

from pathlib import Path

import click

from latent_atlas.command import IN
from latent_atlas.errors import LatentAtlasError


@click.command()
@click.argument("checkpoint", type=IN)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "file_format", type=click.Choice(["state_dict", "onnx", "torch_export"]),
              default="state_dict", show_default=True, help="The format.")  # fmt: skip
@click.option("--trust", multiple=True, metavar="MODULE:CLASS",
              help="An architecture whose code may be run. Those in params.yaml may.")  # fmt: skip
def export(checkpoint: Path, out: Path, file_format: str, trust: tuple[str, ...]) -> None:
    """Write a trained network as a state dict, as ONNX or as a torch.export program.

    OUT is a file for a state dict; else a folder, which gets a file for the encoder and one for the decoder.

    \b
    Example:
      latent-atlas export results/checkpoints/conv16.safetensors conv16 --format onnx
    """
    from latent_atlas.models.checkpoints import Checkpoint
    from latent_atlas.models.export import export as write
    from latent_atlas.study import schema
    from latent_atlas.study.models import architectures

    try:
        named = architectures(schema.load("params.yaml")) if Path("params.yaml").exists() else set()
        for path in write(Checkpoint.load(checkpoint, {*trust, *named}), file_format, out):
            click.echo(path)
    except LatentAtlasError as error:
        raise click.ClickException(str(error)) from error

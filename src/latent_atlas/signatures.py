"""Commands of the stages, made from the signatures of their functions, which are read without being imported.

A stage is a function of the parameters and of what else it needs: names (``str``), numbers (``int``), paths, switches
(``bool``), which are off unless the command turns them on. Each of these is an option of its command. What an option
means is told here, or in the section *Parameters* of the function's docstring. So the help of a stage loads none of the
libraries that the stage computes with.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from latent_atlas.command import IN, OUT, Place, run

FOLDER = Place("a folder")
TYPES = {"str": click.STRING, "int": click.INT, "Path": IN}
NETWORK = "conv16"  # in examples


class Option(NamedTuple):
    """What an option means, and its value in an example; that of an option that an example leaves out is empty."""

    text: str
    example: str = ""
    type: click.ParamType | None = None  # if the annotation does not tell


OPTIONS = {
    "name": Option("Which manifold: a training, or one of PCA, such as pca16.", "{name}"),
    "seed": Option("Of initial weights and image order; by default that of params.yaml."),
    "images": Option("The dataset as one file (safetensors).", "data/images.safetensors"),
    "manifold": Option("The manifold (safetensors).", "results/checkpoints/{name}.safetensors"),
    "checkpoint": Option("The model's checkpoint (safetensors).", "results/checkpoints/{name}.safetensors"),
    "snapshots": Option("Its weights after the epochs (safetensors).", "results/train/{name}/snapshots.safetensors"),
    "curve": Option("Its learning curve (CSV).", "results/train/{name}/curve.csv"),
    "state_dict": Option("What torch.save(model.state_dict()) or safetensors wrote.", "weights/{name}.pth"),
    "codes": Option("Codes of the images, of a model without an encoder."),
    "summary": Option("The table to write (CSV).", "results/{room}/summary.csv"),
    "folder": Option("Where the stage's results lie, and where it writes.", "results/{room}/{name}", FOLDER),
    "results": Option("The results of all stages.", "results", FOLDER),
    "checkpoints": Option("The folder of all manifolds.", "results/checkpoints", FOLDER),
    "trainings": Option("The results of train: a folder for each training.", "results/train", FOLDER),
    "jacobians": Option("The results of jacobian: a folder for each manifold.", "results/jacobian", FOLDER),
    "epochs": Option("The results of invariance-epochs: a folder for each.", "results/invariance_epochs", FOLDER),
    "measured": Option("The results of tangents-shared.", "results/tangents_shared", FOLDER),
    "geodesics": Option("The results of geodesics.", "results/geodesics/{name}", FOLDER),
    "report": Option("The folder of the report.", "results/report", FOLDER),
    "partial": Option(
        "Leave out the models without a checkpoint and the sections whose files are missing or damaged; the page says "
        "which. Otherwise each of these is an error."
    ),
    "origins": Option("Which rules have made the results, as the Snakefile writes it.", ".latent-atlas/origins.json"),
}


class Signature(NamedTuple):
    """The function of a stage, as it stands in its file."""

    function: str
    text: str  # of its docstring, without sections
    options: dict[str, Option]
    annotations: dict[str, str]


def definition(file: Path, name: str) -> ast.FunctionDef | None:
    """The function of this name in a file, which is not run."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    return next((node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name), None)


def signature(file: Path) -> Signature | None:
    """The stage of a file: the function of the file's name whose first parameter is ``params``; None if it has none."""
    function = definition(file, file.stem)
    if function is None or [each.arg for each in function.args.args[:1]] != ["params"]:
        return None
    words, _, told = (ast.get_docstring(function) or "").partition("\nParameters\n----------\n")
    texts = {name: " ".join(text.split()) for name, text in re.findall(r"^(\w+).*\n((?:\s+\S.*\n?)+)", told, re.M)}
    annotations = {each.arg: ast.unparse(each.annotation) for each in function.args.args[1:] if each.annotation}
    options = {name: OPTIONS.get(name, Option("", name.upper())) for name in annotations}
    options |= {name: options[name]._replace(text=text) for name, text in texts.items() if name in options}
    return Signature(function.name, words.strip(), options, annotations)


def example(stage: Signature) -> str:
    """A call of a stage's command."""
    room = stage.function.removesuffix("_summary")
    words = [f"latent-atlas {_dashed(stage.function)}"]
    for name, option in stage.options.items():
        value = option.example if "name" in stage.options else option.example.removesuffix("/{name}")
        words += [f"--{_dashed(name)} {value.format(room=room, name=NETWORK)}"] if value else []
    return " ".join(words)


def command(stage: Signature, load: Callable[[], Callable[..., None]]) -> click.Command:
    """The command of a stage, whose function is loaded when the command is called."""

    def callback(params_file: Path, log_file: Path | None, **options: object) -> None:
        run(_dashed(stage.function), load, params_file, log_file, options)

    given = [
        click.Option([f"--{_dashed(name)}/--no-{_dashed(name)}"], default=False, show_default=True, help=option.text)
        if stage.annotations[name] == "bool"
        else click.Option([f"--{_dashed(name)}"], type=option.type or TYPES[stage.annotations[name].partition(" ")[0]],
                          required="None" not in stage.annotations[name], help=option.text)
        for name, option in stage.options.items()
    ]  # fmt: skip
    common = [
        click.Option(["--params", "params_file"], type=IN, default=Path("params.yaml"), show_default=True,
                     help="The parameter file."),
        click.Option(["--log", "log_file"], type=OUT, help="Also write the progress, with times, to this file."),
    ]  # fmt: skip
    text = f"{stage.text}\n\n\b\nExample:\n  " + " \\\n    --".join(example(stage).split(" --"))
    return click.Command(_dashed(stage.function), callback=callback, params=[*given, *common], help=text)


def _dashed(name: str) -> str:
    return name.rstrip("_").replace("_", "-")

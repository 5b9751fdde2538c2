"""The command line: ``latent-atlas STAGE``, each stage loaded only when it is called.

A stage's command, its module in ``stages`` and its rule have the same name; a new module there is a new command.
"""

from __future__ import annotations

import ast
import importlib
import keyword
import os
import sys
from pathlib import Path

try:
    import click
except ModuleNotFoundError:
    sys.exit("latent-atlas: the command line needs the workflow's packages: pip install 'latent-atlas[workflow]'")

# One thread each unless the caller says otherwise, so that a job gives the same bytes whoever starts it.
# Set before numpy or torch is loaded, which read these once.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# A terminal inside a notebook sets the notebook's way of drawing, which is not there for a process of its own.
os.environ["MPLBACKEND"] = "agg"

PACKAGE = Path(__file__).parent
TOOLS = {
    "doctor": "cluster/doctor.py",
    "export": "study/export.py",
    "new": "study/new.py",
    "pipeline": "versioning/command.py",
    "records": "cluster/records.py",
    "resources": "cluster/measured.py",
    "run": "study/run.py",
    "snakefile": "study/run.py",
}


def stages() -> list[str]:
    """Names of all stages' commands: of the modules in ``stages`` that define a function of their own name."""
    files = sorted((PACKAGE / "stages").glob("*.py"))
    return [_command(file.stem) for file in files if _summary(file, file.stem) is not None]


def _command(function: str) -> str:
    return function.rstrip("_").replace("_", "-")


def function_of(command: str) -> str:
    name = command.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _file(command: str) -> Path:
    return PACKAGE / TOOLS.get(command, f"stages/{function_of(command)}.py")


def _summary(file: Path, function: str) -> str | None:
    """First line of the docstring of a command's function, read without importing it; None if it defines no such."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function and node.decorator_list:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return None


class Stages(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*stages(), *TOOLS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        file = _file(cmd_name)
        if not (cmd_name.replace("-", "").isidentifier() and file.is_file()):
            return None
        module = importlib.import_module(f"latent_atlas.{file.parent.name}.{file.stem}")
        command = getattr(module, function_of(cmd_name), None)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (("Stages", stages()), ("Tools", list(TOOLS))):
            with formatter.section(title):
                formatter.write_dl([(name, _summary(_file(name), function_of(name)) or "") for name in names])


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

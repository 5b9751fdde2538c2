"""The command line: ``latent-atlas STAGE``, each stage loaded only when it is called.

A stage's command, its module in ``stages`` and its rule have the same name; a new module there is a new command.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from types import FrameType


def _interrupted(number: int, frame: FrameType | None) -> None:
    again = shlex.join(["latent-atlas", *sys.argv[1:]])
    os.write(2, f"\nInterrupted: nothing has changed. To go on: {os.environ.get('LATENT_ATLAS_RUN', again)}\n".encode())
    os._exit(128 + number)


# Ctrl-C while modules are loaded shows one sentence; afterwards click answers it, or the process that `run` becomes.
_main = threading.current_thread() is threading.main_thread()
if _loading := _main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)

import ast  # noqa: E402
import importlib  # noqa: E402
import keyword  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from latent_atlas.cluster.ending import after  # noqa: E402  # isort: skip  # before all that registers an end

from latent_atlas.cluster import fork_server  # noqa: E402

fork_server.hand_over()  # to a process that has loaded the rest already, if a run of Snakemake has one

try:
    import click
except ModuleNotFoundError:
    sys.exit("latent-atlas: the command line needs the workflow's packages: pip install 'latent-atlas[workflow]'")

from latent_atlas.signatures import Signature, command, definition, signature  # noqa: E402

if _loading and sys.argv[1:2] != ["run"]:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
    "inputs": "study/inputs.py",
    "new": "study/new.py",
    "pipeline": "versioning/command.py",
    "records": "cluster/records.py",
    "resources": "cluster/measured.py",
    "run": "study/run.py",
    "snakefile": "study/run.py",
}


def stages() -> dict[str, Signature]:
    """The stages by the names of their commands: the modules in ``stages`` that define a function of their own name."""
    found = {file: signature(file) for file in sorted((PACKAGE / "stages").glob("*.py"))}
    return {_command(file.stem): stage for file, stage in found.items() if stage}


def _command(function: str) -> str:
    return function.rstrip("_").replace("_", "-")


def _function(command: str) -> str:
    name = command.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


class Stages(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*stages(), *TOOLS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        function = _function(cmd_name)
        file = PACKAGE / TOOLS.get(cmd_name, f"stages/{function}.py")
        if not (cmd_name.replace("-", "").isidentifier() and file.is_file()):
            return None

        def load() -> Any:
            return getattr(importlib.import_module(f"latent_atlas.{file.parent.name}.{file.stem}"), function)

        if cmd_name in TOOLS:
            return load()
        stage = signature(file)
        return command(stage, load) if stage else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from latent_atlas.imports import near  # here, since only a mistyped command needs it

            if (meant := near(args[0], self.list_commands(ctx))).endswith("?"):
                raise click.UsageError(f"{error.message.removesuffix('.')}{meant}", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        tools = {name: definition(PACKAGE / file, name) for name, file in TOOLS.items()}
        for title, texts in (
            ("Stages", {name: stage.text for name, stage in stages().items()}),
            ("Tools", {name: ast.get_docstring(function) or "" for name, function in tools.items() if function}),
        ):
            with formatter.section(title):
                formatter.write_dl([(name, text.partition("\n")[0]) for name, text in texts.items()])


@click.command(cls=Stages, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="latent-atlas", prog_name="latent-atlas")
def main() -> None:
    """Train autoencoders, measure the surface that each one draws in pixel space, and show it.

    Each stage reads files and writes files; the workflow (`snakemake`) calls them in order.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # where a study keeps classes and functions of its own


def start() -> None:
    """The command line as a process of its own."""
    after(main)


if __name__ == "__main__":
    start()

"""What the Snakefile asks: names and files of a study, the parameters and the source files of a rule."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grimp

from latent_atlas.data.sources import datasets
from latent_atlas.errors import ParamsError
from latent_atlas.imports import is_path, with_options
from latent_atlas.models.registry import import_path
from latent_atlas.versioning.common import canonical, values_at

PACKAGE = Path(__file__).parents[1]
DEFAULTS = "latent_atlas.study.defaults"  # fills in values before a stage gets them
# What only hands values on to a stage, and so cannot change what the stage makes of them: the rule's
# command and parameters, which the engines watch, already tell all that passes through here.
HANDS_ON = {
    "latent_atlas",
    "latent_atlas.cli",
    "latent_atlas.command",
    "latent_atlas.study",
    "latent_atlas.study.schema",
    "latent_atlas.stages",
}


def put_commands_on_path() -> None:
    """Let the rules find the commands of this environment, also where nobody has activated it."""
    here = str(Path(sys.executable).parent)
    folders = os.environ.get("PATH", "").split(os.pathsep)
    if folders[0] != here:
        os.environ["PATH"] = os.pathsep.join([here, *folders])


def parameters(values: dict[str, Any], *keys: str) -> str:
    """The values at dotted keys of the parameter file, in canonical form.

    Equal values give equal text however they are written in the file. A key that the file lacks counts as null.
    """
    return canonical(values_at(values, *keys))


def sources(stage: str, *by_name: str) -> list[str]:
    """The source files that a stage's results depend on: its module and all that it imports, by the import graph.

    What a stage imports by name while it runs is named here, as a module or ``module:name``: see :func:`architecture`,
    :func:`dataset`, :func:`objective` and users' transformations. Of a user's module that file counts, not what it
    imports in turn.
    """
    modules = {f"latent_atlas.stages.{stage}", DEFAULTS, *(name.partition(":")[0] for name in by_name)}
    found = set(modules)
    for module in modules:
        if module in _graph().modules:
            found |= _graph().find_upstream_modules(module)
    return sorted(_file(module) for module in found - HANDS_ON)


def architecture(name: str) -> str:
    """The module of an architecture, and its class."""
    return import_path(name)


def dataset(name: str) -> str:
    """The module that gets a dataset."""
    return datasets()[name].source


def objective(named: str | Mapping[str, Any]) -> str:
    """The module of an objective, which is named with or without options."""
    name, _ = with_options(named)
    return name if is_path(name) else f"latent_atlas.training.objectives.{name}"


@functools.cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("latent_atlas", exclude_type_checking_imports=True, cache_dir=None)


def packaged(file: str) -> str:
    """A data file of the package, relative to the working directory where it lies below it."""
    return _from_here(PACKAGE / file)


def _file(module: str) -> str:
    head, _, rest = module.partition(".")
    if head == "latent_atlas":
        base = PACKAGE.joinpath(*rest.split(".")) if rest else PACKAGE
        return _from_here(base / "__init__.py" if base.is_dir() else base.with_suffix(".py"))
    path = Path(*module.split(".")).with_suffix(".py")
    if not path.exists():
        raise ParamsError(f"module {module}: there is no {path} beside the Snakefile, where its edits would be noticed")
    return str(path)


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def without_storage(file: str, prefix: str | None) -> str:
    """The path of a rule's output as the rule has it, where Snakemake has made it one in object storage.

    Parameters
    ----------
    file : str
        As Snakemake holds it; with a ``flags`` attribute if it is stored elsewhere.
    prefix : str or None
        Where the storage begins.
    """
    stored = getattr(file, "flags", {}).get("storage_object")
    return str(stored.query).removeprefix(prefix or "").lstrip("/") if stored else file


def values_of_wildcards(rule: Any, names: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """For each wildcard of a rule, those of its ``names`` that the rule's constraint allows."""
    constraints = rule.wildcard_constraints
    return {
        wildcard: [name for name in names[wildcard] if re.fullmatch(constraints.get(wildcard, ".*"), name)]
        for wildcard in rule.wildcard_names
    }

"""Things by name: modules that lie in a folder of this package, and ``module:name`` of a user's own."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latent_atlas.errors import LatentAtlasError


def modules(folder: Path) -> list[str]:
    """Names of the modules in a folder, sorted."""
    return sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")


def literal(file: Path, name: str) -> Any:
    """The literal that a module assigns to a name at its top level, read without importing it.

    Raises
    ------
    LatentAtlasError
        If it assigns none.
    """
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    raise LatentAtlasError(f"{file} assigns no {name}: add it (see the modules beside it)")


def is_path(name: str) -> bool:
    """Whether a name has the form ``module:name``."""
    module, _, attribute = name.partition(":")
    return attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def with_options(named: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The name and the options of a thing that is named alone, or as a mapping of its name to its options."""
    if isinstance(named, str):
        return named, {}
    ((name, options),) = named.items()
    return name, options


def options_of(file: Path, function: str, first: int) -> dict[str, Any]:
    """The arguments of a function after the ``first``, with their defaults, read without importing its module."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            names = [argument.arg for argument in node.args.args[first:]]
            return dict(zip(names, map(ast.literal_eval, node.args.defaults), strict=True))
    return {}


def imported(path: str, what: str, error: type[LatentAtlasError]) -> Any:
    """What ``module:name`` names, for an error message that begins with ``what``.

    Raises
    ------
    error
        If there is no such module, or nothing of that name in it.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as missing:
        raise error(
            f"{what}: no module named {missing.name!r}; put {module.replace('.', '/')}.py beside the Snakefile"
        ) from missing
    except AttributeError as missing:
        raise error(f"{what}: {module} has no {name}") from missing

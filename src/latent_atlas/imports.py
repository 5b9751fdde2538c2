"""Things by name: modules that lie in a folder of this package, and ``module:name`` of a user's own."""

from __future__ import annotations

import ast
import difflib
import importlib
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from latent_atlas.errors import LatentAtlasError


class Kind(NamedTuple):
    """Things that are named alike: by a module in a folder of this package, or as ``module:name`` of a user's own.

    Attributes
    ----------
    package : str
        Where the modules are, below this package.
    what, own : str
        What messages call one of them, and a user's own.
    """

    package: str
    what: str
    own: str

    @property
    def folder(self) -> Path:
        """Where the modules are."""
        return Path(__file__).parent.joinpath(*self.package.split("."))

    def known(self) -> list[str]:
        """The names of those in the package, sorted."""
        return modules(self.folder)

    def check(self, name: Any, error: type[Exception] = ValueError) -> None:
        """Raise ``error`` if this is neither the name of one in the package nor of the form ``module:name``."""
        if not (name in self.known() or (isinstance(name, str) and is_path(name))):
            known = ", ".join(self.known())
            raise error(
                f"{name!r} is no {self.what}{near(name, self.known())} choose one of {known}, or name {self.own}"
            )

    def get(self, name: str, error: type[LatentAtlasError]) -> Any:
        """The module in the package, or what ``module:name`` names; ``error`` if there is none."""
        self.check(name, error)
        if name in self.known():
            return importlib.import_module(f"latent_atlas.{self.package}.{name}")
        return imported(name, f"{self.what} {name!r}", error)


ARCHITECTURES = Kind("models.architectures", "architecture", "a class of your own as 'module:Class'")
ADAPTERS = Kind(
    "models.adapters", "adapter", "an object of your own with the functions encode and decode as 'module:name'"
)
OBJECTIVES = Kind(
    "training.objectives", "objective",
    "a function of your own as 'module:function'; with options it is a mapping such as {vae: {beta: 4.0}}",
)  # fmt: skip


def near(name: Any, known: Iterable[str]) -> str:
    """How a sentence on an unknown name goes on: the most similar name as a question, or a semicolon."""
    found = difflib.get_close_matches(str(name), known, n=1)
    return f", did you mean {found[0]!r}?" if found else ";"


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
        If there is no such module, it cannot be imported, or nothing of that name is in it.
    """
    module, _, name = path.partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if f"{module}.".startswith(f"{missing.name}."):
            beside = [file.stem for file in Path().glob("*.py")]
            also = near(missing.name, beside).rstrip(";").removeprefix(", ")
            remedy = f"{also}{' Else ' * bool(also)}put {module.replace('.', '/')}.py beside the Snakefile"
        else:
            remedy = f"{module} imports it ({place(missing)}): install it, or put it beside the Snakefile"
        raise error(f"{what}: no module named {missing.name!r}; {remedy}") from missing
    except (Exception, SystemExit) as fault:  # of the user's own code
        raise error(
            f"{what}: the import of {module} raises {type(fault).__name__}: {fault} ({place(fault)})"
        ) from fault
    try:
        return getattr(found, name)
    except AttributeError as missing:
        own, there = Path(*module.split(".")).with_suffix(".py"), getattr(found, "__file__", None)
        other = own.exists() and (there is None or not own.samefile(there))
        remedy = f": it is {there or 'a module of Python'}, not {own}; rename yours" if other else ""
        raise error(f"{what}: {module} has no {name}{remedy or near(name, vars(found)).rstrip(';')}") from missing


def place(error: BaseException) -> str:
    """File and line of the innermost code outside installed packages that raised an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "<frozen" not in frame.filename]
    own = [frame for frame in frames if not {"site-packages", "dist-packages"} & set(Path(frame.filename).parts)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else "in an installed package"

"""What the Snakefile asks: names and files of a study, the parameters and the source files of a rule."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grimp

from latent_atlas.data.sources import matched, named
from latent_atlas.errors import ParamsError
from latent_atlas.files import write_text
from latent_atlas.imports import is_path, near, with_options
from latent_atlas.models.registry import import_path
from latent_atlas.study.schema import unusable
from latent_atlas.versioning import lists
from latent_atlas.versioning.common import canonical, values_at

if TYPE_CHECKING:
    from latent_atlas.study.schema import DatasetParams

PACKAGE = Path(__file__).parents[1]
OWN = "latent_atlas"
STAND_INS = Path(".latent-atlas")  # what stands in a study for the sources of an installed package
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
    :func:`adapter`, :func:`dataset`, :func:`objective` and users' transformations. Of a user's module that file counts,
    not what it imports in turn.

    Where the package is installed elsewhere, a file in :data:`STAND_INS` stands for each of its modules among these and
    all that it imports: it lists their checksums, and it can be versioned with the study. What a study needs of them
    must be asked for while the Snakefile is read, since Snakemake looks only once which files are there.
    """
    modules = _modules(stage, by_name)
    return list((_stand_ins if _stands_in() else _source_files)(Path.cwd(), modules))


def inputs(stage: str, *by_name: str) -> list[str]:
    """What a rule has as inputs for its :func:`sources`: a list for each of its modules, or for an installed package
    their stand-ins. The engines know the lists of this folder by :mod:`latent_atlas.versioning.lists`.

    As of :func:`sources`, what a study needs must be asked for while the Snakefile is read.
    """
    return list(_stand_ins(Path.cwd(), _modules(stage, by_name)))


def _modules(stage: str, by_name: Iterable[str]) -> frozenset[str]:
    return frozenset({f"latent_atlas.stages.{stage}", *(name.partition(":")[0] for name in by_name)})


@functools.cache
def _stand_ins(folder: Path, modules: frozenset[str]) -> tuple[str, ...]:
    """What stands for modules and all that they import, as seen from a folder; a user's own module for itself."""
    _stand_in_for_stages(folder)
    return tuple(sorted(_stand_in_for(module) if _is_own(module) else _file(module) for module in modules))


@functools.cache
def _source_files(folder: Path, modules: frozenset[str]) -> tuple[str, ...]:
    """The files of modules and of all that they import, as seen from a folder: the same for thousands of jobs."""
    return tuple(sorted({_file(module) for start in modules for module in _closure(start)}))


def _closure(module: str) -> set[str]:
    """A module and all that it imports, but for what only hands values on; and what fills in values before it."""
    if module not in _graph().modules:
        return {module, DEFAULTS}
    return {module, DEFAULTS, *_graph().find_upstream_modules(module)} - HANDS_ON


@functools.cache
def _stand_in_for_stages(folder: Path) -> None:
    for file in (PACKAGE / "stages").glob("[a-z]*.py"):
        _stand_in_for(f"latent_atlas.stages.{file.stem}")


def _stand_in_for(module: str) -> str:
    files = [Path(_file(each)) for each in _closure(module)]
    if _stands_in():
        return _stand_in(".".join(module.split(".")[-2:]), files)
    return lists.write(lists.FOLDER / f"{module.removeprefix(f'{OWN}.')}.md5", files)


def update_list(path: str) -> None:
    """Bring a list that stands for the sources of a module of the package up to date.

    Raises
    ------
    ParamsError
        If there is no such module any more.
    """
    module = f"{OWN}.{Path(path).stem}"
    if module not in _graph().modules:
        raise ParamsError(f"{path} stands for the module {module}, which is not there: run latent-atlas pipeline")
    _stand_in_for(module)


def architecture(name: str) -> str:
    """The module of an architecture, and its class."""
    return import_path(name)


def adapter(name: str) -> str:
    """The module of an adapter, and its object if it is a user's own."""
    return name if is_path(name) else f"latent_atlas.models.adapters.{name}"


def dataset(wanted: DatasetParams) -> list[str]:
    """The module that gets a dataset, and that of the user's function."""
    own = [wanted.function] if wanted.function else []
    return [named(wanted.model_dump())[1], *own]


MADE = ("results/", "logs/", "data/images.safetensors")  # by a study itself


def dataset_files(wanted: DatasetParams) -> list[str]:
    """The user's files that a dataset is made of: if one is edited, added or removed, it is made anew.

    Raises
    ------
    ParamsError
        If there are none, or one has a name that an engine cannot hold, or is a result of this study.
    """
    found = [Path(file).expanduser() for file in (wanted.arrays, wanted.labels) if file]
    if wanted.images:
        pictures = matched(wanted.images)
        if not pictures:
            raise ParamsError(f"dataset.images: there are no images at {wanted.images}: correct it (see docs/data.md)")
        if made := next((file for file in map(_from_here, pictures) if file.startswith(MADE)), None):
            raise ParamsError(f"dataset.images: {wanted.images} matches {made}, which this study makes: name a folder")
        found += pictures
    for path in found:
        if not path.exists():
            raise ParamsError(f"dataset: there is no {path}: correct its name in params.yaml")
        if unusable(str(path)):
            raise ParamsError(
                f"dataset: {str(path)!r} holds braces or control characters or < >, which engines read otherwise; "
                f"rename it"
            )
    return [_from_here(path) for path in found]


def objective(named: str | Mapping[str, Any]) -> str:
    """The module of an objective, which is named with or without options."""
    name, _ = with_options(named)
    return name if is_path(name) else f"latent_atlas.training.objectives.{name}"


@functools.cache
def _graph() -> grimp.ImportGraph:
    return grimp.build_graph("latent_atlas", exclude_type_checking_imports=True, cache_dir=None)


def packaged(file: str) -> str:
    """A data file of the package, relative to the working directory where it lies below it; else its stand-in."""
    return _stand_in(Path(file).name, [PACKAGE / file]) if _stands_in() else _from_here(PACKAGE / file)


def origins(rules: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
    """A small file that tells the report which rules its files come from, written anew if they have changed.

    Parameters
    ----------
    rules : mapping
        As :class:`latent_atlas.report.origins.Origins` reads it.
    """
    path, text = STAND_INS / "origins.json", json.dumps(rules, indent=1) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)
    return str(path)


def _stands_in() -> bool:
    """Whether the package is installed elsewhere, and this folder has no sources of its own that it might be."""
    here = PACKAGE.is_relative_to(Path.cwd()) and not any(part.endswith("-packages") for part in PACKAGE.parts)
    return not here and not Path("src/latent_atlas").is_dir()


def _stand_in(name: str, files: Iterable[Path]) -> str:
    """A small file with the checksums of files of the package, written anew if they have changed."""
    return lists.write(STAND_INS / f"{name}.md5", files, PACKAGE)


def _is_own(module: str) -> bool:
    return module.partition(".")[0] == OWN


def _file(module: str) -> str:
    _, _, rest = module.partition(".")
    if _is_own(module):
        base = PACKAGE.joinpath(*rest.split(".")) if rest else PACKAGE
        return _from_here(base / "__init__.py" if base.is_dir() else base.with_suffix(".py"))
    path = Path(*module.split(".")).with_suffix(".py")
    if not path.exists():
        if module.endswith(".py"):
            raise ParamsError(f"module {module}: name it without its ending: {module.removesuffix('.py')}")
        raise ParamsError(
            f"module {module}: there is no {path} beside the Snakefile, where its edits would be noticed"
            f"{near(str(path), [file.name for file in Path().glob('*.py')])} put it there, or correct the name"
        )
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

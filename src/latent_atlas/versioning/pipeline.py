"""``dvc.yaml``, derived from the jobs of the workflow."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from latent_atlas.versioning import lists
from latent_atlas.versioning.common import VersioningError, damaged, regular, values_at, write_text

PARAMS_FILE = "params.yaml"
HEADER = """\
# Derived from the Snakefile by each run of `snakemake`, and by `latent-atlas pipeline`; with `--check` it compares.
# Kept as they are: stages of your own, whose names begin with no rule and a hyphen, and `frozen`.
"""
RULES = "# Rules: "
# Before each command, so that `dvc repro` also runs where the environment that `make` sets up has not been activated.
FIND = 'export PATH="$PATH:.venv/bin"; '
INPUTS = "sources-and-parameters"  # the stage that makes what stands for these; no rule has such a name


@dataclass(frozen=True)
class Job:
    """The definition of a job that both engines use.

    Attributes
    ----------
    name : str
        Rule and wildcards, joined by ``-``.
    command : str
    deps, outs : tuple of str
        Paths of the files that it reads and writes.
    params : mapping of str to value
        Dotted keys of the parameter file, and their values.
    values : str, optional
        The one of ``deps`` that stands for ``params``, if there is one: see :mod:`.lists`.
    kept : set of str
        Outputs that stay in place until the job has written new ones: those that the rule flags with ``update``.
    """

    name: str
    command: str
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    values: str | None = None
    kept: frozenset[str] = frozenset()


def inputs_of(jobs: Collection[Job]) -> Job | None:
    """The definition of the stage :data:`INPUTS` that makes what these jobs have in place of sources and parameters."""
    made = sorted({dep for job in jobs for dep in job.deps if lists.is_list(dep) or lists.has_values(dep)})
    params = {key: value for job in jobs if job.values for key, value in job.params.items()}
    deps = tuple(sorted(lists.behind(made)))
    return Job(INPUTS, f"{FIND}latent-atlas inputs", deps, tuple(made), params, kept=frozenset(made)) if made else None


def render(jobs: Iterable[Job], extras: Mapping[str, Any], before: str = "", rules: Iterable[str] = ()) -> str:
    """The text of ``dvc.yaml``.

    Parameters
    ----------
    jobs : iterable of Job
    extras : mapping
        ``in_git``: patterns of outputs that are stored in git, not in DVC's cache. ``metrics``, ``plots`` and
        ``models`` are written for the outputs that a job has.
    before : str
        The text to replace. Its stages that belong to no rule are kept, and so is ``frozen``.
    rules : iterable of str
        Names of the rules of the Snakefile. The text lists them, so that stages of a deleted rule can be recognized.
    """
    jobs = sorted(jobs, key=lambda job: job.name)
    patterns = list(extras.get("in_git", []))
    outputs = {out for job in jobs for out in job.outs}
    old = stages_of(before)
    stages = {job.name: _stage(job, patterns) | _frozen(old.get(job.name)) for job in jobs}
    known = {*rules, *(word for line in before.splitlines() if line.startswith(RULES) for word in line.split()[2:])}
    own = {
        name: stage
        for name, stage in old.items()
        if not (name in stages or name == INPUTS or name.split("-")[0] in known or outputs.intersection(outs_of(stage)))
    }
    document: dict[str, Any] = {"stages": stages | own}
    document["metrics"] = [path for path in extras.get("metrics", []) if path in outputs]
    document["plots"] = [
        {name: settings} for name, settings in extras.get("plots", {}).items() if set(settings["y"]) <= outputs
    ]
    document["artifacts"] = {
        Path(out).stem: {"path": out, "type": "model"}
        for out in sorted(outputs)
        if fnmatch.fnmatch(out, extras.get("models", ""))
    }
    text = io.StringIO()
    plain_yaml().dump({key: value for key, value in document.items() if value}, text)
    return HEADER + f"{RULES}{' '.join(sorted(rules))}\n" + text.getvalue()


def stages_of(text: str) -> dict[str, Any]:
    """The stages in the text of ``dvc.yaml`` or ``dvc.lock``."""
    return dict((plain_yaml().load(text) or {}).get("stages") or {})


def outs_of(stage: Any) -> list[str]:
    """Paths of the outputs of a stage; DVC refuses two stages with the same output."""
    outs = (stage.get("outs") if isinstance(stage, dict) else None) or []
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def _frozen(stage: Any) -> dict[str, bool]:
    return {"frozen": True} if isinstance(stage, dict) and stage.get("frozen") else {}


def _stage(job: Job, in_git: list[str]) -> dict[str, Any]:
    outs: list[str | dict[str, dict[str, bool]]] = []
    for out in sorted(job.outs):
        settings = {"cache": False} if held_by_git(out, in_git) else {}
        settings |= {"persist": True} if out in job.kept else {}
        outs.append({out: settings} if settings else out)
    stage: dict[str, Any] = {"cmd": _literal(job.command), "deps": sorted(map(_literal, job.deps))}
    if job.params and not job.values:
        stage["params"] = sorted(job.params)
    return stage | {"outs": outs}


def _literal(text: str) -> str:
    """Text that DVC takes as it is: it would fill in ``${...}``."""
    return text.replace("${", r"\${")


def plain_yaml() -> Any:
    """YAML 1.2 in the form in which DVC writes it, by the parser and the emitter in C."""
    yaml: Any = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 4096
    return yaml


def held_by_git(path: str, patterns: Iterable[str]) -> bool:
    """Whether an output is stored in git. Paths and patterns are compared part by part: ``*`` matches no slash."""
    if lists.is_list(path) or lists.has_values(path):
        return True
    parts = path.split("/")
    return any(
        len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in patterns)
    )


def current(path: Path) -> str:
    """The text of ``dvc.yaml``; empty if there is no such file.

    Raises
    ------
    VersioningError
        If DVC could not use it.
    """
    from dvc.schema import COMPILED_MULTI_STAGE_SCHEMA as SCHEMA

    try:
        text = regular(path) or ""
        SCHEMA(plain_yaml().load(text) or {})
    except Exception as error:
        raise VersioningError(
            damaged(path, error, "snakemake writes it anew, all but stages of your own and frozen")
        ) from error
    return text


def holds(path: Path, jobs: Collection[Job], extras: Mapping[str, Any]) -> bool:
    """Whether ``dvc.yaml`` already has the stages of these jobs, and makes what stands for their inputs."""
    stages, patterns = stages_of(current(path)), list(extras.get("in_git", []))
    inputs, known = inputs_of(jobs), stages.get(INPUTS) or {}
    return all(stages.get(job.name) == _stage(job, patterns) | _frozen(stages.get(job.name)) for job in jobs) and not (
        inputs
        and (
            set(inputs.deps) - set(known.get("deps") or [])
            or set(inputs.outs) - set(outs_of(known))
            or set(inputs.params) - set(known.get("params") or [])
        )
    )


def inputs_in(text: str, values: Mapping[str, Any]) -> Job | None:
    """The stage :data:`INPUTS` in the text of ``dvc.yaml``, with values of the parameter file; None if it has none."""
    stage = stages_of(text).get(INPUTS)
    if stage is None:
        return None
    deps, outs = tuple(stage.get("deps") or []), tuple(outs_of(stage))
    return Job(INPUTS, stage["cmd"], deps, outs, values_at(values, *(stage.get("params") or [])), kept=frozenset(outs))


def same(text: str, other: str) -> bool:
    """Whether two texts have equal content, in any order and form."""
    return text == other or plain_yaml().load(text) == plain_yaml().load(other)


def write(path: Path, text: str) -> bool:
    """Update ``dvc.yaml``; returns whether its content has changed."""
    if same(current(path), text):
        return False
    write_text(path, text)
    return True

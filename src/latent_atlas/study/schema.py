"""The parameter file: what may stand in ``params.yaml``, and clear words about what may not.

The file is complete: every parameter that changes a result is written there, so that what the workflow
engines see of it is all there is to see.
"""

from __future__ import annotations

import difflib
import math
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from latent_atlas.data.sources import KEYS, datasets, expected, named, torchvision_names
from latent_atlas.errors import DataError, ParamsError, counted
from latent_atlas.imports import ADAPTERS, ARCHITECTURES, OBJECTIVES, is_path, near, options_of, with_options
from latent_atlas.models.registry import is_built_in
from latent_atlas.study.defaults import complete
from latent_atlas.study.fits import check_fit
from latent_atlas.study.manifolds import PIXELS, check_names, pca_manifolds, seeds_of

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
PACKAGE = Path(__file__).parents[1]
# The names in geometry/transformations.py, which is not imported here: checking parameters must be cheap.
TRANSFORMATION_NAMES = tuple(
    re.findall(
        r'^ +Transformation\("(\w+)"', (PACKAGE / "geometry" / "transformations.py").read_text("utf-8"), re.MULTILINE
    )
)
EXAMPLE = r"^(train|test)/[0-9]+$"  # a split and an index in it
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Length = Annotated[int, Field(gt=0, le=10**9)]  # of a training, in epochs or steps
Step = Annotated[float, Field(ge=-(10**6), le=10**6)]  # of a transformation, in its unit
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MOST_SEEDS = 10_000
LARGEST, DEEPEST = 1_000_000, 20  # bytes and levels of a parameter file


def _known_architecture(name: str) -> str:
    ARCHITECTURES.check(name)
    return name


def _known_dataset(name: str) -> str:
    if name not in datasets() and name not in torchvision_names():
        raise ValueError(
            f"{name!r} is no dataset{near(name, {*datasets(), *torchvision_names()})} choose one of "
            f"{', '.join(datasets())}, or a class of torchvision.datasets"
        )
    return name


def _size(value: Any) -> Any:
    if value is None:
        return value
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    if not all(type(side) is int and side > 0 for side in sides):
        raise ValueError(f"{value!r} is no size; give a number of pixels, or [height, width]")
    return value


def unusable(path: str) -> bool:
    """Whether an engine would read the name of a file otherwise: Snakemake fills in {...} and <...>."""
    return not path.strip() or not path.isprintable() or bool(set(path) & set("{}<>"))


def _path(value: str) -> str:
    if unusable(value):
        more = " or < >" if set(value) & set("<>") else ""
        raise ValueError(f"{value!r} is no usable path: it may not be empty or hold braces or control characters{more}")
    try:
        Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{value!r} begins with ~ and no user of that name is known here; give the path from /"
        ) from error
    return value


def _a_file(path: str) -> str:
    if "://" in path:
        raise ValueError(f"{path!r} is an address: download the file, and name it by its path")
    if unusable(path):
        raise ValueError(f"{path!r} is empty or has one of {{ }} < > or an invisible character: rename the file")
    return path


def _function(name: str) -> str:
    if not is_path(name):
        raise ValueError(f"{name!r} is no function: name it as 'module:function'")
    return name


def _known_objective(named: Any) -> Any:
    try:
        name, options = with_options(named)
        options = dict(options)
    except (AttributeError, TypeError, ValueError):
        name, options = named, {}
    OBJECTIVES.check(name)
    for option, value in options.items() if name in OBJECTIVES.known() else ():
        defaults = options_of(OBJECTIVES.folder / f"{name}.py", "loss", first=3)
        if option not in defaults:
            raise ValueError(f"{name!r} has no option {option!r}; it has {', '.join(defaults) or 'none'}")
        kind, least = ((int,), 1) if isinstance(defaults[option], int) else ((int, float), 0)
        if type(value) not in kind or not least <= value < math.inf:
            raise ValueError(
                f"{option} of {name!r} is {value!r}; give a {'whole ' if least else ''}number of at least {least}"
            )
    return named


def _known_adapter(name: str) -> str:
    ADAPTERS.check(name)
    return name


Objective = Annotated[Any, AfterValidator(_known_objective)]


def _seeds(value: Any) -> Any:
    listed = value if isinstance(value, list) else []
    if type(value) is int and 1 <= value <= MOST_SEEDS:
        return value
    if not listed or not all(type(seed) is int and 0 <= seed < 2**63 for seed in listed):
        raise ValueError(
            f"{value!r} is no number of seeds and no list of them; give a number from 1 to {MOST_SEEDS}, or a list of "
            f"whole numbers from 0 such as [0, 1, 2]"
        )
    if repeated := sorted({seed for seed in listed if listed.count(seed) > 1}):
        raise ValueError(f"the seed {repeated[0]} is listed twice; a training of the same seed is the same training")
    return value


Seeds = Annotated[Any, AfterValidator(_seeds)]


def _one_length(training: Any) -> Any:
    if training.epochs is not None and training.steps is not None:
        raise ValueError(f"epochs is {training.epochs} and steps is {training.steps}; give one of the two")
    return training


def _one_of(name: str, known: Iterable[str], path: str, what: str) -> None:
    if name not in known:
        raise ValueError(f"{path}: {name!r} is no {what}; choose one of {', '.join(known) or 'none there is'}")


def _known_transformation(name: str, path: str) -> None:
    if ":" not in name and name not in TRANSFORMATION_NAMES:
        raise ValueError(
            f"{path}: there is no transformation {name!r}; choose one of {', '.join(TRANSFORMATION_NAMES)}, "
            f"or name a function of your own by function: module:name"
        )


class Section(BaseModel):
    """A mapping of known keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DatasetParams(Section):
    name: Annotated[str, AfterValidator(_known_dataset)] | None = None
    images: Annotated[str, AfterValidator(_path)] | None = None
    arrays: Annotated[str, AfterValidator(_path)] | None = None
    function: Annotated[str, AfterValidator(_function)] | None = None
    options: dict[str, Any] | None = None
    folder: Annotated[str, AfterValidator(_path)] | None = None
    labels: Annotated[str, AfterValidator(_path)] | None = None
    size: Annotated[Any, AfterValidator(_size)] = None
    crop: Literal["centre", "none"] | None = None
    colour: Literal["grey", "rgb"] | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Seed | None = None
    limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _keys_belong_together(self) -> DatasetParams:
        given = {key: value for key, value in self if value is not None}
        sources = [key for key in KEYS if key in given]
        if len(sources) != 1:
            found = f"remove all but one of {', '.join(sources)}" if sources else "add one of them"
            raise ValueError(f"one of {', '.join(KEYS)} says where the images come from: {found}")
        beside = {*sources, *named(given)[2], "limit"}
        for key in given:
            if key not in beside:
                remedy = f"leave it out; known there: {', '.join(sorted(beside - set(sources)))}"
                raise ValueError(f"{key} does not go with {sources[0]}: {given[sources[0]]}; {remedy}")
        if self.crop and not self.size:
            raise ValueError("crop needs a size; add size, or leave out crop")
        return self


class TrainingParams(Section):
    epochs: Length | None = None
    steps: Length | None = None
    min_steps: Length = 1
    batch_size: Annotated[int, Field(ge=2)]
    peak_learning_rate: Rate
    optimizer: Literal["adam", "muon"] = "adam"
    precision: Literal["float32", "bfloat16"]
    objective: Objective
    snapshot_every: Length | None
    seed: Seed
    device: Annotated[str, StringConstraints(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
    threads: Annotated[int, Field(ge=1, le=1024)]

    @model_validator(mode="after")
    def _has_one_length(self) -> TrainingParams:
        if self.epochs is None and self.steps is None:
            raise ValueError("it has no length; give epochs or steps")
        return _one_length(self)


class TrainingOverrides(Section):
    epochs: Length | None = None
    steps: Length | None = None
    min_steps: Length | None = None
    batch_size: Annotated[int, Field(ge=2)] | None = None
    peak_learning_rate: Rate | None = None
    optimizer: Literal["adam", "muon"] | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    objective: Objective = None
    snapshot_every: Length | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _has_one_length_at_most(self) -> TrainingOverrides:
        return _one_length(self)


class ModelParams(Section):
    architecture: Annotated[str, AfterValidator(_known_architecture)]
    latent_dim: PositiveInt
    options: dict[str, Any] = {}
    training: TrainingOverrides = TrainingOverrides()
    adapter: Annotated[str, AfterValidator(_known_adapter)] | None = None
    seeds: Seeds | None = None
    state_dict: Annotated[str, AfterValidator(_a_file)] | None = None
    codes: Annotated[str, AfterValidator(_a_file)] | None = None

    @model_validator(mode="after")
    def _can_be_trained(self) -> ModelParams:
        if self.adapter == "decoder_only" and self.state_dict is None:
            raise ValueError("a decoder alone cannot be trained here: name the file of its weights as state_dict")
        if self.codes and not (self.state_dict and (self.adapter == "decoder_only" or is_path(self.adapter or ""))):
            raise ValueError(
                "codes are given for images only of a model with a state_dict and without an encoder: name the adapter "
                "decoder_only, or leave out codes"
            )
        if self.seeds is not None and self.state_dict is not None:
            raise ValueError("imported weights are one training: leave out seeds, or name each file as a model")
        return self


class SampleParams(Section):
    split: Literal["train", "test"]
    size: PositiveInt | None
    seed: Seed
    precision: Literal["float64", "float32"] = "float64"
    exact_up_to: PositiveInt = 2048
    products: Annotated[int, Field(ge=8)] = 128


class PCAParams(Section):
    latent_dims: Annotated[list[PositiveInt], Field(min_length=1)]


class ReconstructParams(Section):
    shown: Annotated[int, Field(ge=1, le=10_000)]


class InterpolateParams(Section):
    pairs: Annotated[dict[Name, Annotated[list[str], Field(min_length=2, max_length=2)]], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=10_000)]
    shown: Annotated[int, Field(ge=2)]


class GeodesicsParams(Section):
    pairs: PositiveInt | None
    nodes: Annotated[int, Field(ge=3, le=1000)]
    seed: Seed


class TangentsParams(Section):
    example: str


class TransformationParams(Section):
    step: Step
    function: str | None = None


class StepStudyParams(Section):
    example: str
    transformations: Annotated[list[str], Field(min_length=1)]
    steps: Annotated[list[Annotated[Step, Field(gt=0)]], Field(min_length=1)]


class EpochStudyParams(Section):
    example: str
    transformations: Annotated[list[str], Field(min_length=1)]


class InvarianceParams(Section):
    transformations: Annotated[dict[Name, TransformationParams], Field(min_length=1)]
    pictures: list[str]
    step_study: StepStudyParams
    epoch_study: EpochStudyParams


class Params(Section):
    """All parameters of a study."""

    dataset: DatasetParams
    models: Annotated[dict[Name, ModelParams], Field(min_length=1)]
    training: TrainingParams
    seeds: Seeds = 1
    pca: PCAParams
    reconstruct: ReconstructParams
    sample: SampleParams
    examples: Annotated[dict[Name, Annotated[str, StringConstraints(pattern=EXAMPLE)]], Field(min_length=1)]
    interpolate: InterpolateParams
    geodesics: GeodesicsParams
    tangents: TangentsParams
    invariance: InvarianceParams

    @model_validator(mode="after")
    def _vae_has_variances(self) -> Params:
        for name, model in self.models.items():
            objective, _ = with_options(model.training.objective or self.training.objective)
            built_in = is_built_in(model.architecture) and model.adapter is None and not model.state_dict
            if objective == "vae" and built_in and model.options.get("variational") is not True:
                raise ValueError(
                    f"models.{name}: the objective vae needs log-variances; give it options: {{variational: true}}"
                )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Params:
        for pair, ends in self.interpolate.pairs.items():
            path = f"interpolate.pairs.{pair}"
            for example in ends:
                _one_of(example, self.examples, path, "example")
            if self.examples[ends[0]] == self.examples[ends[1]]:
                raise ValueError(f"{path}: {ends} is a path from an image to itself; name two different examples")
        if self.interpolate.shown > self.interpolate.steps + 1:
            raise ValueError(
                f"interpolate.shown: {counted(self.interpolate.shown, 'image')} cannot be shown of the "
                f"{self.interpolate.steps + 1} of {counted(self.interpolate.steps, 'step')}; lower it, or take more "
                f"steps"
            )
        _one_of(self.tangents.example, self.examples, "tangents.example", "example")
        moves = self.invariance
        for example in moves.pictures:
            _one_of(example, self.examples, "invariance.pictures", "example")
        for name, entry in moves.transformations.items():
            path = f"invariance.transformations.{name}"
            if entry.step == 0:
                raise ValueError(f"{path}.step: 0 moves nothing; give a step other than zero")
            _known_transformation(entry.function or name, path)
        for study, section in (("step_study", moves.step_study), ("epoch_study", moves.epoch_study)):
            _one_of(section.example, self.examples, f"invariance.{study}.example", "example")
            for name in section.transformations:
                _one_of(name, moves.transformations, f"invariance.{study}.transformations", "transformation")
        return self

    @model_validator(mode="after")
    def _fits_the_dataset(self) -> Params:
        wanted = self.dataset.model_dump()
        if not (self.dataset.name in datasets() and self.dataset.folder):  # which may hold other images under that name
            try:
                _, train, test, shape = expected(wanted)
            except DataError as error:
                raise ValueError(str(error)) from error
            limit = self.dataset.limit
            counts = [count and min(count, limit or count) for count in (train, test)]
            check_fit(self, str(wanted[named(wanted)[0]]), counts[0], counts[1], shape)
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> Params:
        taken = {*pca_manifolds(self), PIXELS} & set(self.models)
        if taken:
            raise ValueError(f"models.{min(taken)}: the name {min(taken)!r} is that of a baseline; choose another")
        for model, entry in self.models.items():
            for seed in [] if entry.state_dict else seeds_of(self, model)[1:]:
                if (name := f"{model}_seed{seed}") in self.models:
                    raise ValueError(f"models.{name}: the name is that of the training of {model} with seed {seed}")
        check_names(self)
        return self


class _Composer(Composer):
    """Composes what a file says, without aliases, and not deeper than parameters are."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise ParamsError(f"line {event.start_mark.line + 1}: anchors and aliases (& and *) are not read here: "
                              f"write the values out, and text that begins with * or & in quotes")  # fmt: skip
        self.depth += 1
        if self.depth > DEEPEST:
            raise ParamsError(f"line {event.start_mark.line + 1}: more than {DEEPEST} levels of nesting")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read(path: Path | str = "params.yaml") -> dict[str, Any]:
    """The parameter file as plain values, read as YAML 1.2 (``5e-3`` is a number).

    Raises
    ------
    ParamsError
        If the file is missing, no regular file, larger than :data:`LARGEST`, or not YAML; if it has anchors, more than
        :data:`DEEPEST` levels, or a value that JSON
        cannot hold.
    """
    parser = YAML(typ="safe", pure=True)
    parser.Composer = _Composer
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ParamsError("it is no regular file: name a text file")
        if status.st_size > LARGEST:
            raise ParamsError(f"{status.st_size:,} bytes; a parameter file has at most {LARGEST:,}")
        values = parser.load(Path(path).read_text(encoding="utf-8"))
        _check_plain(values, ())
    except FileNotFoundError as error:
        raise ParamsError(f"there is no {path} here: run in the project's folder, or name the file") from error
    except YAMLError as error:
        remedy = "\nIndent by spaces: YAML takes no tabs" if r"'\t' that cannot start" in str(error) else ""
        raise ParamsError(f"{path} is not valid YAML: {error}{remedy}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path} cannot be read as a text file: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:  # numbers, dates or keys that Python cannot hold
        raise ParamsError(f"{path} is not valid YAML: {str(error).partition(chr(10))[0][:200]}") from error
    except ParamsError as error:
        raise ParamsError(f"{path}: {error}") from error
    if not isinstance(values, dict):
        raise ParamsError(f"{path} must be a mapping of sections, not {type(values).__name__}")
    return values


def _check_plain(values: Any, place: tuple[str, ...]) -> None:
    """Refuse what JSON, which carries the values to the jobs, cannot hold, and numbers that no library can."""
    where = ".".join(place) or "the file"
    if isinstance(values, dict):
        for key, value in values.items():
            if not isinstance(key, str):
                raise ParamsError(f"{where}: the key {str(key)[:40]} is no text: put it in quotes")
            _check_plain(value, (*place, key[:40]))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            _check_plain(value, (*place, str(number)))
    elif isinstance(values, int) and not -(2**63) <= values < 2**63:
        raise ParamsError(f"{where}: a whole number of {values.bit_length()} bits; 64 are allowed")
    elif isinstance(values, float) and not math.isfinite(values):
        raise ParamsError(f"{where}: {values} is no number that can be used here")
    elif not isinstance(values, (str, int, float, type(None))):
        raise ParamsError(f"{where}: a value of type {type(values).__name__}: give a number, text, list or mapping")


def load(path: Path | str = "params.yaml") -> Params:
    """Read and check the parameter file.

    Raises
    ------
    ParamsError
        Naming each wrong entry by its path, with its value and what is allowed.
    """
    try:
        return Params.model_validate(complete(read(path)))
    except ValidationError as error:
        lines = [_explain(problem) for problem in _without_misspelt(error.errors())]
        raise ParamsError("\n  ".join([f"{path} cannot be used:", *lines])) from error


def _without_misspelt(problems: Sequence[Any]) -> list[Any]:
    """The problems without the missing keys for which there is a misspelt one, whose message names them."""
    meant = {(*each["loc"][:-1], key) for each in problems if each["type"] == "extra_forbidden"
             for key in _meant(each["loc"])}  # fmt: skip
    return [each for each in problems if each["type"] != "missing" or tuple(each["loc"]) not in meant]


def _meant(location: tuple[Any, ...]) -> list[str]:
    """The key that is most like the last part of a path, if there is any."""
    return difflib.get_close_matches(str(location[-1]), _known_keys(location[:-1]), n=1)


def _explain(problem: Any) -> str:
    """One line on one wrong entry: its path, its value, what is allowed."""
    path = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    value = problem["input"]
    match problem["type"]:
        case "extra_forbidden":
            return f"{path}: unknown key{_nearest(problem['loc'])}"
        case "missing":
            return f"{path}: missing; add it (see the comments of the shipped params.yaml)"
        case "string_pattern_mismatch" if "[key]" in problem["loc"]:
            return f"{path}: a name must start with a letter and hold only letters, digits and _"
        case "string_pattern_mismatch" if path.startswith("examples."):
            return f"{path}: {value!r} names no image: give a split and an index in it, such as train/5"
        case "string_pattern_mismatch" if path.endswith("device"):
            return f"{path}: {value!r} is none of auto, cpu, mps, cuda, cuda:N"
        case "value_error":
            message = str(problem["ctx"]["error"])
            return f"{path}: {message}" if path else message
        case _:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            return f"{path}: {'null' if value is None else repr(value)} is not allowed: {message}"


def _nearest(location: tuple[Any, ...]) -> str:
    meant = _meant(location)
    return f", did you mean {meant[0]!r}?" if meant else f"; known here: {', '.join(_known_keys(location[:-1]))}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys of the section at a path, found by walking the schema."""
    section: Any = Params
    for part in location:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[part].annotation
        else:
            section = next(a for a in get_args(section) if isinstance(a, type) and issubclass(a, BaseModel))
    return list(section.model_fields)

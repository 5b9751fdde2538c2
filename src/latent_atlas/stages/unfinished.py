"""What the page shows of a run that has failed half-way: the models that are there, and summaries of these alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from latent_atlas.data.sources import SHAPES
from latent_atlas.errors import LatentAtlasError
from latent_atlas.stages.explorer_summary import explorer_summary
from latent_atlas.stages.factors_summary import factors_summary
from latent_atlas.stages.geodesics_summary import geodesics_summary
from latent_atlas.stages.interpolate_summary import interpolate_summary
from latent_atlas.stages.invariance_summary import invariance_summary
from latent_atlas.stages.jacobian_summary import jacobian_summary
from latent_atlas.stages.known_answers import known_answers
from latent_atlas.stages.layers_summary import layers_summary
from latent_atlas.stages.reconstruct_summary import reconstruct_summary
from latent_atlas.stages.tangents_shared import tangents_shared
from latent_atlas.stages.tangents_summary import tangents_summary
from latent_atlas.stages.train_summary import train_summary
from latent_atlas.study.manifolds import networks, trained

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

T = TypeVar("T")
FAULTS = (LatentAtlasError, LookupError, ValueError)  # the last two of tables that do not fit together
KEPT = ("checkpoints", "pca", "explorer", "invariance_epochs")  # folders of results that no summary here is made in


class LeftOut(NamedTuple):
    """A section or model that the page lacks, why, and the command that makes the missing file, if there is one."""

    what: str
    why: str
    command: str | None


class Unfinished:
    """The results of a run that has failed half-way, as the page shows them: in a folder of links, which it may add to.

    Where models are left out, because they have no checkpoint, the summaries are made anew of those that are there.

    Parameters
    ----------
    params : Params
    results : Path
        The results of all stages, as far as there are any.
    aside : Path
        The folder of links; it must not exist.

    Attributes
    ----------
    params : Params
        Those of the models that are there.
    results : Path
        The folder of links.
    left_out : list of LeftOut
    """

    def __init__(self, params: Params, results: Path, aside: Path) -> None:
        self.left_out: list[LeftOut] = []
        self.params = self._without_failed(params, results / "checkpoints")
        self.changed = self.params != params
        self.before, self.results = results.resolve(), aside
        self._broken: dict[str, Exception] = {}  # of the stages whose summary could not be made

    def _without_failed(self, params: Params, checkpoints: Path) -> Params:
        """The parameters without the trainings and imported models that have no checkpoint; whole if none has one.

        The first training of a model has its name: without it, the others of the model are left out too.
        """
        there = {name: (checkpoints / f"{name}.safetensors").is_file() for name in networks(params)}
        models = {}
        for model, entry in params.models.items():
            own = {name: seed for name, (of, seed) in networks(params).items() if of == model}
            for name in own:
                if not there[name]:
                    file = f"results/checkpoints/{name}.safetensors"
                    self.left_out.append(LeftOut(name, f"{file} is missing", f"snakemake {file}"))
                elif not there[model]:
                    self.left_out.append(LeftOut(name, f"the first training of {model} is missing", None))
            if there[model]:
                seeds = [seed for name, seed in own.items() if there[name]]
                models[model] = entry if all(map(there.get, own)) else entry.model_copy(update={"seeds": seeds})
        return params.model_copy(update={"models": models}) if models else params

    def summarize(self, images: Path, folder: Path) -> None:
        """Link to the results, make the summaries of the models that are there, and the explorer beside the page."""
        params, at = self.params, self.results
        summaries: dict[str, Callable[[], None]] = {
            "train": lambda: train_summary(params, at / "train") if trained(params) else None,
            "reconstruct": lambda: reconstruct_summary(params, images, at / "reconstruct"),
            "interpolate": lambda: interpolate_summary(params, at / "interpolate"),
            "geodesics": lambda: geodesics_summary(params, at / "geodesics"),
            "layers": lambda: layers_summary(params, at / "layers"),
            "jacobian": lambda: jacobian_summary(params, at / "jacobian"),
            "tangents_shared": lambda: tangents_shared(
                params, at / "checkpoints", at / "train", images, at / "tangents_shared"
            ),
            "tangents": lambda: tangents_summary(params, at / "tangents_shared", at / "tangents"),
            "invariance": lambda: invariance_summary(
                params, at / "jacobian", at / "invariance_epochs", at / "invariance"
            ),
            "factors": lambda: factors_summary(params, at / "factors") if params.dataset.name == SHAPES else None,
            "known_answers": lambda: known_answers(params, at, images, at / "known_answers" / "summary.csv"),
        }
        for stage in (*KEPT, *summaries):
            if (self.before / stage).is_dir():
                anew = self.changed and stage not in KEPT
                shutil.copytree(
                    self.before / stage, at / stage, copy_function=os.symlink, ignore=self._of_all if anew else None
                )
        for stage, make in summaries.items() if self.changed else ():
            try:
                make()
            except FAULTS as error:
                self._broken[stage] = error
        self.attempt("Explorer", lambda: explorer_summary(params, at / "explorer", at / "geodesics", images, folder))

    def _of_all(self, stage: str, names: list[str]) -> list[str]:
        """The files of a folder of results that were made of all models."""
        return [name for name in names if Path(stage, name).is_file()] if Path(stage).parent == self.before else []

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """What ``make`` gives; where files are missing, damaged or of other parameters, it is left out."""
        try:
            return make()
        except FAULTS as error:
            self.left_out.append(LeftOut(what, *self._reason(error)))
        return None

    def _reason(self, error: Exception) -> tuple[str, str | None]:
        """Why, in words that name files as the study does, and the command that makes a missing file."""
        missing = error.__cause__
        name = (
            (missing.filename or str(missing)) if isinstance(missing, FileNotFoundError) else None
        )  # pyarrow has none
        if name and Path(name).is_relative_to(self.results):
            named = Path(name).relative_to(self.results)
            cause = self._broken.get(named.parts[0], error)
            if cause is not error:
                return self._reason(cause)
            return f"results/{named.as_posix()} is missing", f"snakemake results/{named.as_posix()}"
        if not isinstance(error, LatentAtlasError):
            return f"its tables do not fit params.yaml ({type(error).__name__}: {error}): run the workflow again", None
        return str(error).replace(f"{self.results}{os.sep}", "results/"), None

"""The models of a study: what ``params.yaml`` says of each, and which are trained here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latent_atlas.errors import ParamsError

if TYPE_CHECKING:
    from latent_atlas.study.schema import ModelParams, Params, TrainingParams


def entry_of(params: Params, model: str) -> ModelParams:
    """The entry of a model.

    Raises
    ------
    ParamsError
        If there is no such model.
    """
    if model not in params.models:
        raise ParamsError(f"params.yaml has no model {model!r}: it has {', '.join(params.models)}")
    return params.models[model]


def training_of(params: Params, model: str) -> TrainingParams:
    """The section ``training``, with the values that a model replaces."""
    own = entry_of(params, model).training.model_dump(exclude_none=True)
    if own.keys() & {"epochs", "steps"}:  # of which there is one
        own = {"epochs": None, "steps": None} | own
    return params.training.model_copy(update=own)


def architectures(params: Params) -> set[str]:
    """The architectures that the study names, which its checkpoints may therefore name."""
    return {model.architecture for model in params.models.values()}

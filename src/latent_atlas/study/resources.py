"""What each stage asks of a cluster: memory and time, from what its jobs were measured to take.

The measurements stand in ``workflow/resources.yaml``. A request is a multiple of them, and grows with each attempt, so
that a job that ran out of either is rescued by the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from latent_atlas.data.sources import expected
from latent_atlas.errors import ParamsError
from latent_atlas.study.manifolds import Member, manifolds, member, members
from latent_atlas.study.models import training_of
from latent_atlas.training.length import length

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

MEASURED = Path("workflow/resources.yaml")
TIME_FACTOR, MEMORY_FACTOR = 4, 1.5  # of a request to what was measured
OVERHEAD_MB = 500  # of the two Snakemakes that stand between a scheduler and a job
SHORTEST_MIN = 2
UNKNOWN = {"seconds": 300.0, "memory_mb": 1000.0}  # of a stage that was never measured
UNIT_IMAGES = 60_000
MEMORY_STEP_MB = 100


class Requests:
    """Requests of all stages of a study: called with a stage, it gives the ``resources`` of its rule.

    Parameters
    ----------
    measured : mapping of stage to {"seconds": ..., "memory_mb": ...}
        Seconds for a unit of work, as :func:`size` counts it; memory for a job. Without a measurement it is
        :data:`UNKNOWN`.
    params : Params
    """

    def __init__(self, measured: Mapping[str, Mapping[str, float]], params: Params) -> None:
        self.measured, self.params = measured, params
        self.training_images = images_of(params)
        self.members = members(params)

    def __call__(self, stage: str) -> dict[str, Callable[..., int]]:
        """``runtime`` in minutes and ``mem_mb`` of a job, as functions that Snakemake calls."""
        measured = self.measured.get(stage, UNKNOWN)

        def runtime(wildcards: Any, attempt: int) -> int:
            name = next(iter(wildcards), "")
            seconds = measured["seconds"] * size(stage, str(name), self.params, self.training_images, self.members)
            return attempt * max(SHORTEST_MIN, math.ceil(TIME_FACTOR * seconds / 60))

        def mem_mb(wildcards: Any, attempt: int) -> int:
            wanted = MEMORY_FACTOR * measured["memory_mb"] + OVERHEAD_MB
            return attempt * MEMORY_STEP_MB * math.ceil(wanted / MEMORY_STEP_MB)

        return {"runtime": runtime, "mem_mb": mem_mb}


def images_of(params: Params) -> int:
    """Number of training images; a guess where nothing is known of the dataset before it is here."""
    return expected(params.dataset.model_dump()).train or UNIT_IMAGES


def size(
    stage: str,
    name: str,
    params: Params,
    training_images: int | None = None,
    known: Mapping[str, Member] | None = None,
) -> float:
    """How many units of work a job is: epochs of 60,000 images, snapshots, manifolds of a comparison, else one.

    ``known``: all manifolds by name, for a caller that asks for many.
    """
    if stage in ("train", "invariance_epochs"):
        images = training_images or images_of(params)
        images = min(images, params.dataset.limit or images)
        found = known[name] if known and name in known else member(params, name)
        own = training_of(params, found.model)
        long = length(images, own.batch_size, own.epochs, own.steps, own.min_steps)
        if stage == "train":
            return long.steps / long.batches * images / UNIT_IMAGES
        return long.epochs / long.epochs_a_row
    return len(manifolds(params)) if stage.endswith("_summary") or stage in ("report", "tangents_shared") else 1


def read(path: Path = MEASURED) -> dict[str, dict[str, float]]:
    """Read the measurements.

    Raises
    ------
    ParamsError
        If the file is missing or not as it should be.
    """
    try:
        measured = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return {name: {key: float(entry[key]) for key in ("seconds", "memory_mb")} for name, entry in measured.items()}
    except FileNotFoundError as error:
        raise ParamsError(f"there is no {path}: git checkout {path}") from error
    except Exception as error:
        raise ParamsError(
            f"{path} must hold seconds and memory_mb for each stage; it cannot be read: {error}"
        ) from error

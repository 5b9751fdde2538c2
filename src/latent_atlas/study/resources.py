"""What each rule asks of a cluster: memory and time, from what its jobs were measured to take.

The measurements stand in ``workflow/resources.yaml``. A request is a multiple of them, and grows with each attempt, so
that a job that ran out of either is rescued by the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from latent_atlas.errors import ParamsError

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

MEASURED = Path("workflow/resources.yaml")
TIME_FACTOR, MEMORY_FACTOR = 4, 1.5  # of a request to what was measured
OVERHEAD_MB = 500  # of the two Snakemakes that stand between a scheduler and a job
SHORTEST_MIN = 2
UNIT_IMAGES = 60_000
TRAINING_IMAGES = {"CIFAR10": 50_000, "digits": 1_500}  # of the datasets that have another number
MEMORY_STEP_MB = 100


class Requests:
    """Requests of all rules of a study.

    Parameters
    ----------
    measured : mapping of rule to {"seconds": ..., "memory_mb": ...}
        Seconds for a unit of work, as :func:`size` counts it; memory for a job.
    params : Params
    """

    def __init__(self, measured: Mapping[str, Mapping[str, float]], params: Params) -> None:
        self.measured, self.params = measured, params

    def runtime(self, rule: str) -> Callable[..., int]:
        """Minutes for a job of a rule, as a function that Snakemake calls."""

        def minutes(wildcards: Any, attempt: int) -> int:
            name = next(iter(wildcards), "")
            seconds = self._measured(rule)["seconds"] * size(rule, str(name), self.params)
            return attempt * max(SHORTEST_MIN, math.ceil(TIME_FACTOR * seconds / 60))

        return minutes

    def mem_mb(self, rule: str) -> Callable[..., int]:
        """Megabytes for a job of a rule, as a function that Snakemake calls."""

        def megabytes(wildcards: Any, attempt: int) -> int:
            wanted = MEMORY_FACTOR * self._measured(rule)["memory_mb"] + OVERHEAD_MB
            return attempt * MEMORY_STEP_MB * math.ceil(wanted / MEMORY_STEP_MB)

        return megabytes

    def _measured(self, rule: str) -> Mapping[str, float]:
        if rule not in self.measured:
            raise ParamsError(f"{MEASURED} has no rule {rule!r}: add the seconds and memory_mb that a job of it takes")
        return self.measured[rule]


def size(rule: str, name: str, params: Params) -> float:
    """How many units of work a job is: epochs of 60,000 images, snapshots, manifolds of a comparison, else one."""
    if rule == "train":
        images = TRAINING_IMAGES.get(params.dataset.name, UNIT_IMAGES)
        return params.training_of(name).epochs * min(images, params.dataset.limit or images) / UNIT_IMAGES
    if rule == "invariance_epochs":
        return params.training_of(name).epochs
    return len(params.manifolds) if rule.endswith("_summary") or rule == "report" else 1


def read(path: Path = MEASURED) -> dict[str, dict[str, float]]:
    """Read the measurements.

    Raises
    ------
    ParamsError
        If the file is missing or not as it should be.
    """
    try:
        measured = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return {rule: {key: float(entry[key]) for key in ("seconds", "memory_mb")} for rule, entry in measured.items()}
    except FileNotFoundError as error:
        raise ParamsError(f"there is no {path}: git checkout {path}") from error
    except Exception as error:
        raise ParamsError(
            f"{path} must hold seconds and memory_mb for each rule; it cannot be read: {error}"
        ) from error

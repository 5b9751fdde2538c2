"""The jobs of the small study of ``repository.py``, one of each rule, to be disturbed."""

from __future__ import annotations

import shlex
from pathlib import Path

from ruamel.yaml import YAML

JOBS = (
    "explorer-fc4", "explorer_summary", "fetch", "geodesics-fc4", "geodesics_summary", "interpolate-fc4",
    "interpolate_pixels", "interpolate_summary", "invariance-fc4", "invariance_epochs-fc4", "invariance_summary",
    "jacobian-fc4", "jacobian_summary", "known_answers", "layers-fc4", "layers_summary", "pca", "reconstruct-fc4",
    "reconstruct_summary", "report", "tangents-fc4", "tangents_shared", "tangents_summary", "train-fc4",
    "train_summary",
)  # fmt: skip


def command(root: Path, job: str) -> tuple[list[str], list[str]]:
    """The words of a job's command, and its outputs, as ``dvc.yaml`` in a folder has them."""
    stage = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][job]
    outs = [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]]
    return shlex.split(stage["cmd"].partition("; ")[2]), outs

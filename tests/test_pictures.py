"""The pictures of the documentation are those of the committed results, or of the benchmarks."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PICTURES = {
    "comparison.png": "results/reconstruct/test_comparison.png",
    "angles.png": "results/invariance/angles_pullover.png",
}
OF_BENCHMARKS = {"growth.png", "scale.png", "speed.png"}


@pytest.mark.parametrize("picture", PICTURES)
def test_is_an_output_of_the_pipeline(picture: str) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outputs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    content = (ROOT / "docs" / "pictures" / picture).read_bytes()
    assert hashlib.md5(content).hexdigest() == outputs[PICTURES[picture]], (
        f"cp {PICTURES[picture]} docs/pictures/{picture}"
    )


def test_every_picture_is_checked() -> None:
    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} == PICTURES.keys() | OF_BENCHMARKS

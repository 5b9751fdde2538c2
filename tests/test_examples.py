"""The examples: the commands of each README, as they stand there, in a copy of its folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT

EXAMPLES = ROOT / "examples"


def followed(example: str, folder: Path) -> str:
    """What the commands of a README say, and the Python after them; run in a folder with the example's files."""
    shutil.copytree(EXAMPLES / example, folder, dirs_exist_ok=True)
    blocks = dict(re.findall(r"```(bash|python)\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.DOTALL))
    (folder / "after.py").write_text(blocks.get("python", ""))
    after = f"cd {shlex.quote(str(folder))} && python after.py"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    script = f"{blocks['bash']}\n{after}"
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_a_readme_and_a_test_for_each() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert folders == {"own_images", "pretrained_decoder", "vae"}
    assert all((EXAMPLES / name / "README.md").is_file() for name in folders)


def test_vae(tmp_path: Path) -> None:
    said = followed("vae", tmp_path)
    error = re.search(r"mean squared error of a pixel: (0\.\d+)", said)
    assert error is not None
    assert float(error.group(1)) < 0.05  # the mean image has 0.07
    assert "rank 4 to 4 of 4 at 297 images" in said
    assert len(re.findall(r"^(?:rotation|shift_x|brightness) +\d+\.\d$", said, re.MULTILINE)) == 3


@pytest.mark.engines
@pytest.mark.parametrize(
    ("example", "results", "model"),
    [("own_images", "study/results", "mine16"), ("pretrained_decoder", "results", "generator")],
)
def test_whole_study(example: str, results: str, model: str, tmp_path: Path) -> None:
    followed(example, tmp_path)
    assert (tmp_path / results / "report" / "index.html").stat().st_size > 10_000
    table = pd.read_csv(tmp_path / results / "reconstruct" / "summary.csv").set_index(["manifold", "split"])["mse"]
    assert 0 < table[model, "test"] < 0.05
    angles = pd.read_parquet(tmp_path / results / "jacobian" / model / "angles.parquet")
    assert angles["angle_deg"].between(0, 90).all()

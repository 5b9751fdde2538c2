"""report --partial: a page of a run that failed half-way, which names what it lacks."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from support import Study

from latent_atlas.report.findings import said

FAILED = {"architecture": "fully_connected", "latent_dim": 3, "training": {"peak_learning_rate": 1e30}}
TITLES = [
    "Overview", "Reconstruction", "Invariance angles", "Shared tangent spaces", "Jacobians and ranks", "Layers",
    "Tangent vectors", "Interpolation", "Geodesics", "Training", "PCA, the linear baseline",
]  # fmt: skip


def write(study: Study, *options: str, folder: str = "partial") -> Result:
    """``latent-atlas report`` into a folder of its own."""
    return study.run("report", "--results", "results", "--images", "data/images.safetensors", "--folder", folder,
                     "--origins", ".latent-atlas/origins.json", *options)  # fmt: skip


def content(study: Study, folder: str = "partial") -> dict[str, Any]:
    """What the page is rendered from."""
    found: dict[str, Any] = json.loads((study.folder / folder / "data.json").read_text("utf-8"))
    return found


def checksums(folder: Path) -> dict[str, str]:
    """Of all files in a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def half(finished: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of which one of three trainings fails, run as far as it goes.

    What does not depend on that training is copied from a study without it.
    """
    study = Study(shutil.copytree(finished.folder, tmp_path_factory.mktemp("half") / "study"))
    study.edit("models.fc3", FAILED)
    planned = study.snakemake("--dry-run", "--quiet", "host")
    outputs = re.findall(r"^ +output: (.+)$", planned.stdout + planned.stderr, flags=re.MULTILINE)
    assert any("results/jacobian/summary.csv" in each for each in outputs)
    for file in ", ".join(outputs).split(", "):
        (study.folder / file).unlink(missing_ok=True)
    done = study.snakemake("--keep-going")
    assert done.returncode != 0
    assert "train fc3" in done.stdout + done.stderr
    results = study.folder / "results"
    assert (results / "jacobian" / "fc4" / "spectra.parquet").is_file()
    assert not (results / "jacobian" / "summary.csv").exists()
    return study


class TestHalfFailed:
    """One training of three failed: there is no summary, and all else of the other two."""

    def test_strict_page_is_an_error(self, half: Study) -> None:
        for options in ([], ["--no-partial"]):
            done = write(half, *options, folder="strict")
            assert done.exit_code == 1
            assert "[report] error: results/" in done.stderr
        assert not (half.folder / "strict" / "index.html").exists()

    def test_page_is_of_the_models_that_are_there(self, half: Study) -> None:
        results = half.folder / "results"
        before = checksums(results)
        done = write(half, "--partial")
        assert done.exit_code == 0, done.output
        assert checksums(results) == before
        made = content(half)
        file = "results/checkpoints/fc3.safetensors"
        assert made["left_out"] == [{"what": "fc3", "why": f"{file} is missing", "command": f"snakemake {file}"}]
        page = (half.folder / "partial" / "index.html").read_text("utf-8")
        assert f"<li>fc3: {file} is missing. This makes it: <code>snakemake {file}</code></li>" in page
        assert [section["title"] for section in made["sections"]] == TITLES
        assert [answer["about"] for answer in made["answers"]] == ["Reconstruction", "Immersion", "Invariance"]
        assert "2 autoencoders" in made["question"]
        errors = made["sections"][0]["tables"][0]
        found = {row[0]["text"]: row[errors["columns"].index("error")]["value"] for row in errors["rows"]}
        assert found.keys() == {"fc2", "fc4", "pca2"}
        for name, value in found.items():
            each = pd.read_parquet(results / "reconstruct" / name / "errors.parquet")
            assert value == pytest.approx(each[each["example"].isna()]["mse"].mean())
        assert not any("fc3" in said(sentence) for section in made["sections"] for sentence in section["sentences"])
        shown = [each for section in made["sections"] for each in section["pictures"] + section["folded"]]
        assert all((half.folder / "partial" / each["webp"]).is_file() for each in shown)
        # what was computed for the page is told apart from what the workflow made
        assert {each["file"].split("/")[0] for each in shown if "here" not in each} == {"pca", "tangents"}
        assert made["explorer"]
        sample = (half.folder / "partial" / "explorer" / "sample.js").read_text("utf-8")
        assert '"fc4"' in sample
        assert '"fc3"' not in sample

    def test_further_damage_is_told_of_the_file_itself(self, half: Study) -> None:
        lost, cut = (half.folder / "results" / name for name in ("layers/fc4/spectra.csv", "train/fc2/curve.csv"))
        kept = {file: file.read_bytes() for file in (lost, cut)}
        lost.unlink()
        cut.write_bytes(b'"\n1,2')
        try:
            done = write(half, "--partial")
        finally:
            for file, data in kept.items():
                file.write_bytes(data)
        assert done.exit_code == 0, done.output
        left = {line["what"]: line for line in content(half)["left_out"]}
        assert left["Layers"]["why"] == "results/layers/fc4/spectra.csv is missing"
        assert left["Layers"]["command"] == "snakemake results/layers/fc4/spectra.csv"
        assert left["Training"]["why"].startswith("results/train/fc2/curve.csv is damaged: ")
        assert left["Training"]["command"] is None
        assert left.keys() == {
            "fc3",
            "Layers",
            "Training",
            "Jacobians and ranks",
        }  # the last tells of verdicts on layers

    def test_first_training_is_missing(self, half: Study) -> None:
        with half.edited("seeds", 2):  # of none of which the second training is there
            done = write(half, "--partial", folder="seeds")
            assert done.exit_code == 0, done.output
        left = [line["what"] for line in content(half, "seeds")["left_out"]]
        assert left == ["fc2_seed1", "fc4_seed1", "fc3", "fc3_seed1"]
        assert [section["title"] for section in content(half, "seeds")["sections"]] == TITLES


class TestFinished:
    """All models are there."""

    def test_whole_page_is_the_same(self, finished: Study) -> None:
        done = write(finished, "--partial", folder="results/report")
        assert done.exit_code == 0, done.output
        again = finished.folder / "again"
        assert write(finished, folder="again").exit_code == 0
        for name in ("index.html", "data.json"):
            assert (again / name).read_bytes() == (finished.folder / "results/report" / name).read_bytes()

    def test_sections_are_left_out_and_the_command_makes_the_file(self, finished: Study) -> None:
        results = finished.folder / "results"
        lost, cut = results / "jacobian" / "summary.csv", results / "geodesics" / "gains.png"
        before = cut.read_bytes()
        lost.unlink()
        cut.write_bytes(before[: len(before) // 2])
        assert write(finished, folder="strict").exit_code == 1
        done = write(finished, "--partial")
        assert done.exit_code == 0, done.output
        made = content(finished)
        first, second = made["left_out"]
        assert first == {
            "what": "Jacobians and ranks",
            "why": "results/jacobian/summary.csv is missing",
            "command": "snakemake results/jacobian/summary.csv",
        }
        assert (second["what"], second["command"]) == ("Geodesics", None)
        assert second["why"].startswith("results/geodesics/gains.png is damaged: it is no readable picture (")
        titles = [section["title"] for section in made["sections"]]
        assert titles == [title for title in TITLES if title not in ("Jacobians and ranks", "Geodesics")]
        assert [answer["about"] for answer in made["answers"]] == ["Reconstruction", "Invariance"]
        again = finished.snakemake(*first["command"].split()[1:])
        assert again.returncode == 0, again.stderr
        assert lost.is_file()
        cut.write_bytes(before)

    def test_tables_of_other_models(self, finished: Study) -> None:
        """As an earlier run leaves them, where a model was added and one of its later jobs failed."""
        checkpoints = finished.folder / "results" / "checkpoints"
        (checkpoints / "new.safetensors").write_bytes((checkpoints / "fc4.safetensors").read_bytes())
        with finished.edited("models.new", {"architecture": "fully_connected", "latent_dim": 4}):
            done = write(finished, "--partial", folder="other")
        (checkpoints / "new.safetensors").unlink()
        assert done.exit_code == 0, done.output
        left = {line["what"]: line["why"] for line in content(finished, "other")["left_out"]}
        assert left["Overview"].startswith("its tables do not fit params.yaml (")
        assert "results/tangents/new/singular_vectors.png is missing" in left["Tangent vectors"]


def test_nothing_but_images(finished: Study, study: Study) -> None:
    (study.folder / "data").mkdir()
    (study.folder / "data" / "images.safetensors").symlink_to(finished.folder / "data" / "images.safetensors")
    done = study.run("report", "--partial", "--results", "results", "--images", "data/images.safetensors",
                     "--folder", "partial")  # fmt: skip
    assert done.exit_code == 0, done.output
    made = content(study)
    assert (made["sections"], made["answers"], made["explorer"]) == ([], [], False)
    assert [line["what"] for line in made["left_out"]][:2] == ["fc2", "fc4"]
    assert "explorer.html" not in (study.folder / "partial" / "index.html").read_text("utf-8")

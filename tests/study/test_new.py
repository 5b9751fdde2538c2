"""new and run: a study outside the repository, run by the installed package."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from click.testing import CliRunner, Result
from PIL import Image
from repository import Repository
from ruamel.yaml import YAML
from support import ROOT

from latent_atlas.study.new import new
from latent_atlas.study.schema import load
from latent_atlas.study.sources import dataset_files
from latent_atlas.study.templates.my_model import Net


def make(*arguments: object) -> Result:
    """``latent-atlas new`` in this process, without the user's settings of git."""
    return CliRunner(env={"HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}).invoke(new, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def _warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC begins in an interpreter that has loaded it."""
    if warm.POSSIBLE:
        monkeypatch.setattr("sys.executable", str(warm.tools() / "python"))


@pytest.fixture
def study(tmp_path: Path) -> Repository:
    """A new study, in a folder whose name needs quotes, of digits and of one small model."""
    folder = tmp_path / "my (first) study's"
    done = make(folder)
    assert done.exit_code == 0, done.output
    assert "put your images into" in done.stdout
    return Repository(folder)


def small(values: dict[str, Any]) -> None:
    """Digits in place of images, few of them, and few of everything."""
    values["dataset"] = {"name": "digits", "limit": 100}
    values["models"]["mine16"] = {"architecture": "my_model:Net", "latent_dim": 2, "options": {"widths": [4]}}
    values["training"].update(epochs=1, snapshot_every=1)
    values["pca"]["latent_dims"] = [2]
    values["sample"]["size"] = 5
    values["interpolate"]["steps"] = 8
    values["invariance"]["transformations"] = {"rotation": {"step": 1.0}, "shift_x": {"step": 1.0}}


@pytest.mark.parametrize(("mode", "colour", "found"), [("L", 90, "grey"), ("RGB", (90, 90, 90), "grey"),
                                                       ("RGB", (90, 91, 90), "rgb")])  # fmt: skip
def test_colour_is_that_of_the_pictures(mode: str, colour: Any, found: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for number in range(3):
        Image.new(mode, (12, 12), colour).save(tmp_path / "mine" / f"{number}.png")
    done = make(tmp_path / "study", "--images", tmp_path / "mine")
    assert done.exit_code == 0, done.output
    dataset = YAML(typ="safe").load(tmp_path / "study" / "params.yaml")["dataset"]
    assert (dataset["colour"], dataset["size"]) == (found, 12)


def test_missing_images_are_named_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = make("study", "--images", "mine")
    assert done.exit_code
    assert f"there are no images at mine ({tmp_path / 'mine'}): name a folder" in done.output


class TestFolder:
    """What ``new`` makes."""

    def test_is_under_git_and_dvc_without_the_images_and_results(self, study: Repository) -> None:
        for ignored in ("images/a.png", "data/images.safetensors", "results/train/mine16/curve.csv", "logs/fetch.log"):
            assert study.run("git", "check-ignore", ignored, check=False).returncode == 0
        study.run("git", "add", "--all")
        tracked = set(study.run("git", "ls-files").stdout.split())
        assert {".dvc/config", ".gitignore", "Snakefile", "my_model.py", "params.yaml"} <= tracked
        assert {"profiles/default/config.yaml", "profiles/slurm/config.yaml"} <= tracked
        assert not any("__" in file for file in tracked)

    def test_other_than_empty_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").touch()
        for folder in (tmp_path, tmp_path / "thesis.tex"):
            done = make(folder)
            assert done.exit_code == 1
            assert f"{folder} exists and is not an empty folder: choose another name" in done.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_empty_folder_is_taken(self, tmp_path: Path) -> None:
        assert make(tmp_path).exit_code == 0
        assert (tmp_path / "params.yaml").is_file()

    @pytest.mark.parametrize(
        ("given", "written"),
        [
            ("photos", "../photos"),
            ("photos/*.png", "../photos/*.png"),
            ('a "b" ü/**/*.png', '../a "b" ü/**/*.png'),
            ("{here}/photos", "{here}/photos"),
        ],
    )
    def test_images_are_named_from_the_study(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, written: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("photos", 'a "b" ü'):
            (tmp_path / name).mkdir()
            for number in range(42):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
        assert make("study", "--images", given.format(here=tmp_path)).exit_code == 0
        values = YAML(typ="safe").load((tmp_path / "study" / "params.yaml").read_text(encoding="utf-8"))
        assert values["dataset"]["images"] == written.format(here=tmp_path)
        assert (values["dataset"]["size"], values["sample"]["size"]) == (8, None)  # of these images
        monkeypatch.chdir(tmp_path / "study")
        assert len(dataset_files(load("params.yaml").dataset)) == 42
        assert not (tmp_path / "study" / "images").exists()

    def test_no_images_are_said_so(self, tmp_path: Path) -> None:
        done = make(tmp_path / "study", "--images", tmp_path / "fotos")
        assert done.exit_code == 1
        assert f"there are no images at {tmp_path}/fotos" in done.stderr
        assert not (tmp_path / "study").exists()

    def test_files_that_are_no_pictures_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "make.py").write_text("pass")
        done = make(tmp_path / "study", "--images", tmp_path / "make.py")
        assert done.exit_code == 1
        assert "can be read as a picture (make.py): name a folder of pictures" in done.stderr
        assert not (tmp_path / "study").exists()

    def test_what_was_found_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        for number in range(3):
            Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
        assert (
            "is ready, for 3 files, 8x6 pixels, rgb."
            in make(tmp_path / "study", "--images", tmp_path / "photos").stdout
        )


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 28, 28), (3, 17, 30), (1, 1, 5)])
def test_model_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    model = Net(shape, 3).eval()
    x = torch.rand(2, *shape)
    assert model.encoder(x).shape == (2, 3)
    assert model(x).shape == x.shape


def test_plan_and_stand_ins(study: Repository) -> None:
    study.edit_params(small)
    assert {"fetch", "train-mine16", "report"} <= study.stale_for_snakemake()
    assert "my_model.py" in study.run("snakemake", "-n", "--quiet", "host").stdout
    done = study.run("latent-atlas", "run", "results/checkpoints/mine16.safetensors", "-n")
    assert "versioned" not in done.stderr
    assert "training/objectives/mse.py" in (study.root / ".latent-atlas" / "objectives.mse.md5").read_text()
    study.run("latent-atlas", "pipeline")
    assert "report" in study.stages()


def test_rule_of_ones_own_is_asked_for(study: Repository) -> None:
    study.edit_params(small)
    rule = 'rule count:\n    output: "results/count/summary.csv"\n    shell: "touch {output}"\n\n\nrule study:'
    study.replace("Snakefile", "rule study:", rule)
    assert "count" in study.stale_for_snakemake()


def test_folder_without_a_snakefile_is_run_by_that_of_the_package(study: Repository) -> None:
    study.edit_params(small)
    (study.root / "Snakefile").unlink()
    done = study.run("latent-atlas", "run", "--cores", "1", "data/images.safetensors")
    assert (study.root / "data" / "images.safetensors").is_file()
    assert "the Snakefile is in" in done.stderr
    assert "nothing is versioned, all else works" in done.stderr


def test_wheel_brings_the_pipeline(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "Snakefile"):
        shutil.copy(ROOT / name, source)
    for name in ("src", "workflow", "profiles"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    # by way of the source archive, as from PyPI
    build = [warm.PYTHON, "-m", "build", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def run(*command: str, folder: Path = tmp_path) -> str:
        command = (warm.PYTHON, "-m", *command)
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("latent_atlas.cli", "snakefile").strip() == str(site / "latent_atlas" / "pipeline" / "Snakefile")
    run("latent_atlas.cli", "new", "study")
    repository = Repository(tmp_path / "study")
    repository.edit_params(small)
    assert "train" in run("latent_atlas.cli", "run", "-n", "--quiet", "host", folder=repository.root)


@pytest.mark.engines
def test_whole_study_is_versioned(study: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import latent_atlas

    study.edit_params(small)
    study.run("git", "config", "user.email", "test@example.org")
    study.run("git", "config", "user.name", "test")
    study.snakemake()
    assert (study.root / "results" / "report" / "index.html").stat().st_size > 10_000
    assert study.stale() == set()
    study.commit("results")
    monkeypatch.syspath_prepend(study.root)  # where my_model is
    surface = latent_atlas.load("mine16", repository=str(study.root), revision="HEAD", trust={"my_model:Net"})
    assert surface.latent_dim == 2
    study.run("dvc", "remote", "add", "--default", "lab", str(tmp_path / "remote"))
    study.run("dvc", "push")
    study.commit("remote")
    other = study.clone(tmp_path / "clone")
    other.run("dvc", "pull")
    assert other.stale() == set()
    (other.root / "my_model.py").write_text((other.root / "my_model.py").read_text() + "# edited\n")
    assert "train-mine16" in other.stale()
    stand_in = study.root / ".latent-atlas" / "stages.jacobian.md5"
    stand_in.write_text(stand_in.read_text().replace("0", "1"))  # as by another version of the package
    assert "jacobian-mine16" in study.stale_for_dvc()
    assert study.stale() == set()  # written anew by what is installed here

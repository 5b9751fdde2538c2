"""Where nothing is versioned, one sentence says so, and the workflow runs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import Study, process

from latent_atlas.versioning import attach, engine

ATTACH = """
from types import SimpleNamespace
from latent_atlas.cluster import gpus
from latent_atlas.versioning import attach
attach(SimpleNamespace(is_main_process=True), "missing.yaml")
gpus.attach(SimpleNamespace(is_main_process=True))
"""


@pytest.mark.parametrize(("version", "switch"), [("1.0", "on"), (engine.TESTED_VERSIONS[0], "off")])
def test_stands_aside(monkeypatch: pytest.MonkeyPatch, version: str, switch: str) -> None:
    said: list[str] = []
    monkeypatch.setattr("snakemake.__version__", version)
    monkeypatch.setattr(engine, "workflow_log", said.append)
    monkeypatch.setenv("LATENT_ATLAS_VERSIONING", switch)
    attach(SimpleNamespace(is_main_process=True), "missing.yaml")  # touches nothing of the workflow
    assert len(said) == 1
    assert "nothing is versioned" in said[0]


@pytest.mark.parametrize("version", ["10.0.0", engine.TESTED_VERSIONS[0]])
def test_snakemake_without_the_private_parts(tmp_path: Path, version: str) -> None:
    package = tmp_path / "snakemake"
    package.mkdir()
    (package / "__init__.py").write_text(f"__version__ = '{version}'\n")
    (package / "exceptions.py").write_text("class WorkflowError(Exception): ...\n")
    (package / "logging.py").write_text("from types import SimpleNamespace\nlogger = SimpleNamespace(info=print)\n")
    source = Path(engine.__file__).parents[2]
    done = process([sys.executable, "-c", ATTACH], tmp_path, PYTHONPATH=f"{tmp_path}:{source}")
    assert done.returncode == 0, done.stderr
    said, of_gpus = done.stdout.splitlines()
    assert "no GPUs are counted, SLURM is not asked" in of_gpus
    assert "nothing is versioned, all else works" in said
    assert (version if version not in engine.TESTED_VERSIONS else "snakemake.io") in said


def test_study_in_another_folder_than_the_snakefile(study: Study) -> None:
    process(["git", "init", "--quiet"], study.folder)
    (study.folder / ".dvc").mkdir()
    done = study.snakemake("data/images.safetensors", cold=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("nothing is versioned, all else works") == 1
    assert f"not in {study.folder}" in said
    assert (study.folder / "data" / "images.safetensors").exists()
    assert not (study.folder / "dvc.yaml").exists()

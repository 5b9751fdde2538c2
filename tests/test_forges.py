"""Files that forges and registries read: continuous integration, the image, the description of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from support import ROOT


def document(path: str) -> Any:
    """A YAML file of the project."""
    return YAML(typ="safe").load(ROOT / path)


def commands(path: str) -> list[str]:
    """The commands that the only job of a forge's file runs."""
    found = document(path)
    if path == ".gitlab-ci.yml":
        return [*found["ci"]["before_script"], *found["ci"]["script"]]
    return [step["run"] for step in found["jobs"]["ci"]["steps"] if "run" in step]


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".gitlab-ci.yml"])
def test_forges_run_what_ci_runs(path: str) -> None:
    assert commands(path)[-1] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_targets_of_make_that_are_called_exist() -> None:
    called = re.findall(r"\bmake (test-\w+|\w+)", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert {"check", "test"} <= {*called}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert [target for target in called if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_the_image_copies_files_that_are_there_and_not_ignored() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()}
    assert {"requirements.lock", "Snakefile", "src", "workflow"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert copied == kept


def test_the_catalogue_of_workflows_is_told_what_there_is() -> None:
    usage = document(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["report"]
    assert any((ROOT / "workflow" / "report").rglob("*.rst"))
    assert "make install" in usage["mandatory-flags"]["desc"]
    assert (ROOT / "config" / "README.md").exists()


@pytest.mark.parametrize("repository", [None, "https://example.org/our/atlas"])
def test_the_description_of_the_package_has_no_relative_link(tmp_path: Path, repository: str | None) -> None:
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "src" / "latent_atlas").mkdir(parents=True)
    if repository:
        with (tmp_path / "pyproject.toml").open("a") as file:
            file.write(f'\n[project.urls]\nRepository = "{repository}"\n')
    build = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    metadata = message_from_string((tmp_path / done.stdout.split()[-1] / "METADATA").read_text("utf-8"))
    assert metadata["Author"] == "The Latent Atlas authors"
    assert metadata.get_all("Project-URL") == ([f"Repository, {repository}"] if repository else None)
    text = str(metadata.get_payload())
    assert "# Latent Atlas" in text
    assert "Measure a whole dataset" in text
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", text)
    start = f"{repository}/" if repository else "https://"
    assert [link for _, link in links if not link.startswith(start)] == []
    pictures = {link for mark, link in links if mark}
    names = ("comparison", "angles")
    assert pictures == ({f"{repository}/raw/HEAD/docs/pictures/{name}.png" for name in names} if repository else set())

"""Snakemake's own report: what is in it, under which names, and with which captions."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings
from support import ROOT, Study

CAPTIONS = ROOT / "workflow" / "report"
IN_GIT = YAML(typ="safe").load(ROOT / "workflow" / "versioning.yaml")["in_git"]


def belongs(file: str, files: set[str]) -> bool:
    """Whether the report shall show a file: each figure once, as SVG if there is one, and the tables that git holds."""
    if file.startswith("results/report/"):
        return False
    single = file.endswith(".png") and file.removesuffix(".png") + ".svg" not in files
    return single or file.endswith(".svg") or (file.endswith(".csv") and any(Path(file).match(each) for each in IN_GIT))


def flags(study: Study) -> dict[str, Any]:
    """Of each output of each rule, what it is flagged with for the report; None if it is not."""
    with pytest.MonkeyPatch.context() as patch, SnakemakeApi(OutputSettings()) as api:
        patch.setenv("PATH", os.environ["PATH"])  # the Snakefile adds to these
        patch.setattr(sys, "path", sys.path[:])
        workflow = api.workflow(ResourceSettings(), snakefile=ROOT / "Snakefile", workdir=study.folder)._workflow
        return {str(file): file.flags.get("report") for rule in workflow.rules for file in rule.output}


@pytest.mark.parametrize("dataset", ["digits", "shapes"])
def test_every_figure_and_table_has_a_caption_a_category_and_labels(study: Study, dataset: str) -> None:
    study.edit("dataset.name", dataset)
    found = flags(study)
    wanted = {file for file in found if belongs(file, set(found))}
    assert len(wanted) > 40
    assert wanted <= {file for file, flag in found.items() if flag}
    rows = defaultdict(list)
    for flag in filter(None, found.values()):
        caption = Path(flag.caption.get_path_or_uri(secret_free=True)).resolve()
        assert CAPTIONS in caption.parents
        assert len(caption.read_text().split()) > 8
        assert flag.category
        rows[flag.category, flag.subcategory].append(tuple(flag.labels.items()))
    assert {subcategory for _, subcategory in rows} == {"Figures", "Tables"}
    for labels in rows.values():  # of two results with the same labels the report lists one only
        assert len(labels) == len(set(labels))


def test_every_caption_is_used(study: Study) -> None:
    study.edit("dataset.name", "shapes")
    used = {Path(flag.caption.get_path_or_uri(secret_free=True)).resolve() for flag in flags(study).values() if flag}
    assert {*CAPTIONS.rglob("*.rst")} - used == {CAPTIONS / "page.rst", CAPTIONS / "workflow.rst"}


def test_the_report_of_a_run(finished: Study) -> None:
    done = finished.snakemake("--report", "report.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(finished.folder / "report.zip") as archive:
        names = set(archive.namelist())
        text = archive.read("report/report.html").decode()
    shown, categories = (
        json.loads(text.partition(f'<script id="{name}">\n    var {name} = ')[2].partition(";\n")[0])
        for name in ("results", "categories")
    )
    results = finished.folder / "results"
    files = {str(path.relative_to(finished.folder)) for path in results.rglob("*.*") if path.is_file()}
    missing = {file for file in files if belongs(file, files)} - {*shown}
    assert missing == set()
    for entry in shown.values():
        assert "<p>" in entry["caption"]
        assert "{{" not in entry["caption"]
        assert entry["labels"]
        assert f"report/{entry['data_uri']}" in names
    assert not {"Other", ""} & {*categories, *(name for each in categories.values() for name in each)}
    assert "Jacobian of fc4" in shown["results/tangents/fc4/columns.png"]["caption"]
    page = f"report/{shown['results/report/index.html']['data_uri']}"
    beside = {str(path.relative_to(results / "report")) for path in (results / "report").rglob("*.*") if path.is_file()}
    assert {str(Path(page).parent / file) for file in beside} <= names
    assert "Missing metadata" not in done.stdout + done.stderr

"""Versioning stands almost alone, so that any Snakefile can attach it."""

from __future__ import annotations

import subprocess
import sys

import grimp

PACKAGE = "latent_atlas.versioning"


def test_versioning_imports_only_how_files_are_written() -> None:
    graph = grimp.build_graph("latent_atlas", cache_dir=None)
    modules = {PACKAGE, *graph.find_descendants(PACKAGE)}
    assert f"{PACKAGE}.engine" in modules
    imported = {found for module in modules for found in graph.find_modules_directly_imported_by(module)}
    assert imported - modules == {"latent_atlas.files", "latent_atlas.errors"}


def test_import_of_attach_is_cheap() -> None:
    code = f"import sys; from {PACKAGE} import attach; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"snakemake", "dvc", "ruamel.yaml", "click"} & set(done.stdout.split())

"""Layers of the source: the core stands on its own."""

from __future__ import annotations

import sys

import grimp
import pytest

CORE = "latent_atlas.core"
ALLOWED = {"torch", "numpy", "scipy", "sklearn", "pandas", "safetensors"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, other packages and the standard library included, imports for type checkers as well."""
    return grimp.build_graph("latent_atlas", include_external_packages=True, cache_dir=None)


@pytest.fixture(scope="module")
def core(graph: grimp.ImportGraph) -> set[str]:
    """The modules of the core."""
    return {CORE, *graph.find_descendants(CORE)}


def test_core_imports_nothing_of_the_package_around_it(graph: grimp.ImportGraph, core: set[str]) -> None:
    assert {f"{CORE}.training", f"{CORE}.models.registry", f"{CORE}.manifold"} <= core
    outside = {
        (importer, imported)
        for importer in core
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith("latent_atlas") and imported not in core
    }
    assert outside == set()


def test_core_imports_few_packages(graph: grimp.ImportGraph, core: set[str]) -> None:
    packages = {
        imported.partition(".")[0]
        for importer in core
        for imported in graph.find_modules_directly_imported_by(importer)
        if not imported.startswith("latent_atlas")
    }
    assert {"torch", "numpy", "json"} <= packages  # the graph does see them
    assert packages - ALLOWED - sys.stdlib_module_names == set()


def test_nothing_in_the_package_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    assert graph.find_modules_that_directly_import("latent_atlas.cli") == set()


def test_stages_know_nothing_of_the_engines_that_call_them(graph: grimp.ImportGraph) -> None:
    stages = graph.find_children("latent_atlas.stages")
    assert {"latent_atlas.stages.fetch", "latent_atlas.stages.report"} <= stages
    needed = {module.partition(".")[0] for stage in stages for module in graph.find_upstream_modules(stage)}
    assert "torch" in needed
    assert not {"snakemake", "dvc", "grimp"} & needed
    assert graph.find_downstream_modules("latent_atlas.workflow") & stages == set()

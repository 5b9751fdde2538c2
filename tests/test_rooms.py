"""Rooms of the source: data flows one way, and the library stands alone."""

from __future__ import annotations

import sys

import grimp
import pytest

PACKAGE = "latent_atlas"
ALLOWED = {"torch", "numpy", "scipy", "pandas", "safetensors"}
GROUND = ("errors", "files", "imports", "kernels")
LIBRARY = ("data", "models", "training", "geometry", "statistics")
WORKFLOW = ("stages", "report", "study", "cluster", "versioning")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom, other packages and the standard library included, imports for type checkers as well."""
    return grimp.build_graph(PACKAGE, include_external_packages=True, cache_dir=None)


def modules(graph: grimp.ImportGraph, room: str) -> set[str]:
    """A room: a folder with all that lies in it, or a file."""
    return {f"{PACKAGE}.{room}", *graph.find_descendants(f"{PACKAGE}.{room}")}


def imported_rooms(graph: grimp.ImportGraph, room: str) -> set[str]:
    """The other rooms that the modules of a room import."""
    found = {
        imported.split(".")[1]
        for importer in modules(graph, room)
        for imported in graph.find_modules_directly_imported_by(importer)
        if imported.startswith(f"{PACKAGE}.")
    }
    return found - {room}


@pytest.mark.parametrize("number", range(len(LIBRARY)))
def test_rooms_of_the_library_import_only_those_before_them(graph: grimp.ImportGraph, number: int) -> None:
    assert imported_rooms(graph, LIBRARY[number]) <= {*GROUND, *LIBRARY[:number]}


def test_the_library_imports_few_packages(graph: grimp.ImportGraph) -> None:
    packages = {
        imported.partition(".")[0]
        for room in (*GROUND, *LIBRARY)
        for importer in modules(graph, room)
        if not importer.startswith(
            tuple(f"{PACKAGE}.data.{name}" for name in ("decoding", "sources", "torchvision_import"))
        )
        for imported in graph.find_modules_directly_imported_by(importer)
        if not imported.startswith(PACKAGE)
    }
    assert {"torch", "numpy", "json"} <= packages  # the graph does see them
    assert packages - ALLOWED - sys.stdlib_module_names == set()


def test_nothing_imports_the_command_line(graph: grimp.ImportGraph) -> None:
    assert graph.find_modules_that_directly_import(f"{PACKAGE}.cli") == set()


def test_stages_know_nothing_of_the_engines_that_call_them(graph: grimp.ImportGraph) -> None:
    stages = graph.find_children(f"{PACKAGE}.stages")
    assert {f"{PACKAGE}.stages.fetch", f"{PACKAGE}.stages.report"} <= stages
    needed = {module.partition(".")[0] for stage in stages for module in graph.find_upstream_modules(stage)}
    assert "torch" in needed
    assert not {"snakemake", "dvc", "grimp"} & needed
    assert graph.find_downstream_modules(f"{PACKAGE}.study.sources") & stages == set()

"""The notebook: executed as Jupyter and Colab do, with their way of drawing."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support import ROOT

TOUR = ROOT / "notebooks" / "tour.ipynb"
SHOWN = "image/png"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook with its outputs, from an empty folder."""
    notebook = nbformat.read(TOUR, as_version=4)
    folder = str(tmp_path_factory.mktemp("notebook"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.execute()
    assert not list(Path(folder).iterdir())
    return notebook


def value(notebook: nbformat.NotebookNode, line: str) -> str:
    """What the cell that holds a line gives, as text."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and line in cell.source]
    (output,) = cell.outputs
    return str(output.data["text/plain"])


def test_every_cell_shows_a_figure_or_numbers_and_warns_of_nothing(executed: nbformat.NotebookNode) -> None:
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} == {"execute_result"}
    pictures = [output for output in outputs if SHOWN in output.data]
    drawn = [cell for cell in executed.cells if cell.cell_type == "code" and "latent_atlas.plot_" in cell.source]
    assert len(pictures) == len(drawn) == 8


def test_what_it_finds(executed: nbformat.NotebookNode) -> None:
    errors = ast.literal_eval(value(executed, "errors = "))
    assert 0.005 < errors["small8"] < errors["pca8"] < 0.03
    lengths = ast.literal_eval(value(executed, "path.straight_distance"))
    assert lengths["small8"] > 1.02
    assert lengths["pca8"] == pytest.approx(1)
    shared = dict(line.split() for line in value(executed, "shared = ").splitlines()[:2])
    assert float(shared["chance"]) == pytest.approx(8 / 64)
    assert float(shared["chance"]) + 0.1 < float(shared["shared"]) < 0.9


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_its_first_cell_installs_this_package() -> None:
    first = next(cell.source for cell in nbformat.read(TOUR, as_version=4).cells if cell.cell_type == "code")
    assert first.splitlines()[2].startswith('if importlib.util.find_spec("latent_atlas") is None:')
    assert first.splitlines()[3] == "    %pip install --quiet .. scikit-learn"
    assert (TOUR.parent.parent / "pyproject.toml").is_file()

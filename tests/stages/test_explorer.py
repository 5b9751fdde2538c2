"""explorer: graphs of decoders that equal torch's, their table, and the files of the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options
from surfaces import export_decoder, succeeded, write_explorer
from torch import Tensor, nn

from latent_atlas.geometry.manifold import Autoencoder, load_manifold
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.report.onnx_decoders import graphs

MANIFOLDS = ("fc2", "fc4", "pca2")


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What both stages have written."""
    for name in MANIFOLDS:
        export_decoder(trained, name, digits_file)
    write_explorer(trained, digits_file)
    return trained.folder / "results"


def session(tensors: dict[str, Tensor], graph: str) -> onnxruntime.InferenceSession:
    """A graph in ONNX Runtime, with the weights beside it."""
    weights = tensors["weights"].numpy().tobytes()
    settings = onnxruntime.SessionOptions()
    settings.add_external_initializers_from_files_in_memory(["weights"], [weights], [len(weights)])
    return onnxruntime.InferenceSession(tensors[graph].numpy().tobytes(), settings)


class TestGraphs:
    """The decoder and its Jacobian."""

    @pytest.mark.parametrize("name", MANIFOLDS)
    def test_equal_those_of_torch(self, results: Path, trained: Study, name: str) -> None:
        tensors = load_file(results / "explorer" / name / "graphs.safetensors")
        surface = load_manifold(trained.folder / "checkpoints" / f"{name}.safetensors").to(torch.float64)
        codes = tensors["codes"].double()
        decoder, jacobian = session(tensors, "decoder"), session(tensors, "jacobian")
        precision = pd.read_csv(results / "explorer" / name / "export.csv")["precision"][0]
        (images,) = decoder.run(None, {"z": codes.numpy().astype(precision)})
        expected = surface.decode(codes).flatten(1).numpy()
        assert np.abs(images - expected).max() < 1 / 255
        image, pushed = jacobian.run(None, {"z": codes[:1].numpy().astype(precision)})
        np.testing.assert_allclose(image, expected[:1], rtol=0, atol=1 / 255)
        exact = surface.jacobian(codes[:1])[0].T.numpy()
        np.testing.assert_allclose(pushed, exact, rtol=0, atol=2e-3 * np.abs(exact).max())

    def test_say_nothing_of_where_they_were_made(self, results: Path) -> None:
        tensors = load_file(results / "explorer" / "fc4" / "graphs.safetensors")
        for graph in ("decoder", "jacobian"):
            content = tensors[graph].numpy().tobytes()
            model = onnx.load_from_string(content)
            assert len(model.graph.node) > 3
            assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
            assert b".py" not in content

    def test_a_decoder_that_branches_on_numbers_gives_a_reason(self) -> None:
        class Branching(nn.Module):
            """A decoder whose way depends on the codes."""

            def forward(self, z: Tensor) -> Tensor:
                x = torch.tanh(z if float(z.detach().sum()) < 1e9 else -z)  # N x 2
                return x.repeat(1, 8).reshape(len(z), 1, 4, 4)

        class Model(nn.Module):
            """An autoencoder of images of 4 x 4 pixels."""

            def __init__(self) -> None:
                super().__init__()
                self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
                self.decoder = Branching()

        surface = Autoencoder(Model(), 2, (1, 4, 4))
        found = graphs(surface, torch.rand(9, 2), {"blur": (TRANSFORMATIONS["blur"], 0.5)})
        assert found.reason
        assert not found.decoder


class TestStage:
    """Tables and files."""

    def test_table_has_a_row_for_each_manifold(self, results: Path) -> None:
        table = pd.read_csv(results / "explorer" / "summary.csv")
        assert list(table["manifold"]) == list(MANIFOLDS)
        assert table["exported"].all()
        assert table["with_jacobian"].all()
        assert (table["largest_pixel_error"] < 1 / 255).all()
        assert (table["largest_angle_error_deg"] < 0.1).all()
        assert set(table["weights"]) <= {"float16", "float32"}

    def test_scripts_hold_what_the_stages_found(self, results: Path) -> None:
        folder = results / "report" / "explorer"
        text = (folder / "sample.js").read_text()
        sample = json.loads(re.fullmatch(r'\(globalThis\.atlas \?\?= \{\}\)\["sample"\] = (.*);\n', text)[1])  # type: ignore[index]
        assert [each["name"] for each in sample["manifolds"]] == list(MANIFOLDS)
        assert [each["name"] for each in sample["transformations"]] == ["rotation", "shift_x", "brightness"]
        assert sample["names"][:2] == ["pullover", "sneaker"]
        assert len(sample["chance"]) == 5
        assert len(sample["pairs"]) == 9  # that of the examples and all random ones
        files = {"explorer.js", "explorer.css", "runtime.js", "licences.txt", "sample.js"} | {
            f"decoder_{n}.js" for n in MANIFOLDS
        }
        assert {file.name for file in folder.iterdir()} == files

    def test_the_same_bytes_each_time(self, results: Path, trained: Study, digits_file: Path, tmp_path: Path) -> None:
        succeeded(trained.run(*options(
            "explorer", name="fc4", manifold="checkpoints/fc4.safetensors", images=digits_file,
            geodesics="results/geodesics/fc4", folder=tmp_path,
        )))  # fmt: skip
        again = (tmp_path / "graphs.safetensors").read_bytes()
        assert again == (results / "explorer" / "fc4" / "graphs.safetensors").read_bytes()

"""Trained networks written for other programs: each is read again and gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import Study, shake_statistics
from torch import Tensor, nn

from latent_atlas.errors import ModelError
from latent_atlas.models.adapters import adapted
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.export import export
from latent_atlas.models.registry import build

SHAPE, K = (1, 12, 12), 3


@pytest.fixture(params=["convolutional", "fully_connected"])
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    """A network of each architecture, in eval mode, with statistics that do something."""
    model = build(request.param, SHAPE, K)
    shake_statistics(model)
    return Checkpoint(model.eval(), request.param, SHAPE, K)


def parts(checkpoint: Checkpoint) -> list[tuple[str, nn.Module, Tensor]]:
    """Encoder and decoder, each with five inputs: not the number that the export has seen."""
    given = {"encoder": torch.rand(5, *SHAPE), "decoder": torch.randn(5, K)}
    return [(name, checkpoint.model.get_submodule(name), x) for name, x in given.items()]


def test_state_dict_has_the_layer_names_and_comes_in_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (file,) = export(checkpoint, "state_dict", tmp_path / "net.pth")
    state = torch.load(file, weights_only=True)
    first = "econv1" if checkpoint.architecture == "convolutional" else "elayer1"
    assert f"encoder.{first}.weight" in state
    other = build(checkpoint.architecture, SHAPE, K)
    other.load_state_dict(state)
    x = torch.rand(2, *SHAPE)
    assert torch.equal(other.eval()(x), checkpoint.model(x))


def test_torch_export_gives_the_same_for_any_number_of_images(checkpoint: Checkpoint, tmp_path: Path) -> None:
    files = export(checkpoint, "torch_export", tmp_path)
    for file, (name, part, given) in zip(files, parts(checkpoint), strict=True):
        assert file == tmp_path / f"{name}.pt2"
        torch.testing.assert_close(torch.export.load(file).module()(given), part(given), rtol=1e-5, atol=1e-6)


def test_adapted_networks(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(K, 144), nn.Sigmoid(), nn.Unflatten(1, SHAPE)).eval()
    z = torch.randn(5, K)
    alone = Checkpoint(adapted(net, "decoder_only", SHAPE, K), "mine:Net", SHAPE, K)
    (file,) = export(alone, "torch_export", tmp_path)
    torch.testing.assert_close(torch.export.load(file).module()(z), net(z))
    (file,) = export(alone, "state_dict", tmp_path / "net.pth")
    assert list(torch.load(file, weights_only=True)) == ["0.weight", "0.bias"]


def test_onnx_gives_the_same_for_any_number_of_images(checkpoint: Checkpoint, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    files = export(checkpoint, "onnx", tmp_path)
    for file, (name, part, given) in zip(files, parts(checkpoint), strict=True):
        assert file == tmp_path / f"{name}.onnx"
        onnx.checker.check_model(str(file))
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), part(given).detach(), rtol=1e-5, atol=1e-6)


def test_onnx_that_is_not_installed(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs the package onnx: pip install 'latent-atlas\[export\]'"):
        export(checkpoint, "onnx", tmp_path)


class Branching(nn.Module):
    """Takes another way for each sign, which no program of fixed steps can."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :K] if x.sum().item() > 0 else x.flatten(1)[:, -K:]


def test_network_without_such_a_form(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.model.encoder = Branching()
    with pytest.raises(ModelError, match="its encoder has no form as torch_export: "):
        export(checkpoint, "torch_export", tmp_path)
    assert not list(tmp_path.iterdir())


def test_command_trusts_what_params_names(study: Study) -> None:
    (study.folder / "mine.py").write_text(
        "from latent_atlas.models.architectures.fully_connected import FullyConnectedAutoencoder as Net\n"
    )
    Checkpoint(build("fully_connected", SHAPE, K), "mine:Net", SHAPE, K).save(study.folder / "mine.safetensors")
    done = study.process("export", "mine.safetensors", "mine.pth")
    assert done.returncode == 1
    assert "names the architecture 'mine:Net', whose code would be run" in done.stderr
    assert study.process("export", "mine.safetensors", "mine.pth", "--trust", "mine:Net").returncode == 0
    study.edit("models.mine", {"architecture": "mine:Net", "latent_dim": K})
    done = study.process("export", "mine.safetensors", "again.pth")
    assert done.stdout == "again.pth\n", done.stderr
    assert torch.load(study.folder / "again.pth", weights_only=True)["decoder.dlayer1.weight"].shape == (128, K)

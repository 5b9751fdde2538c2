"""State dicts of others: what a file is, and the weights that a network takes from it."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import shake_statistics
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from latent_atlas.errors import CheckpointError
from latent_atlas.models.checkpoints import load_state
from latent_atlas.models.foreign import read_state_dict
from latent_atlas.models.registry import build

State = Mapping[str, Tensor]
COUNTED = "4 num_batches_tracked that are missing or no integers set to 0: no output depends on them"
WEIGHT = "encoder.elayer1.weight"


def network(seed: int = 7) -> nn.Module:
    """A network with BatchNorm layers whose statistics do something."""
    torch.manual_seed(seed)
    model = build("fully_connected", (1, 8, 8), 2, {"widths": [6, 5]})
    shake_statistics(model)
    return model.eval()


def put(path: Path, thing: object, **options: Any) -> Path:
    """Write something as torch does."""
    torch.save(thing, path / "weights.pth", **options)
    return path / "weights.pth"


def read(path: Path) -> tuple[nn.Module, list[str]]:
    """A network of other weights that has read the file, and what was said."""
    said: list[str] = []
    model = network(seed=8)
    load_state(model, read_state_dict(path, model, said.append), str(path))
    return model, said


def same(model: nn.Module, state: State, but: str = "num_batches_tracked") -> bool:
    """Whether a network has these weights; counters of batches need not be equal."""
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items() if but not in name)


def prefixed(*prefixes: str) -> Callable[[State], dict[str, Tensor]]:
    """The same tensors under longer names."""
    return lambda state: {"".join(prefixes) + name: tensor for name, tensor in state.items()}


class TestNames:
    """Names lose what the architecture does not have, and the log says what that was."""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda state: state, []),
            (prefixed("module."), ["taken off the names: module."]),
            (prefixed("_orig_mod."), ["taken off the names: _orig_mod."]),
            (prefixed("model."), ["taken off the names: model."]),
            (prefixed("autoencoder.net."), ["taken off the names: autoencoder.net."]),
            (prefixed("_orig_mod.module."), ["taken off the names: _orig_mod., module."]),
            (prefixed("model.", "_orig_mod."), ["taken off the names: _orig_mod.", "taken off the names: model."]),
            (
                lambda state: {name.replace("encoder.", "encoder._orig_mod."): t for name, t in state.items()},
                ["taken off the names: _orig_mod."],
            ),
            (lambda state: {"state_dict": prefixed("model.")(state), "epoch": 3},
             ["the weights are the entry state_dict of the file", "taken off the names: model."]),
            (lambda state: {"epoch": 3, "model_state_dict": state, "loss": 0.1},
             ["the weights are the entry model_state_dict of the file"]),
            (lambda state: {"nets": {"ae": state, "other": {"weight": torch.zeros(2)}}},
             ["the weights are the entry nets.ae of the file"]),
            (lambda state: {"best": np.float64(0.1), "model": state, "metrics": {"loss": torch.tensor(0.1)}},
             ["the weights are the entry model of the file"]),
            (lambda state: {"epoch": 3, **state}, []),
            (lambda state: prefixed("model.")(state) | {"critic.weight": torch.zeros(2)},
             ["taken off the names: model.", "left out 1 tensors outside model. (critic.weight, ...)"]),
            (lambda state: {"n_averaged": torch.tensor(5), **prefixed("module.")(state)},
             ["taken off the names: module.", "it is the average of 5 states of a training"]),
            (lambda state: {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")},
             [COUNTED]),
            (lambda state: {"module." + n: t for n, t in state.items() if not n.endswith("num_batches_tracked")},
             ["taken off the names: module.", COUNTED]),
            (lambda state: {"state_dict": state, "best": dict(state)},
             ["the weights are the entry state_dict of the file"]),
        ],
    )  # fmt: skip
    def test_come_in(self, tmp_path: Path, change: Callable[[State], object], says: list[str]) -> None:
        state = network().state_dict()
        model, said = read(put(tmp_path, change(state)))
        assert same(model, state)
        assert said == says

    def test_of_a_lightning_checkpoint_with_its_optimizer(self, tmp_path: Path) -> None:
        model = network().train()
        optimizer = torch.optim.Adam(model.parameters())
        model(torch.rand(4, 1, 8, 8)).sum().backward()
        optimizer.step()
        content = {
            "epoch": 3, "global_step": 10, "pytorch-lightning_version": "2.5.0",
            "loops": {"fit_loop": {"state_dict": {}}},
            "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
            "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "hyper_parameters": {"lr": 1e-3},
        }  # fmt: skip
        assert same(read(put(tmp_path, content))[0], model.state_dict())

    def test_of_torchs_averaged_model(self, tmp_path: Path) -> None:
        averaged = AveragedModel(network())
        averaged.update_parameters(network(seed=9))
        averaged.update_parameters(network(seed=10))
        model, said = read(put(tmp_path, averaged.state_dict()))
        assert same(model, averaged.module.state_dict())
        assert said[-1] == "it is the average of 2 states of a training"

    @pytest.mark.parametrize(
        ("first", "second"),
        [("state_dict", "ema_state_dict"), ("model", "model_ema")],
    )
    def test_two_state_dicts_that_fit_are_not_chosen_from(self, tmp_path: Path, first: str, second: str) -> None:
        one, other = network().state_dict(), network(seed=9).state_dict()
        both = {first: one, second: other}
        with pytest.raises(CheckpointError, match=f"several state dicts that fit, {first}, {second}: save the one"):
            read(put(tmp_path, both))
        flat = prefixed(f"{first}.")(one) | prefixed(f"{second}.")(other)
        with pytest.raises(CheckpointError, match=rf"several state dicts that fit, :{first}\., :{second}\.: save"):
            read(put(tmp_path, flat))

    def test_of_parts_with_equal_names_the_shapes_decide(self, tmp_path: Path) -> None:
        encoder, decoder = nn.Sequential(nn.Linear(5, 2)), nn.Sequential(nn.Linear(2, 5))
        path = put(tmp_path, prefixed("encoder.")(encoder.state_dict()) | prefixed("decoder.")(decoder.state_dict()))
        here = nn.Sequential(nn.Linear(2, 5))
        load_state(here, read_state_dict(path, here), "x")
        assert all(torch.equal(tensor, here.state_dict()[name]) for name, tensor in decoder.state_dict().items())
        other = nn.Sequential(nn.Linear(3, 3))
        with pytest.raises(CheckpointError, match=r"0\.weight is \(2, 5\) where the architecture has \(3, 3\)"):
            load_state(other, read_state_dict(path, other), "x")

    def test_a_wrappers_name_that_is_the_architectures_own_stays(self, tmp_path: Path) -> None:
        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = nn.Linear(2, 3)

        there, here = Wrapped(), Wrapped()
        path = put(tmp_path, {f"module.{name}": tensor for name, tensor in there.state_dict().items()})
        load_state(here, read_state_dict(path, here), "x")
        assert torch.equal(here.module.weight, there.module.weight)

    def test_that_do_not_fit_are_told_after_the_prefix(self, tmp_path: Path) -> None:
        state = dict(network().state_dict())
        state["encoder.elayer9.weight"] = state.pop("encoder.elayer1.weight")
        says = r"it lacks encoder\.elayer1\.weight; it has an unknown encoder\.elayer9\.weight$"
        with pytest.raises(CheckpointError, match=says):
            read(put(tmp_path, {"state_dict": prefixed("model.")(state), "metrics": {"loss": torch.zeros(())}}))

    def test_tied_weights_come_from_either_name(self, tmp_path: Path) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3)
                self.decoder.weight = self.encoder.weight

        there, here = Tied(), Tied()
        for gone in ("encoder.weight", "decoder.weight"):
            state = {name: tensor for name, tensor in there.state_dict().items() if name != gone}
            nn.init.zeros_(here.encoder.weight)
            load_state(here, read_state_dict(put(tmp_path, prefixed("module.")(state)), here), "x")
            assert torch.equal(here.decoder.weight, there.encoder.weight)
            assert here.decoder.weight is here.encoder.weight
        with pytest.raises(CheckpointError, match=r"it lacks encoder\.weight, decoder\.weight"):
            load_state(here, {name: t for name, t in there.state_dict().items() if "bias" in name}, "x")
        state = there.state_dict()
        state["decoder.weight"] = state["decoder.weight"] + 1
        with pytest.raises(CheckpointError, match=r"encoder\.weight and decoder\.weight differ, which are one"):
            load_state(here, state, "x")

    def test_names_of_former_versions_that_the_layers_know(self, tmp_path: Path) -> None:
        old = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)))
        new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
        state = old.state_dict()
        assert not state.keys() & new.state_dict().keys() - {"0.bias"}
        load_state(new, read_state_dict(put(tmp_path, prefixed("module.")(state)), new), "x")
        x = torch.rand(2, 3)
        torch.testing.assert_close(new(x), old(x))
        state["0.weight_v"] = state["0.weight_v"] / 0
        with pytest.raises(CheckpointError, match="has NaN or Inf"):
            load_state(new, state, "x")

    def test_what_is_no_tensor_is_told(self, tmp_path: Path) -> None:
        class Extra(nn.Linear):
            def get_extra_state(self) -> dict[str, int]:
                return {"scale": 1}

            def set_extra_state(self, state: object) -> None:
                pass

        state = read_state_dict(put(tmp_path, Extra(2, 2).state_dict()), Extra(2, 2))
        with pytest.raises(CheckpointError, match="x: the network keeps _extra_state, which is no tensor"):
            load_state(Extra(2, 2), state, "x")

    def test_of_a_list_of_state_dicts(self, tmp_path: Path) -> None:
        state = network().state_dict()
        model, said = read(put(tmp_path, {"models": [state, {"lr": 0.1}]}))
        assert same(model, state)
        assert said == ["the weights are the entry models.0 of the file"]


class TestNumbers:
    """Weights of other precisions are converted, and what is no number is refused by name."""

    @pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precisions_are_converted_and_told(self, tmp_path: Path, kind: torch.dtype) -> None:
        state = {n: t.to(kind) if t.is_floating_point() else t for n, t in network().state_dict().items()}
        model, said = read(put(tmp_path, state))
        assert all(t.dtype == torch.float32 for t in model.state_dict().values() if t.is_floating_point())
        assert same(model, {name: tensor.to(torch.float32) for name, tensor in state.items()})
        floating = sum(tensor.is_floating_point() for tensor in state.values())
        assert said == [f"{floating} tensors in {kind} converted to float32".replace("torch.", "")]

    @pytest.mark.parametrize(
        ("name", "change", "says"),
        [
            ("decoder.dlayer3.bias", lambda t: t * float("nan"), "has NaN or Inf at 64 of 64 places"),
            (WEIGHT, lambda t: t.index_fill(0, torch.tensor([0]), float("inf")), "has NaN or Inf at 64 of"),
            (WEIGHT, lambda t: (t * 1e6).half(), "has NaN or Inf"),
            ("encoder.ebatch1.running_var", lambda t: -t, r"has negative variances \(down to -"),
            (WEIGHT, lambda t: t.to(torch.complex64), "is torch.complex64 where the architecture has torch.float32"),
            (WEIGHT, lambda t: t.to(torch.int8), "is torch.int8 where the architecture has torch.float32"),
            (WEIGHT, lambda t: t.to_sparse(), "is sparse: save the dense weights"),
            (WEIGHT, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantized: save"),
        ],
    )  # fmt: skip
    @pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
    def test_others_are_refused(self, tmp_path: Path, name: str, change: Callable[[Tensor], Tensor], says: str) -> None:
        state = dict(network().state_dict())
        state[name] = change(state[name])
        with pytest.raises(CheckpointError, match=f"{name}:? {says}"):
            read(put(tmp_path, state))


class TestFiles:
    """A file is read, or told apart by its first bytes; nothing in it is run."""

    def test_safetensors(self, tmp_path: Path) -> None:
        state = network().state_dict()
        save_file(prefixed("model.")(state), tmp_path / "weights.safetensors")
        model, said = read(tmp_path / "weights.safetensors")
        assert same(model, state)
        assert said == ["taken off the names: model."]

    @pytest.mark.parametrize("protocol", [2, 3])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_formats_of_torch_save(self, tmp_path: Path, zipped: bool, protocol: int) -> None:
        state = network().state_dict()
        options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": protocol}
        assert same(read(put(tmp_path, state, **options))[0], state)

    @pytest.mark.parametrize("protocol", [4, 5])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_pickles_of_other_protocols(self, tmp_path: Path, zipped: bool, protocol: int) -> None:
        path = put(tmp_path, network().state_dict(), _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
        with pytest.raises(CheckpointError, match=f"is a pickle of protocol {protocol}: save it again as torch.save"):
            read_state_dict(path)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "is empty: get it again"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer.* git lfs pull"),
            (b"<!DOCTYPE html><html></html>", "is a web page: download the file itself"),
            (b"\n\n  <html lang='en'><head>", "is a web page"),
            (b"<?xml version='1.0'?><Error>", "is a web page"),
            (gzip.compress(b"weights", mtime=0), "is compressed by gzip: unpack it with gunzip"),
            (b"BZh91AY", "is a compressed archive: unpack it"),
            (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
            (b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', r"is text \(JSON\)"),
            (pickle.dumps({"a": 1}, protocol=4), "is a pickle of protocol 4"),
            (b"PK\x03\x04 half an archive", "cannot be read as a PyTorch state dict"),
            (b"Not Found", "is a text, perhaps the answer of a server"),
            (b"\xef\xbb\xbf<!doctype html>", "is a web page"),
            (b"<script>location.reload()</script>", "is a web page"),
            (b'{"data":{"error": "rate limit"}}', r"is text \(JSON\)"),
            (b"GGUF\3\0\0\0", "begins with the bytes 47475546, as no file of PyTorch or safetensors does"),
            (b"\x08\x07\x12\x07pytorch", "begins with the bytes 08071207"),  # of ONNX
        ],
    )
    def test_are_told_apart(self, tmp_path: Path, content: bytes, says: str) -> None:
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"weights\.pth.*{says}|{says}"):
            read_state_dict(tmp_path / "weights.pth")

    def test_a_header_whose_length_looks_like_text_is_none(self, tmp_path: Path) -> None:
        text = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(0x7B20)  # as bytes a blank and a brace
        (tmp_path / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        assert list(read_state_dict(tmp_path / "a.safetensors")) == ["a"]

    def test_archives_are_told_apart(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "program.pt")
        for name, member in (("old.tar", "pickle"), ("new.tar", "readme")):
            with tarfile.open(tmp_path / name, "w") as archive:
                archive.addfile(tarfile.TarInfo(member), io.BytesIO())
        for name, says in {
            "arrays.npz": r"is a zip archive without a state dict \(a.npy\): unpack it",
            "program.pt": r"is a TorchScript program: save torch.jit.load\(...\).state_dict\(\)",
            "old.tar": "is a tar archive of a PyTorch before 0.2: read it there",
            "new.tar": "is a tar archive: unpack it",
        }.items():
            with pytest.raises(CheckpointError, match=f"{name} {says}"):
                read_state_dict(tmp_path / name)

    def test_cut_off_files_are_named(self, tmp_path: Path) -> None:
        save_file({"a": torch.zeros(100)}, tmp_path / "a.safetensors")
        torch.save({"a": torch.zeros(100)}, tmp_path / "a.pth")
        for name in ("a.safetensors", "a.pth"):
            whole = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(whole[:-100])
            with pytest.raises(CheckpointError, match=f"{name} cannot be read .* the file may be cut off"):
                read_state_dict(tmp_path / name)

    def test_damaged_numbers_are_named(self, tmp_path: Path) -> None:
        """Torch compares no checksums when it reads a file."""
        torch.save({"a": torch.arange(100.0)}, tmp_path / "a.pth")
        whole, numbers = (tmp_path / "a.pth").read_bytes(), torch.arange(100.0).numpy().tobytes()
        assert numbers in whole
        (tmp_path / "a.pth").write_bytes(whole.replace(numbers, numbers[:-1] + b"\x41"))
        with pytest.raises(CheckpointError, match=r"a\.pth cannot be read .*Bad CRC-32 .*get it again"):
            read_state_dict(tmp_path / "a.pth")

    def test_compressed_numbers_are_named(self, tmp_path: Path) -> None:
        """Torch gives memory that nobody has written, where plain numbers are said to be compressed."""
        torch.save({"a": torch.arange(100.0)}, tmp_path / "a.pth")
        whole = bytearray((tmp_path / "a.pth").read_bytes())
        with zipfile.ZipFile(tmp_path / "a.pth") as archive:
            entry = archive.start_dir + sum(46 + len(i.filename) + len(i.extra) for i in archive.infolist()[:-1])
        assert whole[entry : entry + 4] == b"PK\x01\x02"
        whole[entry + 10] = zipfile.ZIP_DEFLATED
        (tmp_path / "a.pth").write_bytes(whole)
        with pytest.raises(CheckpointError, match=r"a\.pth cannot be read .* is compressed, as torch writes none"):
            read_state_dict(tmp_path / "a.pth")

    def test_what_would_have_to_be_run_is_named(self, tmp_path: Path) -> None:
        import argparse

        with pytest.raises(CheckpointError, match=r"was refused.*\(it names argparse.Namespace\): save it again"):
            read_state_dict(put(tmp_path, {"state_dict": {}, "args": argparse.Namespace(lr=1)}))

    def test_a_number_of_numpy_that_carries_a_pickle_runs_nothing(self, tmp_path: Path) -> None:
        trap = tmp_path / "trap"

        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.mkdir, (str(trap),)

        class Number:
            def __reduce__(self) -> tuple[Any, ...]:
                return np.float64().__reduce__()[0], (np.dtype("O"), pickle.dumps(Bomb(), protocol=2))

        path = put(tmp_path, {"best": Number(), **network().state_dict()})
        with contextlib.suppress(CheckpointError):
            read_state_dict(path, network())
        assert not trap.exists()

    @pytest.mark.parametrize("thing", [[1, 2], {"epoch": 3, "weights": torch.zeros(2)}, torch.zeros(3), {}, {"a": 1}])
    def test_other_content_is_refused(self, tmp_path: Path, thing: object) -> None:
        with pytest.raises(CheckpointError, match="is not a state dict"):
            read_state_dict(put(tmp_path, thing))

    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"absent\.pth cannot be read as a PyTorch state dict"):
            read_state_dict(tmp_path / "absent.pth")

    def test_state_dict_comes_back_whole(self, tmp_path: Path) -> None:
        state = OrderedDict(network().state_dict())
        found = read_state_dict(put(tmp_path, state))
        assert list(found) == list(state)
        assert all(torch.equal(found[name], tensor) for name, tensor in state.items())

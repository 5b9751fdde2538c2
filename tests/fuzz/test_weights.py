"""State dicts and codes of others that are damaged or strange: refused, or each number is that of the file."""

from __future__ import annotations

import functools
import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import Change, Tally, damage, damaged, no_files, quick
from hypothesis import example, given
from hypothesis import strategies as some
from safetensors.torch import load, save
from torch import Tensor, nn

from latent_atlas.data.images import Images
from latent_atlas.models.checkpoints import load_state
from latent_atlas.models.foreign import read_codes, read_state_dict
from latent_atlas.models.given import GivenCodes
from latent_atlas.models.registry import build

SHAPE, K = (1, 4, 4), 2
torch.manual_seed(0)
STATE = build("fully_connected", SHAPE, K, {"widths": [8, 4]}).state_dict()
IMAGES = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8)
CODES = torch.rand(6, K)


def pt(content: Any, old: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


GOOD = {
    "a.pt": pt(STATE),
    "old.pth": pt(STATE, old=True),
    "a.safetensors": save(STATE),
    "wrapped.pt": pt({"epoch": 3, "best": np.float64(0.5), "state_dict": {f"module.{n}": t for n, t in STATE.items()}}),
    "double.pt": pt({name: t.double() if t.is_floating_point() else t for name, t in STATE.items()}),
}


def imported(path: Path) -> dict[str, Tensor]:
    """What `latent-atlas import` makes of a file."""
    network = build("fully_connected", SHAPE, K, {"widths": [8, 4]})
    load_state(network, read_state_dict(path, network), str(path))
    return network.state_dict()


def tensors(content: Any) -> list[Tensor]:
    """All tensors in a content."""
    if isinstance(content, Tensor):
        return [content]
    if isinstance(content, dict | list | tuple):
        return [t for value in (content.values() if isinstance(content, dict) else content) for t in tensors(value)]
    return []


def tried(tally: Tally, folder: Path, name: str, content: bytes) -> str | None:
    path = folder / name
    path.write_bytes(content)

    def same(found: dict[str, Tensor]) -> None:
        if content[8:9] == b"{":
            raw: Any = load(content)
        else:
            from latent_atlas.models.foreign import HARMLESS

            with torch.serialization.safe_globals(HARMLESS):
                raw = torch.load(io.BytesIO(content), "cpu", weights_only=True)
        there = tensors(raw)
        for key, tensor in found.items():
            if not key.endswith("num_batches_tracked"):
                assert tensor.isfinite().all()
                assert any(t.shape == tensor.shape and torch.equal(t.detach().to(tensor.dtype), tensor) for t in there)

    return tally.case(lambda: imported(path), same, [str(path)])


@quick(250)
@given(name=some.sampled_from(sorted(GOOD)), changes=damage())
@example(  # a number is said to be compressed
    name="a.pt",
    changes=[("append", 0.0, 0, bytes(8)), ("append", 0.0, 0, bytes(8)), ("word", 0.8846113608912524, 8, b"\0")],
)
def test_damaged(name: str, changes: list[Change], tmp_path: Path, tally: Tally) -> None:
    tried(tally, tmp_path, name, damaged(GOOD[name], changes))


@quick(100)
@given(changes=damage(5))
@example(changes=[("flip", 0.6676739864597521, 0, b"\0")])  # a device that is no word
def test_damaged_pickles(changes: list[Change], tmp_path: Path, tally: Tally) -> None:
    """The part of the file that says what the tensors are, with right checksums around it."""
    with zipfile.ZipFile(io.BytesIO(GOOD["wrapped.pt"])) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, damaged(part, changes) if name.endswith("data.pkl") else part)
    tried(tally, tmp_path, "x.pt", file.getvalue())


WRONG = some.sampled_from(
    ["gone", "nan", "inf", "complex", "int8", "bool", "transposed", "scalar", "empty", "sparse", "quantized", "meta",
     "text", "none", "renamed", "bfloat16", "float8", "repeated", "list", "number", "array"]
)  # fmt: skip


def changed(tensor: Tensor, how: str) -> Any:
    made: dict[str, Any] = {
        "nan": lambda: tensor * torch.nan, "inf": lambda: tensor / 0, "complex": lambda: tensor.to(torch.complex64),
        "int8": lambda: (tensor * 9).to(torch.int8), "bool": lambda: tensor > 0, "meta": lambda: tensor.to("meta"),
        "transposed": lambda: tensor.mT if tensor.ndim > 1 else tensor[None], "scalar": lambda: tensor.sum(),
        "empty": lambda: tensor.flatten()[:0], "sparse": lambda: tensor.to_sparse(), "text": lambda: "weights",
        "quantized": lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8), "none": lambda: None,
        "bfloat16": lambda: tensor.bfloat16(), "float8": lambda: tensor.to(torch.float8_e4m3fn), "list": tensor.tolist,
        "repeated": lambda: torch.zeros(1).expand(tensor.shape or 1), "number": lambda: 10**400,
        "array": lambda: np.float64(1.0),
    }  # fmt: skip
    return made[how]()


@quick(150)
@given(
    changes=some.lists(some.tuples(some.sampled_from(sorted(STATE)), WRONG), min_size=1, max_size=3),
    form=some.sampled_from(["pt", "old", "safetensors"]), wrapper=some.sampled_from(["", "module.", "net.encoder."]),
)  # fmt: skip
def test_other_tensors(changes: list[tuple[str, str]], form: str, wrapper: str, tmp_path: Path, tally: Tally) -> None:
    state: dict[str, Any] = {f"{wrapper}{name}": tensor for name, tensor in STATE.items()}
    for name, how in changes:
        if how == "gone":
            state.pop(f"{wrapper}{name}", None)
        elif how == "renamed":
            state[f"{wrapper}other.{name}"] = state.pop(f"{wrapper}{name}", torch.zeros(1))
        else:
            state[f"{wrapper}{name}"] = changed(STATE[name].clone(), how)
    if form == "safetensors":
        plain = {
            n: t.contiguous().clone()
            for n, t in state.items()
            if isinstance(t, Tensor) and not (t.is_meta or t.is_sparse or t.is_quantized)
        }
        tried(tally, tmp_path, "x.safetensors", save(plain))
    else:
        if form == "old":
            state = {name: value for name, value in state.items() if not (isinstance(value, Tensor) and value.is_meta)}
        tried(tally, tmp_path, "x.pt", pt(state, old=form == "old"))


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def archived(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def test_strange(tmp_path: Path, tally: Tally) -> None:
    runs = Runs(tmp_path / "ran")
    program = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), program)
    big = b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
    files = {
        "runs.pt": pt(STATE | {"x": runs}), "runs_old.pt": pt({"x": runs}, old=True), "pickle.pt": pickle.dumps(runs),
        "pickle2.pt": pickle.dumps(runs, protocol=2), "pickle0.pt": pickle.dumps(runs, protocol=0), "bytes.pt": big,
        "model.pt": pt(nn.Linear(2, 2)), "program.pt": program.getvalue(), "tar.pt": archived("pickle", big),
        "cut.tar": archived("weights", bytes(5000))[:600], "bad.tar": archived("w", b"")[:300] + b"\xff" * 400,
        "deep.pt": pt([[[[[[[[STATE]]]]]]]]), "numbers.pt": pt({1: torch.zeros(1)}), "empty.pt": pt({}),
        "tensor.pt": pt(torch.zeros(3)), "none.pt": pt(None), "zip.pt": b"PK\x03\x04" + bytes(200), "short.pt": b"\x80",
        "nested.pt": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "one.pt": b"P", "text.pt": b"abc" * 9,
        "html.pt": b"<html>", "lfs.pt": b"version https://git-lfs",
        "averaged.pt": pt({"n_averaged": torch.zeros(2), **STATE}),
        "averaged2.pt": pt({"n_averaged": torch.tensor(float("nan")), **STATE}),
        "keys.pt": pt({"": torch.zeros(1), ".": torch.zeros(1)}),
    }  # fmt: skip
    for name, content in files.items():
        assert tried(tally, tmp_path, name, content) or name.startswith(("averaged", "deep")), name
        assert not (tmp_path / "ran").exists(), name
        codes(tally, tmp_path, name, content)
        assert not (tmp_path / "ran").exists(), name


def codes(tally: Tally, folder: Path, name: str, content: bytes) -> str | None:
    """Codes as `latent-atlas import` reads them."""
    path = folder / name
    path.write_bytes(content)
    labels = torch.zeros(6, dtype=torch.int64)
    data = Images("some", IMAGES[:4], labels[:4], IMAGES[4:], labels[4:], ("a",))

    def attempt() -> GivenCodes:
        given = read_codes(path)
        return GivenCodes.of({f"{path}: {split}": (data.pixels(split), value) for split, value in given.items()}, K)

    def same(found: GivenCodes) -> None:
        known, numbers = found.of_known(IMAGES / 255)
        assert known[:4].all()
        assert numbers.isfinite().all()
        if name.startswith("good"):
            assert torch.allclose(numbers, CODES[: len(numbers)], atol=1e-2)

    return tally.case(attempt, same, [str(path)])


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_codes(tmp_path: Path, tally: Tally) -> None:
    train, test = CODES[:4].numpy(), CODES[4:].numpy()
    good = {
        "good.npz": npz(train=train, test=test), "good2.npz": npz(train=train), "good.npy": npy(train),
        "good3.npz": npz(train=train.astype(">f4"), test=test.astype(">f8")),
        "good4.npy": npy(np.asfortranarray(train)),
        "good5.npz": npz(train=train.astype(np.float16)), "good6.npz": npz(train=train.astype(np.longdouble)),
        "good.pt": pt({"train": CODES[:4], "test": CODES[4:]}), "good.safetensors": save({"train": CODES[:4].clone()}),
        "good7.pt": pt({"embedding": {"weight": CODES[:4].bfloat16()}}),
    }  # fmt: skip
    for name, content in good.items():
        message = codes(tally, tmp_path, name, content)
        assert message is None or name == "good6.npz", (name, message)
        for cut in (1, 9, len(content) // 2):
            assert codes(tally, tmp_path, name, content[:-cut])
    for number, bad in enumerate((
        train[:3], train[:, :1], train * np.nan, train.astype(np.int64), train.astype(complex), train.astype(object),
        train[..., None, None].repeat(2, 2), train.astype("U9"), np.zeros((4, 0)), np.zeros((0, 2)), np.float64(1.0),
        np.zeros((4, 2), "M8[s]"), np.zeros((4, 2), [("a", "f4")]), train > 0, np.zeros((4, 2), ">f2") / 0,
    )):  # fmt: skip
        assert codes(tally, tmp_path, f"{number}.npy", npy(bad))
        assert codes(tally, tmp_path, f"{number}.npz", npz(train=bad))
    for number, tensor in enumerate((
        torch.quantize_per_tensor(CODES[:4], 0.1, 0, torch.qint8), CODES[:4].to_sparse(), CODES[:4].to("meta"),
        CODES[:4].to(torch.complex64), torch.zeros(1).expand(10**9, 2), CODES[:4].to(torch.int8),
    )):  # fmt: skip
        assert codes(tally, tmp_path, f"{number}.pt", pt({"train": tensor}))


@quick(80)
@given(changes=damage(), form=some.sampled_from(["npz", "npy", "pt"]))
def test_damaged_codes(changes: list[Change], form: str, tmp_path: Path, tally: Tally) -> None:
    content = {"npz": npz(train=CODES[:4].numpy()), "npy": npy(CODES[:4].numpy()), "pt": pt({"train": CODES[:4]})}[form]
    codes(tally, tmp_path, f"x.{form}", damaged(content, changes))


@pytest.mark.parametrize("ending", [".pt", ".safetensors", ".npz"])
def test_no_files(ending: str, tmp_path: Path, tally: Tally) -> None:
    for path in no_files(tmp_path, ending):
        assert tally.case(functools.partial(read_state_dict, path), lambda found: None, [str(path)])
        assert tally.case(functools.partial(read_codes, path), lambda found: None, [str(path)])

"""Flipped bits, overwritten blocks, lost ends in each kind of file that is read later: refused, or without effect."""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import Repository
from torch import Tensor

from latent_atlas.cluster import records
from latent_atlas.data.images import Images
from latent_atlas.errors import LatentAtlasError
from latent_atlas.files import PACKAGE, read_safetensors, read_table, sealed
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.models.registry import build
from latent_atlas.study import sources
from latent_atlas.training.state import Done, State
from latent_atlas.versioning.common import VersioningError
from latent_atlas.versioning.lock_file import LockFile
from latent_atlas.versioning.pipeline import Job, plain_yaml

# What a reader of a file gives: its content, or None where it says that the file is damaged and does without it.
Reader = Callable[[], Any]
CACHES = {"read-lock.json", "origins.json"}  # that are made anew


def content(tensors: dict[str, Tensor]) -> dict[str, tuple[str, list[int], bytes]]:
    """Tensors as what can be compared."""
    return {
        name: (str(tensor.dtype), list(tensor.shape), tensor.contiguous().numpy().tobytes())
        for name, tensor in tensors.items()
    }


def images(path: Path) -> Reader:
    def read() -> Any:
        found = Images.load(path)
        return found.name, content({key: value for key, value in vars(found).items() if isinstance(value, Tensor)})

    return read


def manifold(path: Path) -> Reader:
    def read() -> Any:
        surface = load_manifold(path)
        if path.stem.startswith("pca"):
            return content({key: value for key, value in vars(surface).items() if isinstance(value, Tensor)})
        return content(dict(Checkpoint.load(path).model.state_dict()))

    return read


def tensors(path: Path) -> Reader:
    def read() -> Any:
        metadata, found = read_safetensors(path)
        return metadata, content(found)

    return read


def table(path: Path) -> Reader:
    """A table, or all those that a package describes."""
    package = json.loads(path.with_name(PACKAGE).read_text(encoding="utf-8"))
    named = [path.name] if path.name != PACKAGE else [resource["path"] for resource in package["resources"]]

    def read() -> Any:
        found = [read_table(path.with_name(name)) for name in named]
        return [(each.to_csv(), [str(dtype) for dtype in each.dtypes]) for each in found]

    return read


def state(path: Path, resume: Path, epoch: Path) -> Reader:
    """The state of a training; ``path`` is it or one of its snapshots, and both are put back after each reading."""
    kept = {each: each.read_bytes() for each in (resume, epoch)}

    def read() -> Any:
        for each, old in kept.items():
            if each != path or not each.exists():
                each.parent.mkdir(exist_ok=True)
                each.write_bytes(old)
        torch.manual_seed(0)
        network = build("fully_connected", (1, 8, 8), 2, {"widths": [8, 4]})
        training = training_of(network, resume)
        before = content(dict(network.state_dict()))
        done = training.restore()
        if done is None:
            assert content(dict(network.state_dict())) == before  # it begins anew as if nothing had been there
            return None
        return content(dict(network.state_dict())), done.curve, [content(each) for each in done.snapshots.values()]

    return read


def training_of(network: torch.nn.Module, resume: Path) -> State:
    optimizer = torch.optim.Adam(network.parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=10)
    return State(resume, "fingerprint", network, optimizer, cycle, (torch.Generator(),), torch.device("cpu"))


def store_a_state(resume: Path) -> None:
    torch.manual_seed(0)
    network = build("fully_connected", (1, 8, 8), 2, {"widths": [8, 4]})
    training = training_of(network, resume)
    network(torch.rand(4, 1, 8, 8)).square().sum().backward()
    training.optimizer.step()
    row = {"epoch": 1.0, "test_mse": 0.5}
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    training.store(Done(0.7, [row], {1: weights}))


def record(path: Path) -> Reader:
    def read() -> Any:
        try:
            return records.read(path)
        except ValueError as error:
            raise LatentAtlasError(f"{path}: {error}") from error  # as read_all says it

    return read


def journal(root: Path, entries: dict[str, Any]) -> Reader:
    def read() -> Any:
        said: list[str] = []
        found = LockFile(root, warn=said.append)._journalled()
        assert all(entries[name] == entry for name, entry in found.items())
        assert bool(said) == (found.keys() != entries.keys())
        return None if said else found

    return read


def lock_file(root: Path, entries: dict[str, Any]) -> Reader:
    """``dvc.lock``: what is read in place of an entry must make its job run again."""
    jobs = {
        name: Job(
            name, entry["cmd"], tuple(item["path"] for item in entry.get("deps", [])),
            tuple(item["path"] for item in entry["outs"]), entry.get("params", {}).get("params.yaml", {}),
        )
        for name, entry in entries.items()
    }  # fmt: skip
    hashes = {
        item["path"]: item["md5"] for entry in entries.values() for item in (*entry.get("deps", []), *entry["outs"])
    }

    def read() -> Any:
        (root / ".dvc/tmp/read-lock.json").unlink(missing_ok=True)
        lock = LockFile(root)
        lock._hashes = dict(hashes)  # of files that are as they were
        found = lock.entries
        stale = {name for name, job in jobs.items() if lock.stale(job)}
        changed = {name for name, entry in entries.items() if decisive(found.get(name)) != decisive(entry)}
        assert changed <= stale
        return None if stale else entries

    return read


def decisive(entry: dict[str, Any] | None) -> Any:
    """An entry without the sizes of files, which neither engine compares."""
    if entry is None:
        return None
    files = {
        kind: [{key: value for key, value in item.items() if key != "size"} for item in entry.get(kind, [])]
        for kind in ("deps", "outs")
    }
    return entry | files


def copied_lock(root: Path, entries: dict[str, Any]) -> Reader:
    def read() -> Any:
        return LockFile(root).entries

    return read


def origins(root: Path, rules: dict[str, Any]) -> Reader:
    def read() -> Any:
        with contextlib.chdir(root):
            return json.loads(Path(sources.origins(rules)).read_text(encoding="utf-8"))

    return read


@pytest.fixture(scope="module")
def kinds(undisturbed: Repository, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Path, Reader]]]:
    """The kinds of files with a reader of each: another kind is another entry."""
    root = undisturbed.copy(tmp_path_factory.mktemp("flips") / "study").root
    text = (root / "dvc.lock").read_text(encoding="utf-8")
    chosen = ("fetch", "train_summary", "train-fc4")
    entries = {name: plain_yaml().load(text)["stages"][name] for name in chosen}
    with (root / "dvc.lock").open("w", encoding="utf-8") as file:
        plain_yaml().dump({"schema": "2.0", "stages": entries}, file)
    copy, ended = root / ".dvc/tmp/read-lock.json", root / ".dvc/tmp/ended-jobs.jsonl"
    copy.unlink(missing_ok=True)
    assert LockFile(root).entries == entries
    with_journal = root / "with a journal"
    (with_journal / ".dvc/tmp").mkdir(parents=True)
    ended = with_journal / ".dvc/tmp/ended-jobs.jsonl"
    ended.write_text("".join(sealed({"stages": {name: entry}}) + "\n" for name, entry in entries.items()))
    resume = root / "results/checkpoints/fc4.resume"
    store_a_state(resume)
    epoch = resume.with_name("fc4.resume.snapshots") / "1.pt"
    rules = json.loads((root / ".latent-atlas/origins.json").read_text(encoding="utf-8"))
    checkpoints = root / "results/checkpoints"
    of_stages = [path for path in sorted(root.glob("results/**/*.safetensors")) if path.parent != checkpoints]
    packages = sorted(root.glob(f"results/**/{PACKAGE}"))
    described = [
        path
        for package in packages
        for end in ("*.csv", "*.parquet", PACKAGE)
        for path in sorted(package.parent.glob(end))
    ]
    return {
        "images": [(root / "data/images.safetensors", images(root / "data/images.safetensors"))],
        "checkpoints": [(path, manifold(path)) for path in sorted(checkpoints.glob("*.safetensors"))],
        "tensors of stages": [(path, tensors(path)) for path in of_stages],
        "tables": [(path, table(path)) for path in described],
        "state of a training": [(path, state(path, resume, epoch)) for path in (resume, epoch)],
        "records of jobs": [(path, record(path)) for path in sorted(root.glob("logs/**/*.record.json"))],
        "journal of ended jobs": [(ended, journal(with_journal, entries))],
        "dvc.lock": [(root / "dvc.lock", lock_file(root, entries))],
        "copy of dvc.lock": [(copy, copied_lock(root, entries))],
        ".latent-atlas/origins.json": [(root / ".latent-atlas/origins.json", origins(root, rules))],
    }


KINDS = (
    "images", "checkpoints", "tensors of stages", "tables", "state of a training", "records of jobs",
    "journal of ended jobs", "dvc.lock", "copy of dvc.lock", ".latent-atlas/origins.json",
)  # fmt: skip


def damages(whole: bytes, flips: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Flipped bits, and a tenth as many overwritten blocks and lost ends."""
    for _ in range(flips):
        place = chance.randrange(8 * len(whole))
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        yield f"bit {place}", bytes(changed)
    for number in range(max(1, flips // 10)):
        size = min(len(whole), chance.choice((4, 16, 64, 512)))
        start = chance.randrange(len(whole) - size + 1)
        block = bytes(size) if number % 2 else chance.randbytes(size)
        yield f"{size} bytes at {start}", whole[:start] + block + whole[start + size :]
        yield f"cut at {start}", whole[:start]


@pytest.mark.parametrize("flips", [100, pytest.param(1000, marks=pytest.mark.faults)])
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits(
    kind: str,
    flips: int,
    kinds: dict[str, list[tuple[Path, Reader]]],
    count: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert set(kinds) == set(KINDS)
    chance = random.Random(f"{kind} {flips}")  # noqa: S311
    counted: Counter[str] = Counter()
    wrong = []
    caplog.set_level(logging.CRITICAL)
    files = kinds[kind]
    expectations = [read() for _, read in files]
    assert None not in expectations
    originals = [path.read_bytes() for path, _ in files]
    for number, (path, read) in enumerate(files):
        whole, expected = originals[number], expectations[number]
        share = len(range(number, flips, len(files)))  # of the flips, which the files of a kind share
        for how, changed in damages(whole, share, chance):
            if changed == whole:  # zeros over zeros
                continue
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(changed)
            try:
                found = read()
            except (LatentAtlasError, VersioningError) as error:
                one = "\n" not in str(error) and path.name in str(error)
                outcome = "refused" if one else f"an unclear message: {error}"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            else:
                outcome = "damage said, made anew" if found is None else "equal" if found == expected else "changed"
                if outcome == "equal" and path.name in CACHES and path.read_bytes() == whole != changed:
                    outcome = "made anew"
            counted[outcome if outcome in OUTCOMES else "wrong"] += 1
            wrong += [] if outcome in OUTCOMES else [f"{path.name}, {how}: {outcome[:300]}"]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)
    count(f"bit flips, {flips:,} of {kind}", cases=counted.total(), **counted)
    assert not wrong, f"{len(wrong)} of {counted.total()}:\n" + "\n".join(wrong[:20])


OUTCOMES = ("refused", "damage said, made anew", "made anew", "equal")

"""Names of files that a shell reads otherwise, in both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from repository import Repository

from latent_atlas.models.registry import build

pytestmark = pytest.mark.engines

NAMES = ("their weights (1).pth", "$(touch TRAP).pth", 'it\'s "q".pth')


def test_state_dicts_come_in_whatever_their_names(tmp_path: Path) -> None:
    study = Repository.make(tmp_path / "study")
    options = {"widths": [16, 8]}
    entries = {}
    for number, name in enumerate(NAMES):
        torch.save(build("fully_connected", (1, 8, 8), 4, options).state_dict(), study.root / name)
        entry = {"architecture": "fully_connected", "latent_dim": 4, "options": {"widths": [16, 8]}, "state_dict": name}
        entries[f"t{number}"] = entry
    codes = 'its "codes" $(touch TRAP).npz'
    np.savez(study.root / codes, train=np.ones((200, 4)), test=np.ones((200, 4)))
    entries["t0"] |= {"adapter": "decoder_only", "codes": codes}
    study.edit_params(lambda values: values["models"].update(entries))
    checkpoints = [f"results/checkpoints/t{number}.safetensors" for number in range(len(NAMES))]
    study.snakemake(*checkpoints)
    study.run("latent-atlas", "pipeline")
    stages = [f"import_-t{number}" for number in range(len(NAMES))]
    assert "up to date" in study.run("dvc", "status", *stages).stdout
    before = [(study.root / path).read_bytes() for path in checkpoints]
    for stage in stages:
        study.repro("--single-item", "--force", stage)
    assert [(study.root / path).read_bytes() for path in checkpoints] == before
    assert not (study.root / "TRAP").exists()


def test_options_may_hold_what_engines_fill_in(tmp_path: Path) -> None:
    study = Repository.make(tmp_path / "study")
    (study.root / "mine.py").write_text(
        "from pathlib import Path\n"
        "from latent_atlas.models.architectures.fully_connected import FullyConnectedAutoencoder\n"
        "def net(shape, k, note):\n"
        "    Path('note.txt').write_text(note)\n"
        "    return FullyConnectedAutoencoder(shape, k, widths=(16, 8))\n"
    )
    note = "{manifold} {foo} {input} {{a}} {b,c} {} ${x} $(touch TRAP) `touch TRAP` <b>"
    entry = {"architecture": "mine:net", "latent_dim": 4, "options": {"note": note}}
    study.edit_params(lambda values: values["models"].update(odd=entry))
    study.snakemake("results/checkpoints/odd.safetensors")
    assert (study.root / "note.txt").read_text() == note
    study.run("latent-atlas", "pipeline")
    assert "up to date" in study.run("dvc", "status", "train-odd").stdout
    assert not (study.root / "TRAP").exists()

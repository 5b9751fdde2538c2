"""Networks of users through the stages: trained and measured where they are right, else refused before anything."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import Result
from support import Study
from surfaces import measure, succeeded

from latent_atlas.geometry.manifold import Autoencoder, load_manifold

HEAD = """
import math
import torch
import torch.nn.functional as F
from torch import nn

class Base(nn.Module):
    def __init__(self, shape, k, h=16):
        super().__init__()
        self.s, p = tuple(shape), math.prod(shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(p, h), nn.ELU(), nn.Linear(h, k))
        self.decoder = self.dec(k, h, p)
    def dec(self, k, h, p):
        return nn.Sequential(nn.Linear(k, h), nn.ELU(), nn.Linear(h, p), nn.Sigmoid(), nn.Unflatten(1, self.s))
    def forward(self, x):
        return self.decoder(self.encoder(x))

class Convolutional(nn.Module):
    def __init__(self, k, last):
        super().__init__()
        self.c, self.l, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(512, k), last
    def forward(self, x):
        return self.last(self.c(x))
"""
RIGHT = {
    "view after a convolution": """
        class Enc(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.c, self.l = nn.Conv2d(1, 8, 3), nn.Linear(288, k)
            def forward(self, x):
                x = self.c(x)
                return self.l(x.view(x.size(0), -1))
        class M(Base):
            def __init__(self, shape, k):
                super().__init__(shape, k)
                self.encoder = Enc(k)
        """,
    "tied weights": """
        class D(nn.Module):
            def __init__(self, lin, s):
                super().__init__()
                self.lin, self.bias, self.s = lin, nn.Parameter(torch.zeros(lin.in_features)), s
            def forward(self, z):
                return torch.sigmoid(F.linear(z, self.lin.weight.t(), self.bias)).reshape(-1, *self.s)
        class M(Base):
            def __init__(self, shape, k):
                super().__init__(shape, k)
                lin = nn.Linear(math.prod(shape), k)
                self.encoder, self.decoder = nn.Sequential(nn.Flatten(), lin), D(lin, self.s)
        """,
    "parts named twice": """
        class M(Base):
            def __init__(self, shape, k):
                super().__init__(shape, k)
                self.net = nn.Sequential(self.encoder, self.decoder)
            def forward(self, x):
                return self.net(x)
        """,
    "old weight norm": """
        from torch.nn.utils import weight_norm
        class M(Base):
            def dec(self, k, h, p):
                return nn.Sequential(weight_norm(nn.Linear(k, h)), nn.ELU(), nn.Linear(h, p), nn.Unflatten(1, self.s))
        """,
    "squeezed codes": """
        class Enc(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.c = nn.Conv2d(1, k, 8)
            def forward(self, x):
                return self.c(x).squeeze()
        class M(Base):
            def __init__(self, shape, k):
                super().__init__(shape, k)
                self.encoder = Enc(k)
        """,
}
SAID = {
    "MaxUnpool": ("""
        class D(nn.Module):
            def __init__(self, k, s):
                super().__init__()
                self.a, self.u, self.c = nn.Linear(k, 16), nn.MaxUnpool2d(2), nn.Conv2d(1, 1, 3, padding=1)
            def forward(self, z):
                i = torch.arange(16).view(4, 4)
                i = (i // 4) * 16 + (i % 4) * 2
                return torch.sigmoid(self.c(self.u(self.a(z).view(-1, 1, 4, 4), i.expand(len(z), 1, 4, 4))))
        class M(Base):
            def dec(self, k, h, p):
                return D(k, self.s)
        """, "train", "an operation of the network in its layer decoder.u (MaxUnpool2d) has no deterministic form"),
    "a cast": ("""
        class D(nn.Module):
            def __init__(self, k, p, s):
                super().__init__()
                self.a, self.s = nn.Linear(k, p), s
            def forward(self, z):
                return torch.sigmoid(self.a(z.float())).reshape(-1, *self.s)
        class M(Base):
            def dec(self, k, h, p):
                return D(k, p, self.s)
        """, "train", "it casts numbers to a narrower type"),
    "a branch": ("""
        class D(nn.Module):
            def __init__(self, k, p, s):
                super().__init__()
                self.a, self.s = nn.Linear(k, p), s
            def forward(self, z):
                if z.abs().max().item() > 1e6:
                    z = z.clamp(-1e6, 1e6)
                return torch.sigmoid(self.a(z)).reshape(-1, *self.s)
        class M(Base):
            def dec(self, k, h, p):
                return D(k, p, self.s)
        """, "jacobian", "decoder are computed column by column in forward mode, which is slower"),
}  # fmt: skip
WRONG = {
    "sigmoid in forward": ("""
        class M(Base):
            def forward(self, x):
                return torch.sigmoid(super().forward(x))
        """, "error: m (M): its forward(x) differs from decoder(encoder(x)), by up to 0."),
    "no channel": ("""
        class M(Base):
            def forward(self, x):
                return super().forward(x)[:, 0]
        """, "needed: reconstructions of just that shape, 3 x 1 x 8 x 8"),
    "decoder without a channel": ("""
        class M(Base):
            def dec(self, k, h, p):
                return nn.Sequential(nn.Linear(k, p), nn.Sigmoid(), nn.Unflatten(1, self.s[1:]))
        """, "its forward gave a float32 tensor of 3 x 8 x 8 for images of 3 x 1 x 8 x 8"),
    "two channels": ("""
        class M(Base):
            def dec(self, k, h, p):
                return nn.Sequential(nn.Linear(k, 2 * p), nn.Sigmoid(), nn.Unflatten(1, (2, *self.s[1:])))
            def forward(self, x):
                return super().forward(x)[:, :1]
        """, "its decoder gave a float32 tensor of 3 x 2 x 8 x 8"),
    "a module that is missing": ("""
        from a_helper_that_is_elsewhere import block
        class M(Base):
            pass
        """, "error: architecture 'NAME:M': no module named 'a_helper_that_is_elsewhere'; NAME imports it ("),
    "a fault in the module": ("""
        1 / 0
        """, "the import of NAME raises ZeroDivisionError: division by zero ("),
    "a fault in __init__": ("""
        class M(Base):
            def __init__(self, shape, k):
                super().__init__(shape, k)
                self.depth = len(3)
        """, "is called with (1, 8, 8), 3 and raises TypeError: object of type 'int' has no len() ("),
    "a fault in forward": ("""
        class M(Base):
            def forward(self, x):
                return self.missing(x)
        """, "its forward raised AttributeError"),
}  # fmt: skip


@pytest.fixture
def study_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Study]:
    """A study whose one model has the class M of some code."""

    def make(code: str) -> Study:
        name = f"theirs_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{name}.py").write_text(HEAD + textwrap.dedent(code))
        monkeypatch.syspath_prepend(tmp_path)
        study = Study(tmp_path)
        study.edit("models", {"m": {"architecture": f"{name}:M", "latent_dim": 3}})
        return study

    return make


def train(study: Study, images: Path) -> Result:
    return study.run(*study.train_arguments("m", images, "checkpoints"))


@pytest.mark.parametrize("kind", RIGHT)
def test_a_network_that_is_right_is_trained_and_measured(
    kind: str, study_of: Callable[[str], Study], digits_file: Path
) -> None:
    study = study_of(RIGHT[kind])
    succeeded(done := train(study, digits_file))
    assert "warning" not in done.stderr.replace("warning: it has learned little", "")
    succeeded(measure(study, "jacobian", "m", digits_file))
    table = pd.read_parquet(study.folder / "results" / "jacobian" / "m" / "spectra.parquet")
    assert table.notna().any(axis=None)
    surface = load_manifold(
        study.folder / "checkpoints" / "m.safetensors", {study.values["models"]["m"]["architecture"]}
    )
    assert isinstance(surface, Autoencoder)
    if kind == "tied weights":
        assert surface.model.encoder[1].weight is surface.model.decoder.lin.weight  # type: ignore[union-attr, index]


@pytest.mark.parametrize("kind", SAID)
def test_what_is_done_otherwise_is_said_once(kind: str, study_of: Callable[[str], Study], digits_file: Path) -> None:
    code, stage, words = SAID[kind]
    study = study_of(code)
    succeeded(done := train(study, digits_file))
    if stage == "jacobian":
        succeeded(done := measure(study, "jacobian", "m", digits_file))
    assert done.stderr.count(words) == 1, done.stderr


@pytest.mark.parametrize("kind", WRONG)
def test_a_network_that_is_wrong_is_refused_before_training(
    kind: str, study_of: Callable[[str], Study], digits_file: Path
) -> None:
    code, words = WRONG[kind]
    study = study_of(code)
    done = train(study, digits_file)
    assert done.exit_code == 1, done.stderr
    name = study.values["models"]["m"]["architecture"].partition(":")[0]
    last = done.stderr.splitlines()[-1]
    assert words.replace("NAME", name) in last
    if "fault" in kind or "missing" in kind:
        assert f"{name}.py" in last or "forward" in last
    assert not (study.folder / "checkpoints").exists()


def test_a_network_that_is_wrong_is_not_imported(study_of: Callable[[str], Study], digits_file: Path) -> None:
    study = study_of(WRONG["sigmoid in forward"][0])
    name, _, cls = study.values["models"]["m"]["architecture"].partition(":")
    sys.modules.pop(name, None)
    module = __import__(name)
    torch.save(getattr(module, cls)((1, 8, 8), 3).state_dict(), study.folder / "theirs.pth")
    done = study.run("import", "--name", "m", "--images", digits_file, "--state-dict", "theirs.pth",
                     "--checkpoint", "m.safetensors")  # fmt: skip
    assert done.exit_code == 1
    assert "its forward(x) differs" in done.stderr
    assert not (study.folder / "m.safetensors").exists()


def test_a_training_is_not_lost_where_its_outputs_cannot_be_written(
    tmp_path: Path, digits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(tmp_path)
    study.edit("models", {"m": {"architecture": "fully_connected", "latent_dim": 2}})
    monkeypatch.setattr("latent_atlas.models.checkpoints.write_safetensors", lambda *_: 1 / 0)
    assert train(study, digits_file).exit_code == 70
    monkeypatch.undo()
    succeeded(done := train(study, digits_file))
    assert "goes on after epoch 2" in done.stderr
    assert "epoch 1/" not in done.stderr
    assert sorted(path.name for path in (study.folder / "checkpoints").iterdir()) == [
        "curve.csv", "datapackage.json", "m.safetensors", "snapshots.safetensors",
    ]  # fmt: skip

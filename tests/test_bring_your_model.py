"""Bring your model: the examples of docs/models.md as they stand, and users' networks from study to measurement."""

from __future__ import annotations

import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from support import ROOT, Study, options
from surfaces import central_differences, measure, succeeded
from torch import Tensor, nn

import latent_atlas
from latent_atlas.data.images import Images, as_float
from latent_atlas.files import read_safetensors
from latent_atlas.models.registry import build

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")


def blocks(heading: str) -> dict[str, str]:
    """The code blocks below a heading, the last of each language."""
    section = PAGE.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    return dict(re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL))


def bring(study: Study, heading: str) -> dict[str, Any]:
    """Put the example below a heading into a study; its entry of params.yaml."""
    found = blocks(heading)
    file = re.match(r"# (\w+\.py)\n", found["python"])
    assert file is not None
    (study.folder / file.group(1)).write_text(found["python"])
    models = YAML(typ="safe").load(found["yaml"])["models"]
    study.edit("models", models)
    ((_, entry),) = models.items()
    return entry


def import_(study: Study, model: str, images: Path, weights: str) -> None:
    """``latent-atlas import`` into ``checkpoints``."""
    done = study.run(
        *options("import", name=model, images=images, checkpoint=f"checkpoints/{model}.safetensors"),
        *("--state-dict", weights),
    )
    succeeded(done)


class LikeKL(nn.Module):
    """The interface of diffusers' AutoencoderKL, where the package is not installed."""

    def __init__(self, in_channels: int, block_out_channels: tuple[int, ...], latent_channels: int, **_: Any) -> None:
        super().__init__()
        scale = 2 ** (len(block_out_channels) - 1)
        self.into = nn.Conv2d(in_channels, latent_channels, scale, stride=scale)
        self.out = nn.ConvTranspose2d(latent_channels, in_channels, scale, stride=scale)

    def encode(self, x: Tensor) -> Any:
        mean = self.into(x)
        return types.SimpleNamespace(latent_dist=types.SimpleNamespace(mean=mean, mode=lambda: mean))

    def decode(self, z: Tensor) -> Any:
        return types.SimpleNamespace(sample=torch.tanh(self.out(z)))


@pytest.fixture
def _diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import diffusers  # noqa: F401
    except ImportError:
        stand_in = types.ModuleType("diffusers")
        stand_in.AutoencoderKL = LikeKL  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "diffusers", stand_in)


def test_the_vae_of_the_page(study: Study, digits: Images, digits_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = bring(study, "A variational autoencoder")
    monkeypatch.syspath_prepend(str(study.folder))
    torch.manual_seed(1)
    network = build(entry["architecture"], digits.shape, entry["latent_dim"], {}, entry["adapter"]).eval()
    torch.save({"model": network.state_dict()}, study.folder / entry["state_dict"])
    import_(study, "vae", digits_file, entry["state_dict"])
    succeeded(measure(study, "jacobian", "vae", digits_file))
    surface = latent_atlas.load(study.folder / "checkpoints" / "vae.safetensors", trust={entry["architecture"]})
    x = as_float(digits.test[:5])
    with torch.no_grad():
        mean, _ = network.model.encode(x)  # type: ignore[operator, union-attr]
        assert torch.equal(surface.encode(x), mean)
    metadata, _ = read_safetensors(study.folder / "checkpoints" / "vae.safetensors")
    assert (metadata["adapter"], metadata["latent_shape"]) == ("vae", "[8]")


@pytest.mark.usefixtures("_diffusers")
def test_the_autoencoder_of_diffusers_of_the_page(
    study: Study, digits: Images, digits_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    entry = bring(study, "An AutoencoderKL of diffusers")
    monkeypatch.syspath_prepend(str(study.folder))
    torch.manual_seed(1)
    network = build(entry["architecture"], digits.shape, entry["latent_dim"], {}, entry["adapter"]).eval()
    (study.folder / "vae").mkdir()
    save_file(network.state_dict(), study.folder / entry["state_dict"])
    import_(study, "kl", digits_file, entry["state_dict"])
    loaded = latent_atlas.load(study.folder / "checkpoints" / "kl.safetensors", trust={entry["architecture"]})
    names: dict[str, Any] = {"kl": network.model, "x": as_float(digits.test[:3])}
    exec(blocks("The same in Python")["python"], names)  # noqa: S102
    surface, x = names["surface"], names["x"]
    assert torch.equal(surface.encode(x), loaded.encode(x))
    assert torch.equal(surface.reconstruct(x), loaded.reconstruct(x))
    wide = surface.to(torch.float64)
    z = wide.encode(x.double())
    torch.testing.assert_close(wide.jacobian(z)[0], central_differences(wide, z[0]), rtol=0, atol=1e-8)
    metadata, _ = read_safetensors(study.folder / "checkpoints" / "kl.safetensors")
    assert metadata["latent_shape"] == "[4, 4, 4]"


def test_the_transformer_of_the_page(digits: Images) -> None:
    names: dict[str, Any] = {"images": digits.train[:50].numpy() / 255, "latent_atlas": latent_atlas}
    exec(blocks("Transformers of scikit-learn")["python"], names)  # noqa: S102
    assert names["surface"].reconstruct(as_float(digits.test[:2]).double()).shape == (2, 1, 8, 8)


HEAD = """
import math
from torch import nn

class Base(nn.Module):
    def __init__(self, shape, k):
        super().__init__()
        p = math.prod(shape)
        self.encoder = self.enc(shape, k)
        self.decoder = nn.Sequential(nn.Linear(k, 16), nn.ELU(), nn.Linear(16, p), nn.Sigmoid(), nn.Unflatten(1, shape))
    def forward(self, x):
        return self.decoder(self.encoder(x))
"""
NETWORKS = {
    "vae_tuple": """
class Enc(nn.Module):
    def __init__(self, p, k):
        super().__init__()
        self.m, self.v = nn.Linear(p, k), nn.Linear(p, k)
    def forward(self, x):
        x = x.flatten(1)
        return self.m(x), self.v(x)
class M(Base):
    def enc(self, shape, k): return Enc(math.prod(shape), k)
    def forward(self, x):
        m, v = self.encoder(x)
        return self.decoder(m), m, v
""",
    "squeezed_codes": """
class Enc(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.c = nn.Conv2d(1, k, 8)
    def forward(self, x): return self.c(x).squeeze()
class M(Base):
    def enc(self, shape, k): return Enc(k)
""",
    "codes_with_a_shape": """
class M(Base):
    def __init__(self, shape, k):
        super().__init__(shape, k)
        self.decoder = nn.Sequential(nn.ConvTranspose2d(k // 4, 1, 4, stride=4), nn.Sigmoid())
    def enc(self, shape, k): return nn.Conv2d(1, k // 4, 4, stride=4)
""",
}


@pytest.mark.parametrize("name", NETWORKS)
def test_users_networks_are_trained_and_measured(
    name: str, study: Study, digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"mine_{name}"
    (study.folder / f"{module}.py").write_text(HEAD + NETWORKS[name])
    monkeypatch.syspath_prepend(str(study.folder))
    k = 4
    study.edit("models", {"m": {"architecture": f"{module}:M", "latent_dim": k, "training": {"epochs": 2}}})
    study.edit("sample.size", 10)
    images = tmp_path / "few.safetensors"
    digits.take(100).save(images)
    succeeded(study.run(*study.train_arguments("m", images, "checkpoints")))
    for stage in ("jacobian", "reconstruct", "tangents"):
        succeeded(measure(study, stage, "m", images))
    errors = pd.read_parquet(next((study.folder / "results" / "reconstruct" / "m").glob("errors.parquet")))
    assert np.isfinite(errors.select_dtypes("number").to_numpy()).all()
    spectra = pd.read_csv(study.folder / "results" / "jacobian" / "m" / "examples.csv")
    assert set(spectra["latent_dim"]) == {k}
    surface = latent_atlas.load(study.folder / "checkpoints" / "m.safetensors", trust=f"{module}:M")
    x = as_float(digits.test[:3])
    assert surface.encode(x).shape == (3, k)
    torch.testing.assert_close(surface.encode(x)[:1], surface.encode(x[:1]))
    wide = surface.to(torch.float64)
    z = wide.encode(x.double())
    torch.testing.assert_close(wide.jacobian(z)[0], central_differences(wide, z[0]), rtol=0, atol=1e-8)
    assert math.isfinite(float(read_safetensors(study.folder / "checkpoints" / "m.safetensors")[0]["test_mse"]))

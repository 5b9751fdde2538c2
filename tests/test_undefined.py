"""A study in which much is undefined: it runs to the page, and its tables say what is undefined, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from repository import make_small
from support import Study

from latent_atlas.files import read_table

# Decoders of 4 x 4 images: of a coordinate that does nothing, of one that moves nothing, of a BatchNorm whose scale is
# zero, and of as many coordinates as pixels.
NETWORKS = '''
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, input_shape, latent_dim, scale=(1.0,)):
        super().__init__()
        pixels = 16
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim))
        norm = nn.BatchNorm1d(latent_dim, affine=False)
        self.decoder = nn.Sequential(
            norm, Scale(scale), nn.Linear(latent_dim, pixels), nn.Sigmoid(), nn.Unflatten(1, tuple(input_shape))
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Scale(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, z):
        return z * self.scale
'''
MODELS = {
    "dead": {"latent_dim": 3, "options": {"scale": [1.0, 1.0, 0.0]}},
    "still": {"latent_dim": 2, "options": {"scale": [0.0, 0.0]}},
    "whole": {"latent_dim": 16},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the study: of 4 x 4 images of one class, some of one colour."""
    folder = tmp_path_factory.mktemp("undefined")
    (folder / "networks.py").write_text(NETWORKS)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    pixels[::4] = np.arange(15, dtype=np.uint8)[:, None, None]
    np.savez(folder / "data.npz", train=pixels[12:], test=pixels[:12])
    study = Study(folder)
    make_small(study.values)
    study.values["dataset"] = {"arrays": "data.npz"}
    study.values["models"] = {name: {"architecture": "networks:Network"} | entry for name, entry in MODELS.items()}
    study.values["pca"]["latent_dims"] = [2, 16]
    study.values["examples"] = {"zero": "test/0", "one": "test/1"}
    study.write()
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "results"


@pytest.mark.engines
def test_x(results):
    assert 0

"""A study in which much is undefined: it runs to the page, and its tables say what is undefined, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from repository import make_small
from support import Study

from latent_atlas.files import read_table

# Decoders of 4 x 4 images: of a coordinate that does nothing, of one that moves nothing, of a BatchNorm whose scale is
# zero, and of as many coordinates as pixels.
NETWORKS = """
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
"""
MODELS: dict[str, dict[str, Any]] = {
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


pytestmark = pytest.mark.engines


def of(results: Path, file: str, **keys: str) -> pd.DataFrame:
    """The rows of a table of the results in which the columns have these values."""
    table = read_table(results / file)
    for column, value in keys.items():
        table = table[table[column] == value]
    assert len(table)
    return table


def test_a_dead_coordinate(results: Path) -> None:
    spectra = of(results, "jacobian/examples.csv", manifold="dead", dtype="float64")
    assert (spectra["rank"] == 2).all()
    assert (spectra["sigma_min"] == 0).all()
    assert np.isposinf(spectra["condition_number"]).all()
    assert np.isneginf(spectra["log_volume"]).all()
    (summary,) = of(results, "jacobian/summary.csv", model="dead").to_dict("records")
    assert (summary["full_rank_share"], summary["rank_min"], summary["undefined"]) == (0, 2, 10)
    assert np.isnan([summary["condition_number_mean"], summary["log_volume_mean"]]).all()
    assert summary["effective_rank_per_sd_mean"] < 2.001
    angles = of(results, "invariance/examples.csv", manifold="dead")
    assert (angles["rank"] == 2).all()
    assert (angles["chance_share"] == 2 / 16).all()


def test_a_decoder_of_one_image(results: Path) -> None:
    spectra = of(results, "jacobian/examples.csv", manifold="still", dtype="float64")
    assert set(spectra["reason"]) == {"rank zero"}
    assert spectra[["effective_rank", "participation_ratio"]].isna().all(axis=None)
    angles = of(results, "invariance/examples.csv", manifold="still")
    assert (angles[["angle_deg", "chance_deg"]] == 90).all(axis=None)
    assert (angles[["share", "chance_share", "score"]].abs() < 1e-30).all(axis=None)
    shared = of(results, "tangents/shared.csv", a="dead", b="still")
    assert set(shared["reason"]) == {"tangent space of rank zero"}
    assert shared[["shared_mean", "chance"]].isna().all(axis=None)
    pairs = of(results, "geodesics/pairs.csv", manifold="still")
    assert (pairs[["line_length", "length", "energy"]] == 0).all(axis=None)
    assert pairs[["ratio_to_line", "ratio_to_chord"]].isna().all(axis=None)
    assert pairs["converged"].all()
    (path,) = of(results, "interpolate/summary.csv", manifold="still").to_dict("records")
    assert path["path_length"] == 0
    assert np.isnan(path["length_ratio"])


def test_as_many_coordinates_as_pixels(results: Path) -> None:
    for model in ("whole", "pca16"):
        angles = of(results, "invariance/examples.csv", manifold=model)
        assert set(angles["reason"]) == {"the tangent space is all of pixel space"}
        assert (angles["angle_deg"] < 1e-6).all()
        assert (angles["chance_deg"] == 0).all()
        assert (angles["share"] == 1).all()
        assert angles["score"].isna().all()
    assert of(results, "reconstruct/sample.csv", model="pca16")["encoder_gap_mean"].isna().all()  # of no error


def test_the_page_says_so(results: Path) -> None:
    content = json.loads((results / "report" / "data.json").read_text("utf-8"))
    nothing = "No model of this study has learned anything that could be judged."
    assert [answer["sentence"]["template"] for answer in content["answers"]] == [nothing] * 3
    overview = content["sections"][0]
    assert [warning.split()[0] for warning in overview["warnings"]] == list(MODELS)
    html = (results / "report" / "index.html").read_text("utf-8")
    assert not re.search(r">[^<]*\b(nan|NaN)\b[^<]*<", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))

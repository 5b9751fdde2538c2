"""What has to be touched to add a dataset, an architecture, an objective, a transformation and a stage."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from repository import Repository

DATASET = """
import torch

from latent_atlas.data.images import Images

DATASETS = {"stripes": (40, 20, (1, 8, 8))}


def get(name, colour, folder, scratch, log):
    pixels = torch.randint(256, (60, 1, 8, 1), generator=torch.Generator().manual_seed(0)).expand(-1, -1, 8, 8)
    pixels, labels = pixels.to(torch.uint8).contiguous(), torch.arange(60) % 2
    return Images(name, pixels[:40], labels[:40], pixels[40:], labels[40:], ("even", "odd"))
"""
ARCHITECTURE = """
import math

from torch import nn


class TwoLayerAutoencoder(nn.Module):
    def __init__(self, input_shape, latent_dim):
        super().__init__()
        pixels = math.prod(input_shape)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim))
        self.decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Sigmoid(), nn.Unflatten(1, input_shape))

    def forward(self, x):
        return self.decoder(self.encoder(x))
"""
OBJECTIVE = """
def loss(model, x, generator):
    error = (model(x) - x).abs().mean()
    return error, {"squared": error.detach() ** 2}
"""
STAGE = '''
"""mean_pixel: the mean of each split."""

from pathlib import Path

import pandas as pd

from latent_atlas.data.images import SPLITS, Images
from latent_atlas.files import write_tables


def mean_pixel(params, images: Path, folder: Path) -> None:
    """The mean pixel of each split.

    Parameters
    ----------
    folder : folder
        Where the table is written.
    """
    data = Images.load(images)
    means = [data.pixels(split).double().mean().item() for split in SPLITS]
    write_tables(folder, {"summary.csv": pd.DataFrame({"split": SPLITS, "mean": means})})
'''
RULE = """
rule mean_pixel:
    input:
        images=IMAGES,
        sources=sources("mean_pixel"),
    output:
        table="results/mean_pixel/summary.csv",
        package="results/mean_pixel/datapackage.json",
    log:
        "logs/mean_pixel.log",
    resources:
        **requests("mean_pixel"),
    shell:
        "latent-atlas mean-pixel --images {input.images} --folder results/mean_pixel --log {log}"
"""
FILES = {
    "src/latent_atlas/data/sources/stripes.py": DATASET,
    "src/latent_atlas/models/architectures/two_layer.py": ARCHITECTURE,
    "src/latent_atlas/training/objectives/absolute.py": OBJECTIVE,
    "src/latent_atlas/stages/mean_pixel.py": STAGE,
    "workflow/rules/mean_pixel.smk": RULE,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy of the project to which one thing of each kind was added, with a study of them."""
    copy = Repository.make(tmp_path_factory.mktemp("adding") / "study")
    for file, text in FILES.items():
        (copy.root / file).write_text(text.lstrip())
    copy.replace("Snakefile", 'include: "workflow/rules/report.smk"\n',
                 'include: "workflow/rules/report.smk"\ninclude: "workflow/rules/mean_pixel.smk"\n')  # fmt: skip
    copy.replace("src/latent_atlas/geometry/transformations.py", '        Transformation("rotation"',
                 '        Transformation("fade", "percent", lambda images, step: images * (1 - step / 100)),\n'
                 '        Transformation("rotation"')  # fmt: skip

    def change(values: dict) -> None:
        values["dataset"].update(name="stripes", limit=None)
        values["models"] = {"mine": {"architecture": "two_layer", "latent_dim": 2}}
        values["training"].update(objective="absolute", batch_size=20)
        moves = values["invariance"]
        moves["transformations"] = {"fade": {"step": 5.0}}
        moves["step_study"]["transformations"] = ["fade"]
        moves["epoch_study"]["transformations"] = ["fade"]

    copy.edit_params(change)
    copy.snakemake("results/jacobian/mine/angles.parquet", "results/mean_pixel/summary.csv")
    return copy


def test_each_thing_is_used(study: Repository) -> None:
    means = pd.read_csv(study.root / "results" / "mean_pixel" / "summary.csv").set_index("split")["mean"]
    assert means.between(100, 160).all()  # of the dataset's random bytes
    curve = pd.read_csv(study.root / "results" / "train" / "mine" / "curve.csv")
    assert "squared" in curve  # the metric of the objective
    angles = pd.read_parquet(study.root / "results" / "jacobian" / "mine" / "angles.parquet")
    assert set(angles["transformation"]) == {"fade"}
    assert angles["angle_deg"].notna().all()


def test_the_stage_is_a_command_and_its_output_is_asked_for(study: Repository) -> None:
    assert "mean-pixel" in study.run("latent-atlas", "--help").stdout
    assert "--folder DIRECTORY" in study.run("latent-atlas", "mean-pixel", "--help").stdout
    (study.root / "results" / "mean_pixel" / "summary.csv").unlink()
    assert "mean_pixel" in study.stale_for_snakemake()


def test_its_small_table_is_in_git(study: Repository) -> None:
    study.run("latent-atlas", "pipeline")
    stage = (study.root / "dvc.yaml").read_text().partition("mean_pixel:")[2].partition("\n  pca")[0]
    assert "cache: false" in stage
    assert study.run("git", "check-ignore", "results/mean_pixel/summary.csv", check=False).returncode == 1


@pytest.mark.parametrize("file", ["data/sources/stripes.py", "models/architectures/two_layer.py",
                                  "training/objectives/absolute.py"])  # fmt: skip
def test_an_edit_of_the_file_is_noticed(study: Repository, file: str) -> None:
    path = Path("src/latent_atlas") / file
    before = (study.root / path).read_text()
    (study.root / path).write_text(before + "# edited\n")
    try:
        assert {"fetch", "train-mine"} & study.stale_for_snakemake()
    finally:
        (study.root / path).write_text(before)

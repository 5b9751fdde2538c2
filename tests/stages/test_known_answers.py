"""known_answers: published numbers are obtained from the real data, and one that is not is shown in red."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from support import ROOT, Study, options

from latent_atlas.data.images import Images
from latent_atlas.files import write_tables
from latent_atlas.geometry.manifold import batches
from latent_atlas.geometry.pca import PrincipalComponents
from latent_atlas.geometry.transformations import transformation
from latent_atlas.report import published
from latent_atlas.report.published import DATA, SCALE, TRAINING
from latent_atlas.report.sections import known_answers as sections
from latent_atlas.stages.invariance import tangent_space
from latent_atlas.stages.known_answers import Answer, answers, judged
from latent_atlas.study import schema

COLUMNS = ["what", "kind", "published", "obtained", "difference", "tolerance", "agrees", "source"]
DIMENSIONS = (16, 32, 128)


@pytest.fixture(scope="module")
def results(principal: PrincipalComponents, fashion_mnist: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages before this one find of PCA of the real data, and made-up numbers of fc16."""
    folder = tmp_path_factory.mktemp("known") / "results"
    principal.save(folder / "pca" / "components.safetensors")
    share = principal.variance / principal.total_variance
    spectrum = pd.DataFrame({"variance": principal.variance, "cumulative_share": share.cumsum(0)})
    write_tables(folder / "pca", {"summary.csv": spectrum})
    errors, angles = [], [("fc16", kind, 50.0) for kind in published.STEPS]
    pullover = fashion_mnist.examples({"pullover": published.PLACE}, torch.float64)
    for k in DIMENSIONS:
        flat = principal.subspace(k)
        total = sum(float((flat.reconstruct(x) - x).square().sum()) for x in batches(fashion_mnist.test, flat.dtype))
        errors.append((f"pca{k}", "test", total / fashion_mnist.test.numel()))
        image, space = tangent_space(principal.subspace(k, centred=False), pullover)
        for kind, step in published.STEPS.items():
            displacement = transformation(kind).displacement(image, step)
            angles.append((f"pca{k}_uncentred", kind, float(space.angles_deg(displacement.flatten(1)[None]))))
    table = pd.DataFrame(errors, columns=["manifold", "split", "mse"])
    write_tables(folder / "reconstruct", {"summary.csv": table})
    table = pd.DataFrame(angles, columns=["manifold", "transformation", "angle_deg"]).assign(example="pullover")
    write_tables(folder / "invariance", {"examples.csv": table})
    row = {"manifold": "fc16", "example": "pullover", "dtype": "float64", "sigma_max": 3.0, "sigma_min": 1.5}
    write_tables(folder / "jacobian", {"examples.csv": pd.DataFrame([row | {"condition_number": 2.0, "rank": 16}])})
    return folder


@pytest.fixture
def reference(study: Study) -> Study:
    """A study of the data and of some of the manifolds that numbers were published of."""
    study.edit("dataset.name", "FashionMNIST")
    study.edit("models", {"fc16": {"architecture": "fully_connected", "latent_dim": 16}})
    study.edit("pca.latent_dims", list(DIMENSIONS))
    study.edit("invariance.transformations.shift_y", {"step": 1.0})
    return study


def run(study: Study, results: Path, images: object = "none.safetensors") -> tuple[pd.DataFrame, str]:
    """The table that the stage writes, and what it says."""
    done = study.run(*options("known-answers", results=results, images=images, summary="summary.csv"))
    assert done.exit_code == 0, done.output
    return pd.read_csv(study.folder / "summary.csv"), done.stderr


@pytest.fixture
def images_file(fashion_mnist: Images, tmp_path: Path) -> Path:
    """The real data as fetch writes them."""
    fashion_mnist.save(tmp_path / "images.safetensors")
    return tmp_path / "images.safetensors"


def test_what_follows_from_the_data_is_obtained(reference: Study, results: Path, images_file: Path) -> None:
    table, said = run(reference, results, images_file)
    assert list(table.columns) == COLUMNS
    rows = table[table["kind"] == DATA]
    assert len(rows) == 1 + 3 + 3 + 1 + 9
    assert rows["agrees"].eq(True).all(), rows
    assert rows["obtained"].iloc[0] == pytest.approx(0.184384, abs=5e-7)
    assert (rows["tolerance"][rows["what"].str.startswith("angle")] == 1e-6).all()
    assert "warning" not in said
    others = table[table["kind"] != DATA].set_index("what")
    assert others.groupby("kind")["agrees"].agg(["sum", "size"]).to_dict("index") == {
        TRAINING: {"sum": 5, "size": 5},
        SCALE: {"sum": 0, "size": 2},
    }
    condition = others.loc["condition number of the decoder's Jacobian at pullover, fc16"]
    assert condition[["published", "obtained", "tolerance"]].tolist() == pytest.approx([14.19 / 1.99, 2, 10])


def test_a_number_that_is_not_obtained_is_shown_and_stops_nothing(
    reference: Study, results: Path, images_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PCA2_TEST_MSE", 0.1846)
    table, said = run(reference, results, images_file)
    assert table["agrees"].iloc[0] == False  # noqa: E712
    assert "warning: test MSE of PCA, k = 2, pixels in [-1, 1]: 0.184384" in said
    write_tables(reference.folder / "known_answers", {"summary.csv": table})
    section = sections.section(reference.folder, reference.params)
    assert section is not None
    (warning,) = section.warnings
    assert "k = 2, pixels in [-1, 1]: this study obtains 0.184384" in warning
    assert "the known number is 0.1846" in warning
    assert section.sentences[0].startswith("Of 17 known numbers that follow from the data alone, 16 agree within")
    assert "Of 5 such numbers all agree" in section.sentences[1]
    tables = (*section.tables, *section.folded_tables)
    assert [len(table.rows) for table in tables] == [17, 5, 2]
    assert ["no" in table.words.split("\n") for table in tables] == [True, False, False]
    assert "agrees" not in section.folded_tables[1].columns


@pytest.mark.parametrize(
    ("kind", "known", "obtained", "tolerance", "agrees"),
    [
        (DATA, 3.0, 3.5, 0.5, True),
        (DATA, 3.0, 2.25, 0.5, False),
        (DATA, 84, 84, 0, True),
        (DATA, 84, 85, 0, False),
        (DATA, 3.0, math.nan, 0.5, False),
        (TRAINING, 30.0, 15.0, 2.0, True),
        (TRAINING, 30.0, 60.0, 2.0, True),
        (TRAINING, 30.0, 14.9, 2.0, False),
        (TRAINING, 30.0, 60.1, 2.0, False),
        (TRAINING, 30.0, math.nan, 2.0, False),
        (SCALE, 3.0, 3.0, math.nan, None),
    ],
)
def test_agreement(kind: str, known: float, obtained: float, tolerance: float, agrees: bool | None) -> None:
    (row,) = judged([Answer("x", kind, known, obtained, tolerance, "y")]).to_dict("records")
    assert row["difference"] == pytest.approx(obtained - known, nan_ok=True)
    assert agrees == (None if row["agrees"] is pd.NA else row["agrees"])


@pytest.mark.parametrize(
    ("key", "value"), [("dataset.name", "digits"), ("dataset.limit", 1000), ("dataset.colour", "rgb")]
)
def test_of_other_data_nothing_is_known(reference: Study, key: str, value: Any) -> None:
    """And nothing is read."""
    if value == "digits":
        reference.edit("pca.latent_dims", [16])
    reference.edit(key, value)
    table, _ = run(reference, reference.folder)
    assert list(table.columns) == COLUMNS
    assert table.empty
    assert sections.section(reference.folder, reference.params) is None


@pytest.mark.parametrize(
    ("key", "value", "left"),
    [
        ("examples.pullover", "train/7", {DATA: 7}),
        ("pca.latent_dims", [16], {DATA: 5 + 3, TRAINING: 5, SCALE: 2}),
        ("models", {"fc16": {"architecture": "fully_connected", "latent_dim": 8}}, {DATA: 16}),
        ("models", {"fc16": {"architecture": "convolutional", "latent_dim": 16}}, {DATA: 16}),
        ("invariance.transformations.shift_x.step", 2.0, {DATA: 13, TRAINING: 4, SCALE: 2}),
        ("invariance.transformations.rotation.function", "mine:turn", {DATA: 13, TRAINING: 4, SCALE: 2}),
    ],
)
def test_what_the_study_lacks_is_left_out(
    reference: Study, results: Path, key: str, value: Any, left: dict[str, int]
) -> None:
    reference.edit(key, value)
    found = judged(answers(reference.params, results))
    assert found["kind"].value_counts().to_dict() == left
    assert found["agrees"].dropna().all()


def test_results_of_this_project() -> None:
    """The tables in git; those of trainings are findings and may disagree."""
    params = schema.load(ROOT / "params.yaml")
    found = judged(answers(params, ROOT / "results"))
    assert published.disagreeing(found).empty, published.disagreeing(found)
    assert found["kind"].value_counts().to_dict() == {DATA: 16, TRAINING: 30, SCALE: 12}
    summary = ROOT / "results" / "known_answers" / "summary.csv"
    if summary.exists():
        table = pd.read_csv(summary)
        assert published.disagreeing(table).empty
        assert table["what"].tolist()[1:] == found["what"].tolist()

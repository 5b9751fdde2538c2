"""reconstruct: each manifold's errors and examples, and their joint table and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study
from surfaces import collapsed, measure, succeeded

from latent_atlas.data.images import Images, as_float
from latent_atlas.geometry import reconstruction as quality
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.pca import fit
from latent_atlas.report.sections.reconstruct import gap_sentences

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")


@pytest.fixture(scope="module")
def folder(finished: Study) -> Path:
    """What the stage has written in a whole run."""
    return finished.folder / "results" / "reconstruct"


@pytest.mark.parametrize("name", MANIFOLDS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_errors_are_those_of_the_definition(
    name: str, split: str, folder: Path, finished: Study, digits: Images
) -> None:
    table = pd.read_csv(folder / name / "summary.csv").set_index("split")
    surface = load_manifold(finished.folder / "results" / "checkpoints" / f"{name}.safetensors")
    x = as_float(digits.pixels(split), surface.dtype)
    y = surface.reconstruct(x)
    squared = (x - y).double().square().flatten(1).mean(1)
    assert table.loc[split, "mse"] == pytest.approx(float(squared.mean()), rel=1e-5)
    assert table.loc[split, "psnr_db"] == pytest.approx(float(-10 * squared.mean().log10()), rel=1e-5)
    assert table.loc[split, "ssim"] == pytest.approx(float(quality.ssim(x.double(), y.double()).mean()), abs=1e-4)


def test_error_of_pca_on_its_own_images_is_the_variance_left_over(folder: Path, digits: Images) -> None:
    variance = fit(digits.train).variance
    expected = float(variance[2:].sum()) * 1499 / 1500 / 64
    table = pd.read_csv(folder / "pca2" / "summary.csv").set_index("split")
    assert table.loc["train", "mse"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_examples_are_the_first_images_of_each_split(name: str, folder: Path, finished: Study, digits: Images) -> None:
    examples = load_file(folder / name / "shown.safetensors")
    surface = load_manifold(finished.folder / "results" / "checkpoints" / f"{name}.safetensors")
    for split in ("train", "test"):
        expected = surface.reconstruct(as_float(digits.pixels(split)[:9], surface.dtype)).float()
        assert examples[split].shape == (9, 1, 8, 8)
        torch.testing.assert_close(examples[split], expected, rtol=0, atol=1e-5)


def test_joint_table_holds_every_row_in_the_order_of_the_parameters(folder: Path) -> None:
    joint = pd.read_csv(folder / "summary.csv")
    assert list(zip(joint["manifold"], joint["split"], strict=True)) == [
        (name, split) for name in MANIFOLDS for split in ("train", "test")
    ]
    assert joint.drop_duplicates("manifold")["latent_dim"].tolist() == [2, 4, 2, 2]
    for name in MANIFOLDS:
        own = pd.read_csv(folder / name / "summary.csv")
        assert joint[joint["manifold"] == name]["mse"].tolist() == own["mse"].tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("picture", ["images", "comparison", "fully_connected", "pca", "pca_uncentred"])
def test_pictures_show_something(split: str, picture: str, folder: Path) -> None:
    pixels = matplotlib.image.imread(folder / f"{split}_{picture}.png")
    assert min(pixels.shape[:2]) > 100
    assert pixels.min() < 0.2
    assert pixels.max() == 1


def test_splits_are_shown_apart(folder: Path) -> None:
    for picture in ("images", "comparison", "fully_connected", "pca"):
        assert (folder / f"train_{picture}.png").read_bytes() != (folder / f"test_{picture}.png").read_bytes()


def test_checkpoint_that_holds_no_manifold(study: Study, finished: Study, digits_file: Path) -> None:
    done = study.run(
        "reconstruct", "--name", "x", "--manifold", finished.folder / "results" / "pca" / "components.safetensors",
        "--images", digits_file, "--folder", "out",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "components.safetensors holds no manifold" in done.stderr
    assert not (study.folder / "out").exists()


def test_psnr_is_that_of_the_mean_error(folder: Path) -> None:
    """So that one perfect reconstruction does not make it infinite."""
    joint = pd.read_csv(folder / "summary.csv")
    for row in joint.itertuples():
        assert row.psnr_db == pytest.approx(-10 * math.log10(row.mse), rel=1e-9)


@pytest.mark.parametrize("name", MANIFOLDS)
def test_each_image_of_the_sample_and_the_examples(name: str, folder: Path, finished: Study, digits: Images) -> None:
    table = pd.read_parquet(folder / name / "errors.parquet")
    assert len(table) == 20 + len(finished.params.examples)
    assert table["example"].dropna().tolist() == list(finished.params.examples)
    sample = table[table["example"].isna()]
    assert set(sample["split"]) == {"test"}
    surface = load_manifold(finished.folder / "results" / "checkpoints" / f"{name}.safetensors")
    for row in table.itertuples():
        x = as_float(digits.pixels(row.split)[row.image][None], surface.dtype)
        assert row.mse == pytest.approx(float((x - surface.reconstruct(x)).square().mean()), rel=1e-4)
        assert row.label == digits.classes[int(digits.labels(row.split)[row.image])]


@pytest.mark.parametrize("name", MANIFOLDS)
def test_what_the_encoder_misses_at_each_image(name: str, trained: Study, digits_file: Path) -> None:
    succeeded(measure(trained, "reconstruct", name, digits_file))
    table = pd.read_parquet(trained.folder / "results" / "reconstruct" / name / "errors.parquet")
    assert len(table) == 22
    assert table["converged"].all()
    assert table["residual_angle_deg"].between(89.94, 90).all()
    gap = 1 - table["mse_closest"] / table["mse"]
    assert table["encoder_gap"].to_numpy() == pytest.approx(gap.to_numpy(), abs=1e-9)
    if name.startswith("pca"):
        assert gap.abs().max() < 1e-12
    else:
        assert gap.min() > 0


def test_decoder_that_draws_one_image_only(study: Study, trained: Study, digits_file: Path) -> None:
    collapsed(trained).save(study.folder / "checkpoints" / "fc2.safetensors")
    succeeded(measure(study, "reconstruct", "fc2", digits_file))
    table = pd.read_parquet(study.folder / "results" / "reconstruct" / "fc2" / "errors.parquet")
    assert (table["encoder_gap"] == 0).all()
    assert (table["residual_angle_deg"] == 90).all()
    assert table["converged"].all()


def test_the_gap_over_the_sample(folder: Path, finished: Study) -> None:
    table = pd.read_csv(folder / "sample.csv").set_index("model")
    each = pd.read_parquet(folder / "fc4" / "errors.parquet")
    each = each[each["example"].isna()]
    assert table["encoder_gap_mean"]["fc4"] == pytest.approx(each["encoder_gap"].mean(), rel=1e-9)
    assert (
        table["encoder_gap_mean_low"]["fc4"] < table["encoder_gap_mean"]["fc4"] < table["encoder_gap_mean_high"]["fc4"]
    )
    assert table["converged_share"]["fc4"] == each["converged"].mean()
    assert table["steps_median"]["fc4"] == each["steps"].median()
    assert table["encoder_gap_mean"]["pca2"] == pytest.approx(0, abs=1e-12)
    page = (finished.folder / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "what the encoder misses" in page


def gaps(*rows: tuple[str, float, float]) -> list[str]:
    """The sentences on models with a mean gap and a share of images that converged."""
    table = pd.DataFrame(rows, columns=["model", "encoder_gap_mean", "converged_share"])
    limits = {
        "encoder_gap_mean_low": table["encoder_gap_mean"] - 0.01,
        "encoder_gap_mean_high": table["encoder_gap_mean"],
    }
    return [str(sentence) for sentence in gap_sentences(table.assign(images=1000, **limits), "test")]


def test_gaps_in_words() -> None:
    assert gaps(("a", 0.1, 1.0), ("b", 0.07, 0.995), ("c", 0.3, 0.25)) == [
        "The squared error divides into what the surface cannot draw, the distance to its closest point, and what the "
        "encoder misses. At the 1,000 images of the test split the share of the latter is 7.0% (6.0% to 7.0%) for b, "
        "and 30.0% (29.0% to 30.0%) for c; others lie between.",
        "Where the search for the closest point ends before the residual is orthogonal to the tangent space, the "
        "encoder misses at least what is found. Share of such images: c (75.0%).",
    ]
    (alone,) = gaps(("a", 0.1, 1.0))
    assert alone.endswith("is 10.0% (9.0% to 10.0%) for a.")
    assert gaps(("perfect", math.nan, 1.0)) == []


def test_examples_of_all_manifolds_in_one_table(folder: Path, finished: Study) -> None:
    table = pd.read_csv(folder / "examples.csv")
    assert list(zip(table["manifold"], table["example"], strict=True)) == [
        (name, example) for name in MANIFOLDS for example in finished.params.examples
    ]


def test_over_the_sample(folder: Path) -> None:
    """Means with intervals, classes and pairs of models; the table of whole splits stays what it is."""
    table = pd.read_csv(folder / "sample.csv").set_index("model")
    assert list(table.index) == list(MANIFOLDS)
    for name in MANIFOLDS:
        rows = pd.read_parquet(folder / name / "errors.parquet")
        rows = rows[rows["example"].isna()]
        assert table.loc[name, "mse_mean"] == pytest.approx(rows["mse"].mean())
        assert table.loc[name, "mse_mean_low"] < rows["mse"].mean() < table.loc[name, "mse_mean_high"]
        assert table.loc[name, "ssim_median"] == pytest.approx(rows["ssim"].median())
    pairs = pd.read_csv(folder / "differences.csv").query("quantity == 'mse'").set_index(["a", "b"])
    assert len(pairs) == 6
    assert pairs.loc[("fc2", "fc4"), "difference"] == pytest.approx(
        table.loc["fc2", "mse_mean"] - table.loc["fc4", "mse_mean"]
    )
    classes = pd.read_csv(folder / "by_class.csv")
    assert classes.groupby("model")["images"].sum().to_dict() == dict.fromkeys(MANIFOLDS, 20)
    assert len(pd.read_csv(folder / "differences_by_class.csv")) == 10 * 4 * 6

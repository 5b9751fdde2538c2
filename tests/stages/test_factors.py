"""factors: what manifolds hold of true tangent spaces, as tables, pictures, and a section where factors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options, planned
from surfaces import measure, succeeded

from latent_atlas.data.images import Images
from latent_atlas.geometry.factors import held
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.report.figures.factors import plot_directions, plot_factors
from latent_atlas.report.sections import factors as sections
from latent_atlas.stages.factors_summary import KEYS, VALUES
from latent_atlas.statistics.factors import means

FACTORS = ["x", "y", "rotation", "size", "brightness", "hue"]
MANIFOLDS = ["fc4", "pca3", "pca3_uncentred"]
PIXELS = 3 * 12 * 14


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A tiny study of figures in colour, measured and summarized."""
    study = Study(tmp_path_factory.mktemp("shapes"))
    images = {"name": "shapes", "size": [12, 14], "colour": "rgb", "test_share": 0.5, "options": {"images": 80}}
    study.edit("dataset", images)
    study.edit("models", {"fc4": {"architecture": "fully_connected", "latent_dim": 4}})
    study.edit("pca.latent_dims", [3])
    study.edit("examples", {"pullover": "train/2", "sneaker": "train/3"})
    succeeded(study.run(*options("fetch", images="images.safetensors")))
    succeeded(study.run(*study.train_arguments("fc4", Path("images.safetensors"), "checkpoints")))
    succeeded(study.run(*study.pca_arguments(Path("images.safetensors"), "checkpoints")))
    for name in MANIFOLDS:
        succeeded(measure(study, "factors", name, Path("images.safetensors")))
    succeeded(study.run(*options("factors-summary", folder="results/factors")))
    return study


@pytest.fixture(scope="module")
def rows(measured: Study) -> pd.DataFrame:
    """The table of one manifold."""
    return pd.read_parquet(measured.folder / "results" / "factors" / "fc4" / "factors.parquet")


def test_a_row_for_each_image_and_factor_and_one_for_all(measured: Study, rows: pd.DataFrame) -> None:
    assert list(rows["factor"]) == [*FACTORS, "all"] * 22
    assert list(rows["example"].dropna().unique()) == ["pullover", "sneaker"]
    images = Images.load(measured.folder / "images.safetensors")
    surface = load_manifold(measured.folder / "checkpoints" / "fc4.safetensors", set()).to(torch.float64)
    one = rows[rows["example"] == "pullover"].set_index("factor")
    assert images.train_factors is not None
    found = held(surface, images.train[2:3], ["triangle"], images.train_factors[2:3])
    assert list(one["label"].unique()) == ["triangle"]
    assert one["angle_deg"].iloc[:6].to_numpy() == pytest.approx(found.angles_deg[0].numpy(), abs=1e-9)
    assert one.loc["all", "share"] == pytest.approx(float(found.share), abs=1e-12)
    assert one.loc["all", ["angle_deg", "chance_deg"]].isna().all()
    assert list(one["dimension"]) == [1, 1, 1, 1, 1, 1, 6]
    share = one["share"].to_numpy(float)
    assert one["score"].to_numpy(float) == pytest.approx((share - 4 / PIXELS) / (1 - 4 / PIXELS))


def test_rotation_of_a_ring_is_null_with_a_reason(rows: pd.DataFrame) -> None:
    rings = rows["label"] == "ring"
    zero = rings & (rows["factor"] == "rotation")
    assert zero.sum() == 6
    assert set(rows.loc[zero, "reason"]) == {"zero displacement"}
    assert rows.loc[zero, ["angle_deg", "share", "score"]].isna().all(axis=None)
    together = rows["factor"] == "all"
    assert set(rows.loc[together, "reason"]) == {"several directions"}
    assert rows.loc[~zero & ~together, "reason"].isna().all()
    assert rows.loc[~zero, ["share", "score"]].notna().all(axis=None)
    assert set(rows.loc[rings & together, "dimension"]) == {5}
    assert set(rows.loc[~rings & together, "dimension"]) == {6}


def test_summaries(measured: Study, rows: pd.DataFrame) -> None:
    folder = measured.folder / "results" / "factors"
    summary = pd.read_csv(folder / "summary.csv").set_index(["model", "factor"])
    assert len(summary) == 3 * 7
    sample = rows[rows["example"].isna()].groupby("factor")["score"]
    for factor in (*FACTORS, "all"):
        assert summary.loc[("fc4", factor), "score_mean"] == pytest.approx(sample.mean()[factor])
    assert summary.loc[("fc4", "rotation"), "undefined"] == 5
    assert summary.loc[("fc4", "all"), "undefined"] == 0
    assert summary.loc[("pca3", "all"), "chance_share"] == pytest.approx(3 / PIXELS)
    assert pd.isna(summary.loc[("fc4", "all"), "angle_deg_mean"])
    kinds = pd.read_csv(folder / "by_class.csv").set_index(["model", "factor", "label"])
    of_rings = rows[rows["example"].isna() & (rows["label"] == "ring") & (rows["factor"] == "x")]["score"].mean()
    assert kinds.loc[("fc4", "x", "ring"), "score_mean"] == pytest.approx(of_rings)
    pairs = pd.read_csv(folder / "differences.csv").set_index(["a", "b", "factor"])
    gap = summary.loc[("fc4", "all"), "score_mean"] - summary.loc[("pca3", "all"), "score_mean"]
    assert pairs.loc[("fc4", "pca3", "all"), "difference"] == pytest.approx(gap)


def test_pictures_hold_unit_directions_and_their_components(measured: Study, rows: pd.DataFrame) -> None:
    folder = measured.folder / "results" / "factors"
    stored = load_file(folder / "fc4" / "pictures.safetensors")
    assert stored["true"].shape == stored["held"].shape == (7, 3, 12, 14)
    lengths = stored["true"][1:].flatten(1).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(6), atol=1e-6)
    share = stored["held"][1:].flatten(1).square().sum(1)
    expected = rows[rows["example"] == "pullover"]["share"].iloc[:6].to_numpy()
    assert share.numpy() == pytest.approx(expected, abs=1e-6)
    assert (folder / "factors.svg").exists()
    assert (folder / "directions.png").exists()


def test_the_section_is_of_studies_with_known_factors_only(measured: Study, study: Study) -> None:
    results = measured.folder / "results"
    found = sections.section(results, measured.params)
    assert found is not None
    summary = pd.read_csv(results / "factors" / "summary.csv").set_index(["model", "factor"])
    assert f"fc4 {summary.loc[('fc4', 'all'), 'share_mean']:.1%}" in found.sentences[1]
    assert all("uncentred" not in said for said in found.sentences)
    assert "pca3_uncentred" in found.tables[0].words
    assert "ring" in found.folded_tables[0].columns
    assert len(found.pictures) == 2
    assert sections.section(results, study.params) is None


def test_images_without_factors_are_refused(trained: Study, digits_file: Path) -> None:
    done = measure(trained, "factors", "pca2", digits_file)
    assert done.exit_code == 1
    assert "the factors of digits are not known: name the dataset shapes, or leave this stage out" in done.stderr


def test_the_rules_are_of_studies_with_known_factors_only(measured: Study, study: Study) -> None:
    assert not {"factors", "factors_summary"} & set(planned(study.snakemake("--dry-run")))
    jobs = planned(measured.snakemake("--dry-run"))
    assert (jobs["factors"], jobs["factors_summary"], jobs["report"]) == (3, 1, 1)


def summary_of(**scores: tuple[float, float]) -> pd.DataFrame:
    """Scores of x and of all together by model, with intervals of ± 0.02."""
    rows = [
        {"model": model, "factor": factor, "latent_dim": 2, "images": 9, "chance_share": 0.1, "share_mean": score,
         "share_mean_low": score - 0.02, "share_mean_high": score + 0.02, "score_mean": score,
         "score_mean_low": score - 0.02, "score_mean_high": score + 0.02}
        for model, (first, second) in scores.items() for factor, score in (("x", first), ("y", second), ("all", second))
    ]  # fmt: skip
    return pd.DataFrame(rows)


class TestSentences:
    """What the section says."""

    verdicts = pd.DataFrame(
        [("a", "b", "all", "b is smaller"), ("a", "c", "all", "a is smaller"), ("b", "c", "all", "cannot tell")],
        columns=["a", "b", "factor", "verdict"],
    )

    def test_shares_order_and_least(self) -> None:
        summary = summary_of(a=(0.9, 0.5), b=(0.31, 0.3), c=(0.2, 0.6))
        said = sections.sentences(summary, self.verdicts)
        assert said[0].endswith("that of the derivatives by x, y.")
        assert "c 60.0% (58.0% to 62.0%), chance 10.0%; a 50.0%" in said[1]
        assert said[2].endswith(": c holds more than a; a holds more than b.")
        assert said[3] == "Held least is y by a; y or x, one cannot tell which, by b; x by c."

    def test_what_cannot_be_told(self) -> None:
        said = sections.sentences(summary_of(b=(0.5, 0.5), c=(0.5, 0.5)), self.verdicts)
        assert said[2].endswith("between b and c one cannot tell.")

    def test_nothing_learned(self) -> None:
        assert len(sections.sentences(summary_of(a=(0.5, 0.5)).iloc[:0], self.verdicts)) == 1


def test_means_of_all_together_leave_out_angles() -> None:
    table = pd.DataFrame({"model": "m", "seed": None, "split": "test", "image": range(8), "label": "ring",
                          "latent_dim": 2, "factor": ["x"] * 4 + ["all"] * 4, "angle_deg": [10.0] * 4 + [np.nan] * 4,
                          "share": 0.5, "score": 0.4, "chance_deg": 80.0, "chance_share": 0.1})  # fmt: skip
    found = means(table, VALUES, KEYS).set_index("factor")
    assert found.loc["x", "angle_deg_mean"] == pytest.approx(10)
    assert found.loc["all", "share_mean"] == pytest.approx(0.5)


def test_figures() -> None:
    axes = plot_factors(summary_of(a=(0.9, 0.5), b=(0.3, 0.2)))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "all"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    angles = pd.DataFrame({"manifold": "a", "factor": ["x", "y", "all"], "angle_deg": [12.34, np.nan, np.nan]})
    drawn = plot_directions({"ring": torch.rand(3, 1, 4, 5), "a": torch.rand(3, 1, 4, 5)}, angles)
    words = [text.get_text() for text in drawn.axes[1].texts]
    assert words == ["x", "12.3°", "y", "undefined"]

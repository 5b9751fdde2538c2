"""geodesics: pairs, columns and files of both stages, and what the report says of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study
from surfaces import collapsed, measure, succeeded

from latent_atlas.data.images import Images
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.report.figures.geodesics import plot_gains
from latent_atlas.report.sections import geodesics as sections
from latent_atlas.stages.geodesics_summary import shares

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")
PAIRS = 8


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What both stages have written."""
    for name in MANIFOLDS:
        succeeded(measure(trained, "geodesics", name, digits_file))
    succeeded(trained.run("geodesics-summary", "--folder", "results/geodesics"))
    return trained.folder / "results"


@pytest.fixture(scope="module")
def pairs(results: Path) -> pd.DataFrame:
    """The table of all pairs."""
    return pd.read_csv(results / "geodesics" / "pairs.csv")


class TestStage:
    """Both stages on a small study: one pair of examples, 8 random pairs, 5 nodes."""

    def test_rows_and_columns(self, pairs: pd.DataFrame) -> None:
        assert list(pairs.columns[:7]) == ["manifold", "model", "seed", "latent_dim", "pair", "random", "first"]
        assert pairs["manifold"].tolist() == [name for name in MANIFOLDS for _ in range(PAIRS + 1)]
        named = pairs[~pairs["random"]]
        assert named["pair"].unique().tolist() == ["sneaker_pullover"]
        assert named[["first", "second"]].to_numpy()[0].tolist() == ["train/6", "train/5"]

    def test_random_pairs_are_the_same_for_all_and_no_image_is_in_two(self, pairs: pd.DataFrame) -> None:
        drawn = pairs[pairs["random"]]
        each = [rows["pair"].tolist() for _, rows in drawn.groupby("manifold")]
        assert all(names == each[0] for names in each)
        ends = drawn[drawn["manifold"] == "fc2"][["first", "second"]].to_numpy().ravel()
        assert len(set(ends)) == 2 * PAIRS
        assert all(end.startswith("test/") for end in ends)

    def test_those_of_another_manifold_are_refused(self, results: Path, study: Study) -> None:
        """Also where they were copied with what vouches for them."""
        folder = study.folder / "results" / "geodesics"
        shutil.copytree(results / "geodesics", folder)
        for file in ("pairs.csv", "datapackage.json"):
            shutil.copy(folder / "fc2" / file, folder / "fc4" / file)
        done = study.run("geodesics-summary", "--folder", "results/geodesics")
        assert done.exit_code == 1
        assert "results/geodesics/fc4/pairs.csv is damaged: it is of fc2, not of fc4: delete it and run" in done.output
        for file in ("pairs.csv", "datapackage.json"):
            shutil.copy(results / "geodesics" / "fc4" / file, folder / "fc4" / file)
        shutil.copy(folder / "fc2" / "images.safetensors", folder / "fc4" / "images.safetensors")
        done = study.run("geodesics-summary", "--folder", "results/geodesics")
        assert done.exit_code == 1
        assert "fc4/images.safetensors is damaged: it is of fc2, not of fc4: delete it and run" in done.output
        assert "Traceback" not in done.output

    def test_distances_are_in_order(self, pairs: pd.DataFrame) -> None:
        """No path is shorter than the chord, and no polygon with converged energy longer than that of the line."""
        assert (pairs["polygon_length"] >= pairs["chord"] * (1 - 1e-6)).all()
        assert (pairs["length"] >= pairs["polygon_length"] * (1 - 1e-3)).all()
        assert (pairs["energy"] * 2 >= pairs["polygon_length"] ** 2 * (1 - 1e-6)).all()
        assert pairs["ratio_to_line"].tolist() == pytest.approx((pairs["length"] / pairs["line_length"]).tolist())
        assert (pairs["converged"] == (pairs["relative_gradient"] <= 1e-3)).all()

    def test_ends_are_the_reconstructions(self, results: Path, trained: Study, digits: Images) -> None:
        surface = load_manifold(trained.folder / "checkpoints" / "fc4.safetensors")
        shown = load_file(results / "geodesics" / "fc4" / "images.safetensors")
        expected = surface.reconstruct(digits.train[[6, 5]])
        for path in ("line", "geodesic"):
            assert shown[f"sneaker_pullover_{path}"].shape == (5, 1, 8, 8)
            torch.testing.assert_close(shown[f"sneaker_pullover_{path}"][[0, -1]], expected, rtol=0, atol=1e-6)

    def test_in_a_linear_subspace_nothing_is_gained(self, pairs: pd.DataFrame) -> None:
        flat = pairs[pairs["manifold"].isin(["pca2", "pca2_uncentred"])]
        assert flat["ratio_to_line"].tolist() == pytest.approx([1] * len(flat), abs=1e-12)
        assert flat["ratio_to_chord"].tolist() == pytest.approx([1] * len(flat), abs=1e-12)
        assert flat["converged"].all()
        assert set(flat["start"]) == {"line"}
        assert set(flat["iterations"]) == {0}

    def test_summary_is_of_the_random_pairs(self, results: Path, pairs: pd.DataFrame) -> None:
        summary = pd.read_csv(results / "geodesics" / "summary.csv").set_index("model")
        assert list(summary.index) == list(MANIFOLDS)
        assert set(summary["pairs"]) == {PAIRS}
        rows = pairs[pairs["random"] & (pairs["manifold"] == "fc4")]
        assert summary.loc["fc4", "ratio_to_line_median"] == pytest.approx(rows["ratio_to_line"].median())
        assert summary.loc["fc4", "converged"] == rows["converged"].mean()
        low, high = (summary.loc["fc4", f"ratio_to_line_median_{end}"] for end in ("low", "high"))
        assert low <= summary.loc["fc4", "ratio_to_line_median"] <= high

    def test_differences_are_paired(self, results: Path, pairs: pd.DataFrame) -> None:
        found = pd.read_csv(results / "geodesics" / "differences.csv").set_index(["a", "b", "quantity"])
        drawn = pairs[pairs["random"]].pivot(index="pair", columns="model", values="ratio_to_line")
        row = found.loc["fc2", "fc4", "ratio_to_line"]
        assert row["difference"] == pytest.approx((drawn["fc2"] - drawn["fc4"]).mean())
        assert (row["pairs"], row["low"] <= row["difference"] <= row["high"]) == (PAIRS, True)
        assert found.loc["pca2", "pca2_uncentred", "ratio_to_line"]["verdict"] == "cannot tell"

    def test_one_training_has_no_variation(self, results: Path) -> None:
        variation = pd.read_csv(results / "geodesics" / "variation.csv")
        assert variation.empty
        assert {"model", "quantity", "seeds", "variation"} <= set(variation.columns)

    def test_the_report_says_so(self, results: Path, trained: Study) -> None:
        found = sections.section(results, trained.params)
        assert "Over 8 pairs of images" in found.sentences[0]
        assert found.sentences[-1].endswith("cannot be told from one training of each model.")
        assert len(found.pictures) == 2
        assert len(found.tables) == 1


class TestBadInput:
    """What a stage meets in somebody's data."""

    def test_equal_images(self, trained: Study, digits: Images, tmp_path: Path) -> None:
        """The same picture at two places: a path of no length, and no ratio."""
        same = torch.cat([digits.train[:10], digits.train[5:6].expand(20, -1, -1, -1)])
        images = tmp_path / "images.safetensors"
        labels = digits.train_labels[:30]
        Images("same", same, labels, same[10:], labels[10:], digits.classes).save(images)
        with trained.edited("examples", {"pullover": "train/5", "sneaker": "train/12"}):
            done = trained.run(
                "geodesics", "--name", "fc4", "--manifold", "checkpoints/fc4.safetensors", "--images", images,
                "--folder", tmp_path,
            )  # fmt: skip
        succeeded(done)
        table = pd.read_csv(tmp_path / "pairs.csv")
        assert table["length"].tolist() == [0] * (PAIRS + 1)
        assert table["ratio_to_line"].isna().all()
        assert table["converged"].all()

    def test_a_dead_decoder(self, trained: Study, digits_file: Path, tmp_path: Path) -> None:
        collapsed(trained).save(tmp_path / "dead.safetensors")
        done = trained.run(
            "geodesics", "--name", "fc2", "--manifold", tmp_path / "dead.safetensors", "--images", digits_file,
            "--folder", tmp_path,
        )  # fmt: skip
        succeeded(done)
        table = pd.read_csv(tmp_path / "pairs.csv")
        assert table["length"].tolist() == [0] * (PAIRS + 1)
        assert table["converged"].all()

    def test_more_pairs_than_images(self, trained: Study, digits_file: Path) -> None:
        with trained.edited("dataset", {"arrays": "mine.npz"}), trained.edited("geodesics.pairs", 149):
            done = measure(trained, "geodesics", "fc2", digits_file)
        assert "geodesics.pairs: for 149 pairs 298 images are needed, not 297; choose at most 148" in done.output
        assert done.exit_code == 1


def summary(*rows: tuple[str, float, float, float]) -> pd.DataFrame:
    """Models with their ratio, the share that converged, and the share with the same energy."""
    values = [
        {
            "model": model, "pairs": 50, "converged": converged, "same": same, "stretch_of_codes": 1.5,
            "ratio_to_line_median": ratio, "ratio_to_line_median_low": ratio - 0.01,
            "ratio_to_line_median_high": ratio + 0.01,
        }
        for model, ratio, converged, same in rows
    ]  # fmt: skip
    return pd.DataFrame(values)


class TestFindings:
    """What the page says, as numbers."""

    def test_gains_and_certificates(self) -> None:
        found = sections.findings(summary(("a", 0.9, 1.0, 0.98), ("b", 0.95, 0.4, 0.1), ("c", 0.97, 1.0, 1.0)))
        assert found.pairs == 50
        assert found.most == ("a", *(pytest.approx(x) for x in (0.1, 0.09, 0.11)))
        assert found.least == ("c", *(pytest.approx(x) for x in (0.03, 0.02, 0.04)))
        assert found.unfinished == [("b", 0.4, 1.5)]
        assert found.same == ("a", 0.98)
        said = sections.sentences(found)
        assert said[0].startswith("Over 50 pairs of images, the geodesic is shorter than the decoded line of codes by "
                                  "10.0% (median; 95% interval 9.0% to 11.0%) on a and by 3.0%")  # fmt: skip
        assert said[1].startswith("On b, 40% of the polygons became stationary.")
        numbers = [(one.subject, one.value, one.facts) for sentence in said[1:] for one in sentence.findings]
        assert numbers == [("b", 0.4, {"stretch": 1.5}), ("a", 0.98, {})]

    def test_nothing_gained(self) -> None:
        said = sections.sentences(sections.findings(summary(("a", 0.9995, 1, 1), ("b", 1.0002, 1, 1))))
        assert said[0].endswith("on all models: nothing is gained.")

    def test_what_varies_least(self) -> None:
        rows = [("a", "length", 0.05), ("a", "code_distance", 0.2), ("b", "length", 0.1), ("b", "code_distance", 0.11)]
        table = pd.DataFrame(rows, columns=["model", "quantity", "scaled"])
        table = table.assign(seeds=5, scaled_low=table["scaled"] - 0.02, scaled_high=table["scaled"] + 0.02)
        a, b = sections.steadiest(table)
        assert (a.model, a.seeds, a.quantity, a.variation[0]) == ("a", 5, "length", 0.05)
        assert b.quantity is None
        assert "the length of the geodesic varies least" in sections.steadiest_sentence(a)
        assert "cannot be told" in sections.steadiest_sentence(b)

    def test_shares_over_two_trainings(self) -> None:
        """All trainings count."""
        pairs = pd.DataFrame(
            {"model": "m", "latent_dim": 2, "pair": range(10), "code_distance": 1.0, "code_length": 2.0}
        )
        tables = [
            pairs.assign(manifold=name, ratio_to_line=ratio, converged=converged, other_energy_ratio=other)
            for name, ratio, converged, other in (("m", 0.9, True, 1.0), ("m_seed1", 0.9999, False, 1.01))
        ]
        row = shares(pd.concat(tables)).iloc[0]
        assert (row["seeds"], row["pairs"], row["stretch_of_codes"]) == (2, 10, 2)
        assert row[["converged", "shorter", "same"]].tolist() == [0.5, 0.5, 0.5]


def test_figure() -> None:
    """A box for each model and length; pairs without a chord are left out."""
    table = pd.DataFrame({"model": ["a", "a", "b"], "length": [1.1, 0.0, 3.0], "line_length": [1.2, 0.0, 3.0],
                          "chord": [1.0, 0.0, 3.0]})  # fmt: skip
    gain, chord = plot_gains(table).axes
    assert [text.get_text() for text in gain.get_yticklabels()] == ["a", "b"]
    ends = [np.asarray(line.get_xdata()) for line in gain.lines]
    medians = [x[0] for x in ends if len(x) == 2 and x[0] == x[1]]
    assert {round(float(x), 6) for x in medians} >= {round(1.1 / 1.2, 6), 1.0}
    assert len(chord.lines) == 2 * len(gain.lines) - 1  # two boxes a model, one line at 1

"""tangents_shared and tangents_summary: what manifolds share at each image, over the sample, and what is said of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import subspace_angles
from support import Study, options
from surfaces import collapsed, succeeded

from latent_atlas.data.images import Images
from latent_atlas.files import read_safetensors, write_safetensors
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.report.sections import agreement as sections
from latent_atlas.stages.tangents_summary import BY_CONSTRUCTION, VARIANT, judged
from latent_atlas.statistics.pairs import SHARED

DEGREES = ["smallest_deg", "median_deg", "largest_deg"]


def run(study: Study, images: Path) -> Path:
    """Both stages; the folder with their results."""
    succeeded(
        study.run(
            *options(
                "tangents-shared",
                checkpoints="checkpoints",
                trainings="results/train",
                images=images,
                folder="results/tangents_shared",
            )
        )
    )
    folders = {"measured": "results/tangents_shared", "folder": "results/tangents"}
    succeeded(study.run(*options("tangents-summary", **folders)))
    return study.folder / "results" / "tangents"


def copied(trained: Study, study: Study) -> None:
    """Give a study the manifolds of another."""
    for folder in ("checkpoints", "results/train"):
        shutil.copytree(trained.folder / folder, study.folder / folder)


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What the stages have written of a small study."""
    return run(trained, digits_file)


class TestTables:
    """The tables of a small study: fc2 and fc4, PCA of two dimensions in both variants."""

    def test_angles_are_those_of_scipy(self, results: Path, trained: Study, digits: Images) -> None:
        """At one image of the sample, from Jacobians in float64."""
        table = pd.read_parquet(results.with_name("tangents_shared") / "shared.parquet")
        image = int(table.loc[table["example"].isna(), "image"].iloc[3])
        for a, b in (("fc2", "fc4"), ("fc4", "pca2")):
            spaces = []
            for name in (a, b):
                surface = load_manifold(trained.folder / "checkpoints" / f"{name}.safetensors").to(torch.float64)
                spaces.append(surface.jacobian(surface.encode(digits.test[image : image + 1].double() / 255))[0])
            wanted = subspace_angles(*(space.numpy() for space in spaces))  # radians, largest first
            (row,) = table[
                (table["a"] == a) & (table["b"] == b) & (table["image"] == image) & (table["split"] == "test")
            ].to_dict("records")
            found = [row[column] for column in DEGREES]
            assert found == pytest.approx(np.degrees([wanted[-1], np.median(wanted), wanted[0]]), abs=0.01)
            assert row["shared"] == pytest.approx((np.cos(wanted) ** 2).mean(), abs=1e-5)
            assert row["chance"] == pytest.approx(row["rank_a" if row["rank_a"] > row["rank_b"] else "rank_b"] / 64)

    def test_has_all_pairs_at_all_images(self, results: Path) -> None:
        table = pd.read_parquet(results.with_name("tangents_shared") / "shared.parquet")
        assert len(table) == 6 * (20 + 2)
        assert table.groupby(["a", "b"]).size().tolist() == [22] * 6
        assert set(table["example"].dropna()) == {"pullover", "sneaker"}

    def test_pca_is_the_same_uncentred(self, results: Path) -> None:
        table = pd.read_csv(results / "shared.csv").set_index(["a", "b"])
        twins = table.loc[("pca2", "pca2_uncentred")]
        assert twins["shared_mean"] == pytest.approx(1, abs=1e-12)
        assert twins["largest_deg"] == pytest.approx(0, abs=1e-8)
        one, other = table.loc[("fc2", "pca2")], table.loc[("fc2", "pca2_uncentred")]
        assert one["shared_mean"] == pytest.approx(other["shared_mean"], abs=1e-12)
        assert pd.isna(one["reason"])
        assert other["reason"] == twins["reason"] == VARIANT

    def test_summary_is_over_the_sample(self, results: Path) -> None:
        table = pd.read_parquet(results.with_name("tangents_shared") / "shared.parquet")
        sample = table[table["example"].isna() & (table["a"] == "fc2") & (table["b"] == "fc4")]
        row = pd.read_csv(results / "shared.csv").set_index(["a", "b"]).loc[("fc2", "fc4")]
        assert row["images"] == len(sample) == 20
        assert row["shared_mean"] == pytest.approx(sample["shared"].mean())
        assert row["shared_mean_low"] < row["shared_mean"] < row["shared_mean_high"]
        assert (row["kind"], row["seeds_a"], row["undefined"]) == ("models", 1, 0)
        assert row["chance"] == pytest.approx(4 / 64)

    def test_classes_are_parts_of_the_sample(self, results: Path) -> None:
        whole, parts = (pd.read_csv(results / file) for file in ("shared.csv", "by_class.csv"))
        assert parts["label"].nunique() == 10
        for keys, rows in parts.groupby(["a", "b"]):
            row = whole.set_index(["a", "b"]).loc[keys]
            assert rows["images"].sum() == row["images"]
            assert np.average(rows["shared_mean"], weights=rows["images"]) == pytest.approx(row["shared_mean"])

    def test_training_ends_with_the_finished_model(self, results: Path) -> None:
        table = pd.read_csv(results / "epochs.csv")
        assert table.groupby("model")["epoch"].agg(list).to_dict() == {"fc2": [1, 2], "fc4": [1, 2, 3]}
        last = table.groupby("model").tail(1)
        assert last["shared_mean"].tolist() == pytest.approx([1, 1], abs=1e-9)
        assert last["largest_deg_mean"].tolist() == pytest.approx([0, 0], abs=1e-4)
        assert (table.groupby("model").head(1)["shared_mean"] < 0.999).all()
        assert (table["images"] == 20).all()

    def test_trainings_of_a_model(self, study: Study, trained: Study, digits_file: Path) -> None:
        """Two that are the same."""
        copied(trained, study)
        study.edit("models.fc2.seeds", 2)
        Checkpoint.load(study.folder / "checkpoints/fc2.safetensors").save(
            study.folder / "checkpoints/fc2_seed1.safetensors"
        )
        snapshots = study.folder / "results/train/fc2/snapshots.safetensors"
        other = study.folder / "results/train/fc2_seed1/snapshots.safetensors"
        write_safetensors(other, read_safetensors(snapshots)[1], {"manifold": "fc2_seed1"})
        folder = run(study, digits_file)
        table = pd.read_csv(folder / "shared.csv").set_index(["a", "b"])
        same = table.loc[("fc2", "fc2")]
        assert (same["kind"], same["seeds_a"], same["seeds_b"]) == ("trainings", 2, 2)
        assert [same[column] for column in SHARED] == pytest.approx([1, 1, 1], abs=1e-9)
        assert ("fc4", "fc4") not in table.index
        assert table.loc[("fc2", "fc4"), ["seeds_a", "seeds_b"]].tolist() == [2, 1]
        pairs = pd.read_parquet(folder.with_name("tangents_shared") / "shared.parquet")
        assert pairs.loc[pairs["b"] == "fc2_seed1", ["model_b", "seed_b"]].drop_duplicates().values.tolist() == [
            ["fc2", 1]
        ]
        epochs = pd.read_csv(folder / "epochs.csv")
        assert epochs.groupby("model")["seeds"].unique().map(list).to_dict() == {"fc2": [2], "fc4": [1]}
        section = sections.section(study.folder / "results", study.params)
        assert "? Yes for fc2 (its 2 trainings share 100.0% [100.0%, 100.0%]" in section.sentences[1]

    def test_dead_decoder(self, study: Study, trained: Study, digits_file: Path) -> None:
        """It has no tangent space: null with the reason, and no sentence of it."""
        copied(trained, study)
        collapsed(trained).save(study.folder / "checkpoints" / "fc2.safetensors")
        folder = run(study, digits_file)
        table = pd.read_parquet(folder.with_name("tangents_shared") / "shared.parquet")
        dead = table[table["a"] == "fc2"]
        assert (dead["rank_a"] == 0).all()
        assert dead[["shared", "chance", *DEGREES]].isna().all(axis=None)
        assert set(dead["reason"]) == {"tangent space of rank zero"}
        assert table.loc[table["a"] == "fc4", "reason"].isna().all()
        row = pd.read_csv(folder / "shared.csv").set_index(["a", "b"]).loc[("fc2", "fc4")]
        assert pd.isna(row["shared_mean"])
        assert (row["undefined"], row["reason"]) == (20, "tangent space of rank zero")
        section = sections.section(study.folder / "results", study.params)
        assert "fc2" not in " ".join(section.sentences[:-1])

    def test_kinds_and_reasons(self) -> None:
        pairs = [("a", "a"), ("a", "b"), ("a", "pca2"), ("pca2", "pca4"), ("a", "pca2_uncentred"), ("b", "c")]
        table = pd.DataFrame(pairs, columns=["a", "b"]).assign(reason=[None] * 5 + ["null"])
        found = judged(table, {"pca2": (2, True), "pca4": (4, True), "pca2_uncentred": (2, False)})
        assert found["kind"].tolist() == ["trainings", "models", "pca", "subspaces", "pca", "models"]
        assert found["reason"].isna().tolist() == [True] * 3 + [False] * 3
        assert found["reason"].tolist()[3:] == [BY_CONSTRUCTION, VARIANT, "null"]


def shared(*rows: tuple[str, str, int, float, float, float]) -> pd.DataFrame:
    """A summary of pairs: kind, both names in one, k, and the share with its interval; by chance 0.1."""
    table = pd.DataFrame(
        [(kind, *names.split("-"), k, k, 3, share, low, high, 0.1) for kind, names, k, share, low, high in rows],
        columns=["kind", "a", "b", "latent_dim_a", "latent_dim_b", "seeds_a", "shared_mean", "shared_mean_low",
                 "shared_mean_high", "chance"],
    )  # fmt: skip
    return table


class TestSentences:
    """What is said of the numbers."""

    def test_one_training_cannot_tell(self) -> None:
        said = sections.same_surface(shared(("models", "a-b", 2, 0.9, 0.8, 0.95)))
        assert said.endswith("This study cannot tell: it has one training of each model.")

    @pytest.mark.parametrize(
        ("low", "high", "verdict"),
        [(0.995, 1.0, "Yes"), (0.7, 0.8, "No"), (0.98, 0.995, "Cannot tell"), (np.nan, np.nan, "Cannot tell")],
    )
    def test_two_trainings(self, low: float, high: float, verdict: str) -> None:
        said = sections.same_surface(shared(("trainings", "fcA-fcA", 2, 0.75, low, high)))
        assert f"? {verdict} for fcA (its 3 trainings share 75.0%" in said
        assert ("[70.0%, 80.0%]" in said) == (verdict == "No")
        assert said.endswith("by chance 10.0%).")

    @pytest.mark.parametrize(
        ("low", "high", "words"),
        [(0.6, 0.7, "Two models share more than a model and PCA at k = 2."),
         (0.1, 0.2, "Two models share less than a model and PCA at k = 2."),
         (0.3, 0.5, "Whether two models share more than a model and PCA cannot be told at k = 2.")],
    )  # fmt: skip
    def test_models_against_pca(self, low: float, high: float, words: str) -> None:
        """More only if each pair of models shares more than each with PCA, intervals included."""
        middle = (low + high) / 2
        said = sections.pair_sentences(
            shared(("models", "a-b", 2, middle, low, high), ("pca", "a-p", 2, 0.3, 0.25, 0.35),
                   ("pca", "b-p", 2, 0.4, 0.35, 0.45))
        )  # fmt: skip
        assert said[1:] == [words]
        assert str(said[1].findings[0].relation) in words.replace("cannot be told", "cannot tell")
        assert f"two models share {middle:.1%} [{low:.1%}, {high:.1%}] (a and b)" in said[0]
        assert "a model and PCA share 30.0% [25.0%, 35.0%] (a and p) to 40.0% [35.0%, 45.0%] (b and p)" in said[0]
        assert said[0].endswith("chance is 10.0%.")

    def test_pairs_of_different_dimension_are_not_compared(self) -> None:
        table = shared(("models", "a-b", 2, 0.5, 0.4, 0.6)).assign(latent_dim_b=4)
        assert sections.pair_sentences(table) == []

    def test_first_epoch(self) -> None:
        rows = [("a", 3, 1.0), ("a", 1, 0.6), ("b", 4, 1.0)]
        table = pd.DataFrame(rows, columns=["model", "epoch", "shared_mean"])
        table = table.assign(shared_mean_low=table["shared_mean"] - 0.1, shared_mean_high=table["shared_mean"])
        (said,) = sections.epoch_sentences(table)
        assert said.endswith("shares with the finished model: a 60.0% [50.0%, 60.0%].")
        assert sections.epoch_sentences(table[table["model"] == "b"]) == []

    def test_section(self, results: Path, trained: Study) -> None:
        section = sections.section(results.parent, trained.params)
        assert "This study cannot tell: it has one training of each model." in section.sentences[1]
        assert "uncentred" not in " ".join(section.sentences)
        assert "fc2" in section.tables[0].words
        assert "pca2_uncentred" not in section.tables[0].words
        assert VARIANT in section.folded_tables[0].words
        assert len(section.pictures) == 2

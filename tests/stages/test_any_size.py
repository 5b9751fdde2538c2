"""A study in which one model has more coordinates than are measured one by one: its tables, and what the page says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support import Study, options
from surfaces import measure, succeeded

from latent_atlas.geometry.limits import ACCURATE
from latent_atlas.report import opening
from latent_atlas.report.sections import invariance, jacobian
from latent_atlas.stages.jacobian_summary import accurate
from latent_atlas.study.manifolds import manifolds

PRODUCTS = 22


@pytest.fixture(scope="module")
def measured(trained: Study, digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The stages jacobian and invariance of a model of 4 coordinates, one of 30, and PCA."""
    study = Study(tmp_path_factory.mktemp("any_size"))
    study.edit("examples", {"pullover": "train/5", "sneaker": "train/6"})
    study.edit(
        "models", {"fc4": study.values["models"]["fc4"], "wide": {"architecture": "fully_connected", "latent_dim": 30}}
    )
    study.edit("sample", study.values["sample"] | {"size": 8, "exact_up_to": 20, "products": PRODUCTS})
    for model in study.params.models:
        curve, snapshots = f"results/train/{model}/curve.csv", f"results/train/{model}/snapshots.safetensors"
        files = {"checkpoint": f"checkpoints/{model}.safetensors", "curve": curve, "snapshots": snapshots}
        succeeded(study.run(*options("train", name=model, images=digits_file, **files)))
        more = {"images": digits_file, "folder": f"results/invariance_epochs/{model}"}
        succeeded(study.run(*options("invariance-epochs", name=model, **files, **more)))
        checkpoint = {"checkpoint": f"checkpoints/{model}.safetensors", "folder": f"results/layers/{model}"}
        succeeded(study.run(*options("layers", name=model, **checkpoint)))
    succeeded(study.run(*study.pca_arguments(digits_file, "checkpoints")))
    for name in manifolds(study.params):
        succeeded(measure(study, "jacobian", name, digits_file))
        succeeded(measure(study, "invariance", name, digits_file))
    succeeded(study.run("layers-summary", "--folder", "results/layers"))
    succeeded(study.run("jacobian-summary", "--folder", "results/jacobian"))
    folders = {"jacobians": "results/jacobian", "epochs": "results/invariance_epochs", "folder": "results/invariance"}
    succeeded(study.run(*options("invariance-summary", **folders)))
    return study


def test_tables_have_the_limits_of_that_model_alone(measured: Study) -> None:
    folder = measured.folder / "results"
    own, other = (pd.read_parquet(folder / "jacobian" / name / "spectra.parquet") for name in ("wide", "fc4"))
    assert own["rank"].isna().all()
    assert (own["sigma_max_bound"] < own["sigma_max"]).all()
    assert (own["sigma_max"] <= own["sigma_max_high"]).all()
    assert own["log_volume_error"].gt(0).all()
    assert set(own["products"]) == {2 * PRODUCTS + 2 * 3}  # both ways, and each of the three displacements
    assert not {"products", "rank_low", "sigma_max_bound"} & {*other.columns}
    angles = pd.read_parquet(folder / "jacobian" / "wide" / "angles.parquet")
    assert angles["angle_low_deg"].isna().all()
    known = angles.dropna(subset=["angle_deg"])
    assert (known["residual"] <= 1 + 1e-12).all()
    assert (angles["rank"] == 30).all()
    values = pd.read_csv(folder / "jacobian" / "values.csv")
    assert values.groupby(["manifold", "dtype"])["order"].max().to_dict() == {
        ("fc4", "float32"): 4, ("fc4", "float64"): 4, ("wide", "float64"): 16, ("pca2", "float32"): 2,
        ("pca2", "float64"): 2, ("pca2_uncentred", "float32"): 2, ("pca2_uncentred", "float64"): 2,
    }  # fmt: skip
    assert values["bound"].notna().equals(values["manifold"] == "wide")
    known = values[values["manifold"].eq("wide") & values["example"].eq("sneaker") & values["order"].eq(1)].iloc[0]
    drawn = accurate(values)
    assert {*drawn["manifold"]} == {*values["manifold"]}
    assert known["bound"] < ACCURATE * known["singular_value"]
    assert len(drawn[drawn["manifold"] == "wide"]) < 2 * 16  # at both examples some are not known so well
    bands = pd.read_csv(folder / "jacobian" / "bands.csv")
    assert 0 < bands["model"].eq("wide").sum() <= 16
    steps = pd.read_csv(folder / "invariance" / "steps.csv")
    assert steps["products"].notna().equals(steps["manifold"] == "wide")


def test_summaries_claim_nothing_that_is_not_known(measured: Study) -> None:
    folder = measured.folder / "results"
    summary = pd.read_csv(folder / "jacobian" / "summary.csv").set_index("model")
    unknown = ["full_rank_share", "full_rank_share_low", "rank_min", "sigma_ratio_min", "sigma_min_mean",
               "log_volume_mean", "effective_rank_per_sd_mean", "condition_number_mean"]  # fmt: skip
    assert summary.loc["wide", unknown].isna().all()
    assert summary.loc["fc4", unknown].notna().all()
    differences = pd.read_csv(folder / "invariance" / "differences.csv")
    about = (differences["a"] == "wide") | (differences["b"] == "wide")
    assert about.any()
    assert set(differences.loc[about, "verdict"]) == {"cannot tell"}


def test_the_page_says_so(measured: Study) -> None:
    results, params = measured.folder / "results", measured.params
    section = jacobian.section(results, params)
    assert any("decoder of wide is an immersion is not determined" in sentence for sentence in section.sentences)
    assert "wide" in section.tables[0].words
    assert "wide" in section.tables[1].words
    said = invariance.section(results, params).sentences
    assert any(sentence.startswith("Angles of wide are upper limits") for sentence in said)
    ranks = pd.read_csv(results / "jacobian" / "summary.csv")
    assert "1 of 1 decoders" in str(opening.immersion(ranks[ranks["model"].isin(params.models)]))
    assert "not determined" in str(opening.immersion(ranks[ranks["model"] == "wide"]))

"""jacobian: metrics that are known, the tables of the stage, and what the report concludes from them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options
from surfaces import central_differences, collapsed, half_circle, measure, random, sphere, succeeded

from latent_atlas.data.images import Images
from latent_atlas.geometry.manifold import Autoencoder, PixelSpace, load_manifold
from latent_atlas.geometry.pca import fit
from latent_atlas.geometry.spectra import spectrum
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.report import published
from latent_atlas.report.sections import jacobian as sections
from latent_atlas.stages.jacobian_summary import VALUES, immersions, where_defined
from latent_atlas.statistics.summaries import summarized

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")
EXAMPLES = ("pullover", "sneaker")


class TestMetric:
    """The metric JᵀJ of surfaces that formulas describe."""

    @pytest.mark.parametrize("radius", [1.0, 2.5])
    @pytest.mark.parametrize("theta", [0.001, 0.4, math.pi / 2, 3.0])
    def test_of_a_sphere(self, radius: float, theta: float) -> None:
        codes = torch.tensor([[theta, 0.3], [theta, -2.0]], dtype=torch.float64)
        for jacobian in sphere(radius).jacobian(codes):
            assert jacobian.shape == (3, 2)
            expected = torch.diag(torch.tensor([1.0, math.sin(theta) ** 2], dtype=torch.float64)) * radius**2
            torch.testing.assert_close(jacobian.T @ jacobian, expected, rtol=0, atol=1e-14)
            found = spectrum(jacobian)
            assert found.rank == 2
            assert found.log_volume == pytest.approx(math.log(radius**2 * math.sin(theta)), abs=1e-10)
            assert found.condition_number == pytest.approx(1 / math.sin(theta), rel=1e-10)

    def test_at_the_pole_of_a_sphere_loses_rank(self) -> None:
        found = spectrum(sphere().jacobian(torch.zeros(1, 2, dtype=torch.float64))[0])
        assert found.rank == 1
        assert found.log_volume == -math.inf
        assert found.condition_number == math.inf

    def test_of_a_circle_is_constant(self) -> None:
        for jacobian in half_circle().jacobian(torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)):
            assert spectrum(jacobian).values.tolist() == pytest.approx([1.0], rel=1e-14)

    def test_of_pixel_space_is_flat(self) -> None:
        jacobian = PixelSpace((1, 2, 3)).jacobian(random(2, 6))
        assert torch.equal(jacobian, torch.eye(6).double().expand(2, -1, -1))


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What both stages have written."""
    for name in MANIFOLDS:
        succeeded(measure(trained, "jacobian", name, digits_file))
    succeeded(trained.run("jacobian-summary", "--folder", "results/jacobian"))
    for name in ("fc2", "fc4"):
        files = {"checkpoint": f"checkpoints/{name}.safetensors", "folder": f"results/layers/{name}"}
        succeeded(trained.run(*options("layers", name=name, **files)))
    succeeded(trained.run("layers-summary", "--folder", "results/layers"))
    return trained.folder / "results"


@pytest.fixture(scope="module")
def spectra(results: Path) -> pd.DataFrame:
    """All singular values."""
    return pd.read_csv(results / "jacobian" / "values.csv")


@pytest.fixture(scope="module")
def summary(results: Path) -> pd.DataFrame:
    """What they say."""
    return pd.read_csv(results / "jacobian" / "examples.csv")


class TestStage:
    """Both stages on a small study."""

    def test_spectra(self, spectra: pd.DataFrame) -> None:
        assert list(spectra.columns) == [
            "manifold", "model", "seed", "latent_dim", "example", "dtype", "order", "singular_value",
            "singular_value_per_sd",
        ]  # fmt: skip
        expected = [
            (name, k, example, dtype, order)
            for name, k in zip(MANIFOLDS, (2, 4, 2, 2), strict=True)
            for dtype in ("float64", "float32")
            for example in EXAMPLES
            for order in range(1, k + 1)
        ]
        keys = ["manifold", "latent_dim", "example", "dtype", "order"]
        assert list(spectra[keys].itertuples(index=False, name=None)) == expected
        assert (spectra["singular_value"] > 0).all()
        assert (spectra["singular_value_per_sd"] > 0).equals(spectra["dtype"] == "float64")

    def test_summary(self, summary: pd.DataFrame) -> None:
        assert list(summary.columns) == [
            "manifold", "model", "seed", "latent_dim", "example", "dtype", "sigma_max", "sigma_min", "rank",
            "rank_tolerance", "condition_number", "log_volume", "effective_rank", "participation_ratio", "directions",
            "sigma_max_per_sd", "sigma_min_per_sd", "rank_per_sd", "condition_number_per_sd", "log_volume_per_sd",
            "effective_rank_per_sd", "participation_ratio_per_sd", "reason",
        ]  # fmt: skip
        assert len(summary) == len(MANIFOLDS) * len(EXAMPLES) * 2
        assert not summary.duplicated(["manifold", "example", "dtype"]).any()

    @pytest.mark.parametrize("name", ["fc2", "fc4"])
    @pytest.mark.parametrize("example", EXAMPLES)
    def test_values_are_those_of_differences(
        self, name: str, example: str, spectra: pd.DataFrame, trained: Study, digits: Images
    ) -> None:
        surface = load_manifold(trained.folder / "checkpoints" / f"{name}.safetensors").to(torch.float64)
        assert isinstance(surface, Autoencoder)
        index = {"pullover": 5, "sneaker": 6}[example]
        code = surface.encode(digits.train[index : index + 1].double() / 255)[0]
        expected = np.linalg.svd(central_differences(surface, code).numpy(), compute_uv=False)
        rows = spectra[(spectra["manifold"] == name) & (spectra["example"] == example)]
        for dtype, digits_kept in (("float64", 1e-7), ("float32", 1e-4)):
            found = rows[rows["dtype"] == dtype]["singular_value"].tolist()
            assert found == pytest.approx(expected.tolist(), rel=digits_kept)

    def test_summary_follows_from_the_values(self, spectra: pd.DataFrame, summary: pd.DataFrame) -> None:
        for row in summary.itertuples():
            same = (spectra["manifold"] == row.manifold) & (spectra["example"] == row.example)
            values = spectra[same & (spectra["dtype"] == row.dtype)]["singular_value"]
            eps = np.finfo(row.dtype).eps
            assert (row.sigma_max, row.sigma_min) == (values.iloc[0], values.iloc[-1])
            assert row.rank_tolerance == pytest.approx(64 * eps * row.sigma_max, rel=1e-6)
            assert row.rank == (values > row.rank_tolerance).sum()
            assert row.condition_number == pytest.approx(row.sigma_max / row.sigma_min, rel=1e-6)
            assert row.log_volume == pytest.approx(np.log(values).sum(), abs=1e-6)

    def test_pca_is_flat(self, summary: pd.DataFrame) -> None:
        rows = summary[summary["manifold"].str.startswith("pca") & (summary["dtype"] == "float64")]
        assert len(rows) == 4
        for column, value in (("sigma_max", 1), ("sigma_min", 1), ("condition_number", 1), ("log_volume", 0)):
            assert rows[column].to_list() == pytest.approx([value] * 4, abs=1e-12)
        assert (rows["rank"] == 2).all()

    def test_per_standard_deviation_pca_has_those_of_its_codes(self, summary: pd.DataFrame, digits: Images) -> None:
        """So have both variants: the mean image shifts the codes alone."""
        deviations = fit(digits.train).variance[:2].sqrt().tolist()
        rows = summary[summary["manifold"].str.startswith("pca") & (summary["dtype"] == "float64")]
        assert rows["sigma_max_per_sd"].to_list() == pytest.approx([deviations[0]] * 4, rel=1e-6)  # stored in float32
        assert rows["sigma_min_per_sd"].to_list() == pytest.approx([deviations[1]] * 4, rel=1e-6)

    def test_over_the_sample(self, results: Path) -> None:
        """A row for each model: the shares, and the means that follow from the table of images."""
        table = pd.read_csv(results / "jacobian" / "summary.csv").set_index("model")
        assert list(table.index) == list(MANIFOLDS)
        assert set(table["images"]) == {20}
        assert set(table["seeds"]) == {1}
        assert set(table["full_rank_share"]) == {1}
        assert table["full_rank_share_low"].tolist() == pytest.approx([0.05 ** (1 / 20)] * 4)
        for name in MANIFOLDS:
            rows = pd.read_parquet(results / "jacobian" / name / "spectra.parquet")
            rows = rows[rows["example"].isna()]
            assert table.loc[name, "sigma_ratio_min"] == pytest.approx((rows["sigma_min"] / rows["sigma_max"]).min())
            for column in ("effective_rank_per_sd", "log_volume_per_sd"):
                assert table.loc[name, f"{column}_mean"] == pytest.approx(rows[column].mean())
                assert table.loc[name, f"{column}_median"] == pytest.approx(rows[column].median())
        assert ((table["rank_min"]) == table["latent_dim"]).all()

    def test_bands_are_quantiles_of_the_singular_values(self, results: Path) -> None:
        table = pd.read_csv(results / "jacobian" / "bands.csv")
        assert table["model"].value_counts(sort=False).to_dict() == {"fc2": 2, "fc4": 4, "pca2": 2, "pca2_uncentred": 2}
        rows = pd.read_parquet(results / "jacobian" / "fc2" / "spectra.parquet")
        largest = rows[rows["example"].isna()]["sigma_max_per_sd"]
        first = table[(table["model"] == "fc2") & (table["order"] == 1)].iloc[0]
        assert [first["low"], first["median"], first["high"]] == pytest.approx(
            largest.quantile([0.05, 0.5, 0.95]).tolist()
        )

    def test_pairs_and_classes(self, results: Path) -> None:
        pairs = pd.read_csv(results / "jacobian" / "differences.csv")
        assert list(zip(pairs["a"], pairs["b"], strict=True))[::6] == list(itertools.combinations(MANIFOLDS, 2))
        assert pairs["quantity"].str.endswith("_per_sd").all()
        classes = pd.read_csv(results / "jacobian" / "by_class.csv")
        assert classes.groupby("model")["images"].sum().to_dict() == dict.fromkeys(MANIFOLDS, 20)
        assert set(classes["reason"]) == {"a value at fewer than 6 images"}
        assert classes["effective_rank_per_sd_mean"].notna().all()
        assert classes["effective_rank_per_sd_mean_low"].isna().all()

    def test_pictures(self, results: Path) -> None:
        assert (results / "jacobian" / "bands.svg").stat().st_size > 5000
        for example in EXAMPLES:
            assert (results / "jacobian" / f"spectra_{example}.svg").stat().st_size > 5000
            assert (results / "jacobian" / f"spectra_{example}.png").stat().st_size > 5000

    def test_section(self, results: Path, trained: Study) -> None:
        sample = pd.read_csv(results / "jacobian" / "summary.csv")[:2]
        name, ratio = min(zip(sample["model"], sample["sigma_ratio_min"], strict=True), key=lambda pair: pair[1])
        section = sections.section(results, trained.params)
        assert section.sentences[0] == (
            "In float64 the decoder's Jacobian has full rank at all 20 images of the test split for fc2, fc4: there "
            "these decoders are immersions. With 95% confidence the share of such images is at least 86.0%. The "
            f"smallest σ min / σ max met is {ratio:.2g} ({name})."
        )
        assert section.sentences[1:] == ["The weights alone leave this open for fc2, fc4; at these images it is so."]
        assert (len(section.pictures), len(section.folded)) == (2, 1)
        assert "published" not in section.tables[0].words
        assert (
            "The variation between trainings is not in them: there is one training a model" in section.tables[0].words
        )


class TestPrecision:
    """A rank that float32 does not see, and one that is not there, from end to end."""

    def ranks(self, study: Study, digits_file: Path, checkpoint: Checkpoint) -> dict[str, set[int]]:
        """The ranks that the stage finds in each precision."""
        checkpoint.save(study.folder / "checkpoints" / "fc4.safetensors")
        succeeded(measure(study, "jacobian", "fc4", digits_file))
        table = pd.read_csv(study.folder / "results" / "jacobian" / "fc4" / "examples.csv")
        return {str(dtype): set(rows["rank"]) for dtype, rows in table.groupby("dtype")}

    def test_coordinate_that_hardly_counts(self, study: Study, trained: Study, digits_file: Path) -> None:
        changed = Checkpoint.load(trained.folder / "checkpoints" / "fc4.safetensors")
        with torch.no_grad():
            changed.model.get_parameter("decoder.dlayer1.weight")[:, 1] *= 1e-7
        assert self.ranks(study, digits_file, changed) == {"float64": {4}, "float32": {3}}

    def test_coordinate_that_does_not_count(self, study: Study, trained: Study, digits_file: Path) -> None:
        changed = Checkpoint.load(trained.folder / "checkpoints" / "fc4.safetensors")
        with torch.no_grad():
            changed.model.get_parameter("decoder.dlayer1.weight")[:, 1] = 0
        assert self.ranks(study, digits_file, changed) == {"float64": {3}, "float32": {3}}
        table = pd.read_csv(study.folder / "results" / "jacobian" / "fc4" / "examples.csv")
        exact = table[table["dtype"] == "float64"]
        assert (exact["sigma_min"] < exact["rank_tolerance"]).all()

    def test_decoder_that_draws_one_image_only(self, study: Study, trained: Study, digits_file: Path) -> None:
        assert self.ranks(study, digits_file, collapsed(trained)) == {"float64": {0}, "float32": {0}}
        table = pd.read_csv(study.folder / "results" / "jacobian" / "fc4" / "examples.csv")
        assert set(table["condition_number"]) == {math.inf}
        assert set(table["log_volume"]) == {-math.inf}
        assert table["effective_rank"].isna().all()
        assert set(table["reason"]) == {"rank zero"}
        sample = pd.read_parquet(study.folder / "results" / "jacobian" / "fc4" / "spectra.parquet")
        sample = where_defined(sample[sample["example"].isna()])
        found = immersions(sample).merge(summarized(sample, VALUES)).iloc[0]
        assert (found["full_rank_share"], found["rank_min"], found["sigma_ratio_min"]) == (0, 0, 0)
        assert found["full_rank_share_high"] == pytest.approx(1 - 0.05 ** (1 / 20))
        assert math.isnan(found["effective_rank_per_sd_mean"])
        assert found["reason"] == "a value at fewer than 6 images"

    def test_of_the_sample(self, study: Study, trained: Study, digits_file: Path) -> None:
        """float32 gives the same to its rounding; the examples are in float64 in either case."""
        (study.folder / "checkpoints").symlink_to(trained.folder / "checkpoints")
        found = {}
        for precision in ("float64", "float32"):
            study.edit("sample.precision", precision)
            succeeded(measure(study, "jacobian", "fc4", digits_file))
            folder = study.folder / "results" / "jacobian" / "fc4"
            found[precision] = [pd.read_parquet(folder / f"{name}.parquet") for name in ("spectra", "angles")]
        for exact, rough in zip(*found.values(), strict=True):
            examples, measures = exact["example"].notna(), ["sigma_min", "angle_deg", "effective_rank_per_sd"]
            pd.testing.assert_frame_equal(exact[examples], rough[examples])
            columns = exact.columns.intersection(measures)
            assert not exact[~examples][columns].equals(rough[~examples][columns])
            pd.testing.assert_frame_equal(exact[columns], rough[columns], rtol=1e-4)
            pd.testing.assert_series_equal(exact["rank"], rough["rank"])

    def test_encoder_that_gives_one_code_only(self, study: Study, trained: Study, digits_file: Path) -> None:
        changed = Checkpoint.load(trained.folder / "checkpoints" / "fc2.safetensors")
        with torch.no_grad():
            changed.model.get_parameter("encoder.elayer3.weight").zero_()
        assert self.ranks(study, digits_file, changed) == {"float64": {2}, "float32": {2}}
        folder = study.folder / "results" / "jacobian" / "fc4"
        table = pd.read_parquet(folder / "spectra.parquet")
        assert set(table["reason"]) == {"the codes do not vary"}
        assert table["effective_rank_per_sd"].isna().all()
        assert load_file(folder / "singular_values.safetensors")["per_sd"].shape == (20, 0)


class TestRefused:
    """What cannot be measured."""

    @pytest.mark.parametrize("stage", ["jacobian", "invariance", "tangents", "interpolate"])
    def test_example_outside_its_split(self, stage: str, study: Study, trained: Study, digits_file: Path) -> None:
        study.edit("dataset.name", "FashionMNIST")  # which has as many, while the images that are given are others
        study.edit("examples", {"sneaker": "train/6", "pullover": "train/1500"})
        (study.folder / "checkpoints").symlink_to(trained.folder / "checkpoints")
        done = measure(study, stage, "pca2", digits_file)
        assert done.exit_code == 1
        assert (
            f"[{stage} pca2] error: example pullover: there is no image train/1500; digits as stored here has 1500 "
            "train images, so choose an index from 0 to 1499"
        ) in done.stderr
        assert not (study.folder / "results").exists()

    def test_more_coordinates_than_pixels(self, study: Study, digits_file: Path) -> None:
        study.edit("dataset.name", "FashionMNIST")
        study.edit("models.fc2.latent_dim", 65)
        done = study.run(*study.train_arguments("fc2", digits_file, "out"))
        assert done.exit_code == 1
        assert "latent dimension 65: images of 64 numbers allow 1 to 64" in done.stderr
        assert not (study.folder / "out").exists()


def table(*rows: tuple[str, str, int, int, int, float]) -> pd.DataFrame:
    """A summary of (manifold, example, k, rank in float64, rank in float32, smallest singular value)."""
    found = []
    for name, example, k, exact, rough, sigma_min in rows:
        head = {"manifold": name, "example": example, "latent_dim": k, "sigma_max": 10.0, "sigma_min": sigma_min}
        found.append(head | {"dtype": "float64", "rank": exact, "rank_tolerance": 1.7e-12})
        found.append(head | {"dtype": "float32", "rank": rough, "rank_tolerance": 9.3e-4})
    return pd.DataFrame(found)


def of_sample(model: str, share: float, low: float, high: float, rank_min: int, ratio: float) -> dict[str, object]:
    """A row of the summary over the sample."""
    row: dict[str, object] = {"model": model, "latent_dim": 16, "images": 1000, "rank_min": rank_min}
    row |= {"full_rank_share": share, "full_rank_share_low": low, "full_rank_share_high": high}
    return row | {"sigma_ratio_min": ratio}


class TestFindings:
    """What the report finds of the ranks, and that its sentences carry the numbers."""

    def test_immersions_over_the_sample(self) -> None:
        sample = pd.DataFrame([
            of_sample("conv", 1, 0.997, 1, 16, 2e-3), of_sample("fc", 1, 0.997, 1, 16, 3e-7),
            of_sample("bad", 0.9, 0.88, 0.92, 12, 1e-19),
        ])  # fmt: skip
        first, lost, answered = sections.immersion_sentences(sample, {"conv", "bad"}, "test")
        assert "at all 1,000 images of the test split for conv, fc: there" in first
        assert "at least 99.7%. The smallest σ min / σ max met is 3e-07 (fc)." in first
        assert lost == (
            "The decoder of bad has full rank at 90.0% (88.0% to 92.0%) of 1,000 images; its lowest rank is 12 of 16."
        )
        assert answered == "The weights alone leave this open for conv; at these images it is so."

    def test_full_rank(self) -> None:
        found = sections.findings(table(("a", "x", 4, 4, 4, 0.1), ("b", "x", 9, 9, 9, 0.1)), "digits")
        assert (found.examples, len(found.lost), len(found.rounding)) == (1, 0, 0)
        assert sections.sentences(found) == []

    def test_lost_to_rounding(self) -> None:
        """By single precision alone; the example with the lowest rank is named."""
        rows = table(("a", "x", 4, 4, 4, 0.1), ("a", "y", 4, 4, 2, 1e-6), ("a", "z", 4, 4, 3, 1e-5))
        found = sections.findings(rows, "digits")
        (case,) = found.rounding.to_dict("records")
        assert (case["manifold"], case["count"], case["example"], case["rank_32"], case["rank"]) == ("a", 2, "y", 2, 4)
        (said,) = sections.sentences(found)
        assert all(text in said for text in ("2 of 3 examples", "at y 2 of 4", "1e-06", "1.7e-12"))
        (record,) = said.findings
        assert (record.subject, record.value, record.facts["rank"], record.facts["k"]) == ("a", 2, 4, 4)

    def test_lost_in_both(self) -> None:
        found = sections.findings(table(("a", "x", 4, 3, 3, 1e-20), ("b", "x", 4, 4, 4, 0.1)), "digits")
        assert found.lost.to_dict("records") == [{"manifold": "a", "example": "x", "rank": 3, "latent_dim": 4}]
        (said,) = sections.sentences(found)
        assert said == "a loses rank also in float64: 3 of 4 at x."
        assert said.findings[0].value == 3

    def test_lost_in_float64_and_more_in_float32(self) -> None:
        """What float64 cannot resolve either is no matter of rounding."""
        found = sections.findings(table(("a", "x", 4, 3, 2, 1e-20), ("a", "y", 4, 4, 4, 0.1)), "digits")
        assert (len(found.lost), len(found.rounding)) == (1, 0)

    @pytest.mark.parametrize(
        ("rows", "ranks", "ranks_32", "ratio", "words"),
        [
            ([("fc128", "x", 128, 128, 128, 0.01), ("fc16", "x", 16, 16, 16, 0.1)], (128, 128), (128, 128), 1e-3,
             "above what float64 resolves, and above float32's tolerance of 9e-05"),
            ([("fc128", "x", 128, 128, 125, 1e-5), ("fc128", "y", 128, 128, 127, 1e-4)], (128, 128), (125, 127), 1e-6,
             "above what float64 resolves, and below float32's tolerance of 9e-05"),
            ([("fc128", "x", 128, 127, 120, 1e-14), ("fc128", "y", 128, 128, 127, 1e-4)], (127, 128), (120, 127), 1e-15,
             "the loss of rank is real"),
        ],
    )  # fmt: skip
    def test_published_loss(
        self, rows: list[tuple[str, str, int, int, int, float]], ranks: tuple[int, int], ranks_32: tuple[int, int],
        ratio: float, words: str,
    ) -> None:  # fmt: skip
        found = sections.findings(table(*rows), published.DATASET)
        (case,) = found.published
        assert (case.manifold, case.latent_dim, case.rank) == ("fc128", 128, 125)
        assert (case.ranks, case.ranks_32) == (ranks, ranks_32)
        assert case.ratio == pytest.approx(ratio)
        assert case.tolerance_32 == pytest.approx(9.3e-5)
        said = sections.sentences(found)[-1]
        assert words in said
        assert said.findings[0].value == pytest.approx(ratio)

    def test_published_loss_is_not_spoken_of_elsewhere(self) -> None:
        assert sections.findings(table(("fc128", "x", 128, 128, 125, 1e-5)), "MNIST").published == []
        assert sections.findings(table(("fc32", "x", 32, 32, 31, 1e-5)), published.DATASET).published == []

"""jacobian: metrics that are known, the tables of the stage, and what the report concludes from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support import Study
from surfaces import central_differences, collapsed, half_circle, measure, random, sphere, succeeded

from latent_atlas.data.images import Images
from latent_atlas.geometry.manifold import Autoencoder, PixelSpace, load_manifold
from latent_atlas.geometry.spectra import spectrum
from latent_atlas.models.checkpoints import Checkpoint
from latent_atlas.report import published
from latent_atlas.report.sections import jacobian as sections

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
            "manifold",
            "model",
            "seed",
            "latent_dim",
            "example",
            "dtype",
            "order",
            "singular_value",
        ]
        expected = [
            (name, name, k, example, dtype, order)
            for name, k in zip(MANIFOLDS, (2, 4, 2, 2), strict=True)
            for dtype in ("float64", "float32")
            for example in EXAMPLES
            for order in range(1, k + 1)
        ]
        assert list(spectra.drop(columns=["seed", "singular_value"]).itertuples(index=False, name=None)) == expected
        assert (spectra["singular_value"] > 0).all()

    def test_summary(self, summary: pd.DataFrame) -> None:
        assert list(summary.columns) == [
            "manifold", "model", "seed", "latent_dim", "example", "dtype", "sigma_max", "sigma_min", "rank",
            "rank_tolerance", "condition_number", "log_volume",
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

    def test_pictures(self, results: Path) -> None:
        for example in EXAMPLES:
            assert (results / "jacobian" / f"spectra_{example}.svg").stat().st_size > 5000
            assert (results / "jacobian" / f"spectra_{example}.png").stat().st_size > 5000

    def test_section(self, results: Path, trained: Study) -> None:
        section = sections.section(results, trained.params)
        assert section.sentences == [
            "In float64 the decoder's Jacobian has full rank at all 2 examples for fc2, fc4: there these decoders are "
            "immersions."
        ]
        assert len(section.pictures) == len(section.folded) == 1
        assert "published" not in section.tables[0]


class TestPrecision:
    """A rank that float32 does not see, and one that is not there, from end to end."""

    def ranks(self, study: Study, digits_file: Path, checkpoint: Checkpoint) -> dict[str, set[int]]:
        """The ranks that the stage finds in each precision."""
        checkpoint.save(study.folder / "checkpoints" / "changed.safetensors")
        succeeded(measure(study, "jacobian", "changed", digits_file))
        table = pd.read_csv(study.folder / "results" / "jacobian" / "changed" / "examples.csv")
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
        table = pd.read_csv(study.folder / "results" / "jacobian" / "changed" / "examples.csv")
        exact = table[table["dtype"] == "float64"]
        assert (exact["sigma_min"] < exact["rank_tolerance"]).all()

    def test_decoder_that_draws_one_image_only(self, study: Study, trained: Study, digits_file: Path) -> None:
        assert self.ranks(study, digits_file, collapsed(trained)) == {"float64": {0}, "float32": {0}}
        table = pd.read_csv(study.folder / "results" / "jacobian" / "changed" / "examples.csv")
        assert set(table["condition_number"]) == {math.inf}
        assert set(table["log_volume"]) == {-math.inf}


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


class TestFindings:
    """What the report finds of the ranks, and that its sentences carry the numbers."""

    def test_full_rank(self) -> None:
        found = sections.findings(table(("a", "x", 4, 4, 4, 0.1), ("b", "x", 9, 9, 9, 0.1)), "digits")
        assert (found.examples, found.immersions, len(found.lost), len(found.rounding)) == (1, ["a", "b"], 0, 0)
        (said,) = sections.sentences(found)
        assert "a, b" in said

    def test_lost_to_rounding(self) -> None:
        """By single precision alone; the example with the lowest rank is named."""
        rows = table(("a", "x", 4, 4, 4, 0.1), ("a", "y", 4, 4, 2, 1e-6), ("a", "z", 4, 4, 3, 1e-5))
        found = sections.findings(rows, "digits")
        assert found.immersions == ["a"]
        (case,) = found.rounding.to_dict("records")
        assert (case["manifold"], case["count"], case["example"], case["rank_32"], case["rank"]) == ("a", 2, "y", 2, 4)
        said = sections.sentences(found)[1]
        assert all(text in said for text in ("2 of 3 examples", "at y 2 of 4", "1e-06", "1.7e-12"))

    def test_lost_in_both(self) -> None:
        found = sections.findings(table(("a", "x", 4, 3, 3, 1e-20), ("b", "x", 4, 4, 4, 0.1)), "digits")
        assert found.immersions == ["b"]
        assert found.lost.to_dict("records") == [{"manifold": "a", "example": "x", "rank": 3, "latent_dim": 4}]
        assert "3 of 4 at x" in sections.sentences(found)[1]

    def test_lost_in_float64_and_more_in_float32(self) -> None:
        """What float64 cannot resolve either is no matter of rounding."""
        found = sections.findings(table(("a", "x", 4, 3, 2, 1e-20), ("a", "y", 4, 4, 4, 0.1)), "digits")
        assert (found.immersions, len(found.lost), len(found.rounding)) == ([], 1, 0)

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
        assert words in sections.sentences(found)[-1]

    def test_published_loss_is_not_spoken_of_elsewhere(self) -> None:
        assert sections.findings(table(("fc128", "x", 128, 128, 125, 1e-5)), "MNIST").published == []
        assert sections.findings(table(("fc32", "x", 32, 32, 31, 1e-5)), published.DATASET).published == []

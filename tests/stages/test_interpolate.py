"""interpolate: walks with known ends and lengths, and how far they stray from the training images."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options, shake_statistics
from surfaces import collapsed, half_circle, measure, orthonormal, random, sphere, succeeded

from latent_atlas.data.images import Images
from latent_atlas.errors import DataError, ParamsError
from latent_atlas.geometry.manifold import Autoencoder, PixelSpace, PrincipalSubspace, load_manifold
from latent_atlas.geometry.paths import Path as Walk
from latent_atlas.geometry.paths import distance_to_nearest, interpolate
from latent_atlas.models.registry import build
from latent_atlas.report.sections import interpolate as sections

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")
SHAPE = (1, 8, 8)


def autoencoder() -> Autoencoder:
    """A small network with weights and statistics that are all at work, in float64."""
    torch.manual_seed(0)
    model = build("fully_connected", SHAPE, 3)
    shake_statistics(model)
    return Autoencoder(model.double(), 3, SHAPE)


class TestEnds:
    """Where a walk begins and ends: both ends are on it."""

    @pytest.mark.parametrize("steps", [1, 6, 60])
    def test_on_an_autoencoder_are_the_reconstructions(self, steps: int) -> None:
        surface = autoencoder()
        start, end = random(2, *SHAPE).sigmoid()
        path = interpolate(surface, start, end, steps)
        assert path.images.shape == (steps + 1, *SHAPE)
        expected = surface.reconstruct(torch.stack([start, end]))
        torch.testing.assert_close(path.images[[0, -1]], expected, rtol=0, atol=1e-14)
        assert (float(path.t[0]), float(path.t[-1])) == (0, 1)
        torch.testing.assert_close(path.t.diff(), torch.full((steps,), 1 / steps).double(), rtol=0, atol=1e-7)

    def test_in_pixel_space_are_the_images_themselves(self) -> None:
        start, end = random(2, 3, 4, 5)
        path = interpolate(PixelSpace((3, 4, 5)), start, end, 7)
        assert torch.equal(path.images[0], start)
        assert torch.equal(path.images[-1], end)

    def test_points_between_are_decoded_from_the_straight_line_of_codes(self) -> None:
        surface = autoencoder()
        start, end = random(2, *SHAPE).sigmoid()
        first, last = surface.encode(torch.stack([start, end]))
        path = interpolate(surface, start, end, 4)
        for number in range(5):
            expected = surface.decode(((1 - number / 4) * first + number / 4 * last)[None])[0]
            torch.testing.assert_close(path.images[number], expected, rtol=0, atol=1e-14)

    def test_in_single_precision(self) -> None:
        surface = autoencoder().to(torch.float32)
        start, end = random(2, *SHAPE).sigmoid()  # float64 images, as a caller may have them
        path = interpolate(surface, start, end, 10)
        assert path.images.dtype == torch.float32
        expected = surface.reconstruct(torch.stack([start, end]).float())
        torch.testing.assert_close(path.images[[0, -1]], expected, rtol=0, atol=1e-6)

    def test_that_are_the_same_image_are_refused(self) -> None:
        x = random(*SHAPE)
        with pytest.raises(DataError, match="two different images: these are the same, pixel by pixel"):
            interpolate(PixelSpace(SHAPE), x, x.clone(), 5)


class TestLength:
    """How long a walk is."""

    def test_in_pixel_space_is_the_distance(self) -> None:
        start, end = random(2, *SHAPE)
        path = interpolate(PixelSpace(SHAPE), start, end, 60)
        assert path.length == pytest.approx(float((end - start).norm()), rel=1e-13)
        assert path.straight_distance == pytest.approx(float((end - start).norm()), rel=1e-15)

    @pytest.mark.parametrize("steps", [1, 7, 60])
    def test_on_a_flat_surface_is_straight(self, steps: int) -> None:
        surface = PrincipalSubspace(orthonormal(64, 5).T, random(64, seed=1), SHAPE)
        start, end = random(2, *SHAPE, seed=2)
        path = interpolate(surface, start, end, steps)
        codes = surface.encode(torch.stack([start, end]))
        assert path.straight_distance == pytest.approx(float((codes[1] - codes[0]).norm()), rel=1e-13)
        assert path.length / path.straight_distance == pytest.approx(1, abs=1e-13)
        assert path.step_lengths[1:].tolist() == pytest.approx([path.length / steps] * steps, rel=1e-11)

    @pytest.mark.parametrize("steps", [1, 4, 60])
    def test_of_a_half_circle(self, steps: int) -> None:
        """A polygon of n equal chords is n sin(π / 2n) times the diameter long, and tends to π / 2 of it."""
        start = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(1, 1, 2)
        path = interpolate(half_circle(), start, -start, steps)
        ratio = path.length / path.straight_distance
        assert path.straight_distance == pytest.approx(2, rel=1e-15)
        assert ratio == pytest.approx(steps * math.sin(math.pi / (2 * steps)), rel=1e-12)
        assert 0 <= math.pi / 2 - ratio <= math.pi**3 / (48 * steps**2)

    def test_of_a_parallel_of_a_sphere(self) -> None:
        """At constant θ the chart walks along a circle of radius sin θ."""
        theta, radius, steps = 0.5, 3.0, 20
        surface = sphere(radius)
        start, end = surface.decode(torch.tensor([[theta, 0.2], [theta, 1.7]], dtype=torch.float64))
        path = interpolate(surface, start, end, steps)
        chord = 2 * radius * math.sin(theta) * math.sin(1.5 / steps / 2)
        assert path.length == pytest.approx(steps * chord, rel=1e-12)
        assert path.step_lengths.tolist() == pytest.approx([0] + [chord] * steps, rel=1e-10)

    def test_of_steps_counts_from_the_image_before(self) -> None:
        images = torch.tensor([0.0, 3.0, 3.0, 7.0], dtype=torch.float64).reshape(4, 1, 1, 1)
        path = Walk(torch.linspace(0, 1, 4), images)
        assert path.step_lengths.tolist() == [0, 3, 0, 4]
        assert (path.length, path.straight_distance) == (7, 7)


class TestDistance:
    """How far the nearest training image is."""

    def test_of_a_training_image_is_0(self, digits: Images) -> None:
        chosen = digits.train[[0, 5, 1499]].double() / 255
        assert distance_to_nearest(chosen, digits.train).tolist() == [0, 0, 0]

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_is_that_of_brute_force(self, digits: Images, dtype: torch.dtype) -> None:
        images = random(6, *SHAPE).sigmoid().to(dtype)
        every = digits.train.double() / 255
        expected = [float((every - image.double()).flatten(1).norm(dim=1).min()) for image in images]
        assert distance_to_nearest(images, digits.train).tolist() == pytest.approx(expected, rel=1e-12)

    def test_looks_at_all_of_a_large_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The nearest image may be the last, beyond a whole number of blocks."""
        monkeypatch.setattr("latent_atlas.geometry.paths.BLOCK", 20)
        others = torch.full((2001, 1, 1, 2), 255, dtype=torch.uint8)
        others[-1] = 51
        found = distance_to_nearest(torch.zeros(1, 1, 1, 2), others)
        assert found.tolist() == pytest.approx([0.2 * math.sqrt(2)], rel=1e-12)


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What both stages have written."""
    for name in MANIFOLDS:
        succeeded(measure(trained, "interpolate", name, digits_file))
    pixels = options("interpolate", name="pixels", images=digits_file, folder="results/interpolate/pixels")
    succeeded(trained.run(*pixels))
    succeeded(trained.run("interpolate-summary", "--folder", "results/interpolate"))
    return trained.folder / "results"


@pytest.fixture(scope="module")
def paths(results: Path) -> pd.DataFrame:
    """The table of all walks."""
    return pd.read_csv(results / "interpolate" / "paths.csv")


@pytest.fixture(scope="module")
def summary(results: Path) -> pd.DataFrame:
    """The table of lengths."""
    return pd.read_csv(results / "interpolate" / "summary.csv")


class TestStage:
    """Both stages on a small study: one pair, 6 steps, 4 images shown."""

    def test_columns_and_rows_of_the_walks(self, paths: pd.DataFrame) -> None:
        assert list(paths.columns) == [
            "manifold", "model", "seed", "latent_dim", "pair", "step", "t", "step_length", "cumulative_length",
            "distance_to_nearest_training_image",
        ]  # fmt: skip
        assert paths["manifold"].tolist() == [name for name in ("pixels", *MANIFOLDS) for _ in range(7)]
        assert paths["step"].tolist() == list(range(7)) * 5
        assert paths["t"].tolist() == pytest.approx([step / 6 for step in range(7)] * 5, abs=1e-7)
        assert paths.drop_duplicates("manifold")["latent_dim"].tolist() == [64, 2, 4, 2, 2]
        assert set(paths["pair"]) == {"sneaker_pullover"}

    def test_columns_and_rows_of_the_lengths(self, summary: pd.DataFrame) -> None:
        assert list(summary.columns) == [
            "manifold", "model", "seed", "latent_dim", "pair", "path_length", "straight_distance", "length_ratio",
        ]  # fmt: skip
        assert summary["manifold"].tolist() == ["pixels", *MANIFOLDS]

    def test_both_tables_agree(self, paths: pd.DataFrame, summary: pd.DataFrame) -> None:
        for row in summary.itertuples():
            walk = paths[paths["manifold"] == row.manifold]
            assert walk["step_length"].iloc[0] == walk["cumulative_length"].iloc[0] == 0
            assert walk["cumulative_length"].tolist() == pytest.approx(walk["step_length"].cumsum().tolist(), rel=1e-6)
            assert walk["cumulative_length"].iloc[-1] == pytest.approx(row.path_length, rel=1e-6)
            assert row.length_ratio == pytest.approx(row.path_length / row.straight_distance, rel=1e-10)

    def test_flat_surfaces_are_straight_and_curved_ones_are_not(self, summary: pd.DataFrame) -> None:
        ratio = summary.set_index("manifold")["length_ratio"]
        assert ratio[["pixels", "pca2", "pca2_uncentred"]].tolist() == pytest.approx([1, 1, 1], abs=1e-11)
        assert (ratio[["fc2", "fc4"]] > 1.0001).all()

    def test_pixel_walk_begins_and_ends_in_the_training_set(self, paths: pd.DataFrame) -> None:
        distance = paths[paths["manifold"] == "pixels"]["distance_to_nearest_training_image"].tolist()
        assert distance[0] == distance[-1] == 0
        assert min(distance[1:-1]) > 0.1

    @pytest.mark.parametrize("name", MANIFOLDS)
    def test_walks_from_one_reconstruction_to_the_other(
        self, name: str, paths: pd.DataFrame, results: Path, trained: Study, digits: Images
    ) -> None:
        surface = load_manifold(trained.folder / "checkpoints" / f"{name}.safetensors")
        ends = surface.reconstruct(digits.train[[6, 5]].to(surface.dtype) / 255)  # sneaker, pullover
        shown = load_file(results / "interpolate" / name / "images.safetensors")["sneaker_pullover"]
        assert shown.shape == (4, *SHAPE)
        torch.testing.assert_close(shown[[0, -1]], ends.float(), rtol=0, atol=1e-6)
        walk = paths[paths["manifold"] == name]
        every = digits.train.double() / 255
        for image, number in ((ends[0], 0), (ends[1], 6)):
            expected = float((every - image.double()).flatten(1).norm(dim=1).min())
            found = walk["distance_to_nearest_training_image"].iloc[number]
            assert found == pytest.approx(expected, rel=1e-6)

    def test_pictures_are_there(self, results: Path) -> None:
        for file in ("sneaker_pullover.png", "sneaker_pullover_curves.svg", "sneaker_pullover_curves.png"):
            assert (results / "interpolate" / file).stat().st_size > 5000

    def test_section(self, results: Path, trained: Study) -> None:
        section = sections.section(results, trained.params)
        assert section.title == "Interpolation"
        assert len(section.sentences) == 1
        assert "From sneaker to pullover, the path of fc" in section.sentences[0]
        assert "3 of 5 paths are straight" in section.sentences[0]
        assert "1.000" in section.tables[0].words

    def test_of_a_decoder_that_draws_one_image_only(self, study: Study, trained: Study, digits_file: Path) -> None:
        """A collapsed model: there is no straight distance to compare a length with."""
        collapsed(trained).save(study.folder / "checkpoints" / "fc2.safetensors")
        succeeded(measure(study, "interpolate", "fc2", digits_file))
        table = pd.read_csv(study.folder / "results" / "interpolate" / "fc2" / "summary.csv")
        assert table["path_length"].tolist() == table["straight_distance"].tolist() == [0] * len(table)
        assert table["length_ratio"].isna().all()


class TestParams:
    """What may stand in the parameter file."""

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            ({"a": ["sneaker", "sneaker"]}, r"interpolate.pairs.a: .* is a path from an image to itself"),
            ({"a": ["sneaker", "twin"]}, r"interpolate.pairs.a: .* is a path from an image to itself"),
            ({"a": ["sneaker", "boot"]}, r"interpolate.pairs.a: 'boot' is no example; choose one of sneaker, twin"),
            ({"a": ["sneaker"]}, r"interpolate.pairs.a: .* is not allowed"),
            ({"a b": ["sneaker", "twin"]}, r"interpolate.pairs.a b: a name must start with a letter"),
            ({}, r"interpolate.pairs: .* is not allowed"),
        ],
    )
    def test_impossible_pairs(self, study: Study, pairs: dict[str, list[str]], message: str) -> None:
        study.edit("examples", {"sneaker": "train/6", "twin": "train/6", "pullover": "train/5"})
        study.edit("interpolate.pairs", pairs)
        with pytest.raises(ParamsError, match=message):
            _ = study.params


def lengths(**ratios: float) -> pd.DataFrame:
    """A summary table of paths."""
    return pd.DataFrame({"manifold": list(ratios), "length_ratio": list(ratios.values())})


def distances(**values: list[float]) -> pd.DataFrame:
    """A table of paths."""
    rows = [(name, distance) for name, given in values.items() for distance in given]
    return pd.DataFrame(rows, columns=["manifold", "distance_to_nearest_training_image"])


class TestFindings:
    """What the report finds of the paths between one pair."""

    def test_of_curved_and_straight_paths(self) -> None:
        found = sections.findings(
            lengths(pixels=1.0, a=1.25, b=1.5), distances(pixels=[0, 5, 0], a=[1, 1.5, 1], b=[2, 8.25, 1])
        )
        assert found == sections.Findings("b", 1.5, 1, 3, ("a", 1.5), ("b", 8.25))
        said = sections.sentence(found, "x to y")
        assert all(text in said for text in ("From x to y", "1.50 times", "1 of 3", "1.50", "8.25"))

    def test_rounding_is_no_curvature(self) -> None:
        found = sections.findings(lengths(pixels=1.0, pca=1 + 1e-12), distances(pixels=[0, 3], pca=[1, 2]))
        assert (found.straight, found.paths) == (2, 2)
        assert "all paths are straight" in sections.sentence(found, "x to y")

    def test_of_a_path_without_a_length(self) -> None:
        found = sections.findings(lengths(point=math.nan, a=1.2), distances(point=[3, 3], a=[1, 2]))
        assert (found.most_curved, found.ratio, found.straight, found.paths) == ("a", 1.2, 0, 1)
        assert found.farthest == ("point", 3.0)

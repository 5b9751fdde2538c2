"""invariance: the angles that were published, those of the definition, and what the report concludes from them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from support import Study, options
from surfaces import central_differences, collapsed, degrees_by_least_squares, measure, succeeded

from latent_atlas.data.images import Images
from latent_atlas.errors import ParamsError
from latent_atlas.geometry.manifold import Autoencoder, load_manifold
from latent_atlas.geometry.transformations import TRANSFORMATIONS
from latent_atlas.report.sections import invariance as sections
from latent_atlas.statistics.chance import chance_angle_deg
from latent_atlas.study.manifolds import manifolds, trained

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")
MODELS = ("fc2", "fc4")
EXAMPLES = {"pullover": "train/5", "sneaker": "train/6"}

SUMMARY = tuple(
    options(
        "invariance-summary",
        jacobians="results/jacobian",
        epochs="results/invariance_epochs",
        folder="results/invariance",
    )
)
MEASURED = ("angle_deg", "share", "rank", "chance_deg", "chance_share", "score", "reason")

OWN_TRANSFORMATIONS = """
def still(images, step):
    return images


def lift(images, step):
    return images + step


lift.unit = "grey level"
"""
TRANSFORMED: dict[str, Any] = {
    "rotation": {"step": 1.0},
    "brightness": {"step": 5.0},
    "blur": {"step": 0.5},
    "still": {"function": "transformations_for_the_invariance_test:still", "step": 1.0},
    "lifted": {"function": "transformations_for_the_invariance_test:lift", "step": 0.1},
}


@pytest.fixture(scope="module")
def measured(trained: Study, digits_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A small study with two transformations of its own, which all three stages have been run on."""
    study = Study(tmp_path_factory.mktemp("invariance"))
    (study.folder / "checkpoints").symlink_to(trained.folder / "checkpoints")
    (study.folder / "transformations_for_the_invariance_test.py").write_text(OWN_TRANSFORMATIONS)
    study.edit("examples", EXAMPLES)
    study.edit("invariance.transformations", TRANSFORMED)
    study.edit("invariance.step_study.transformations", ["rotation", "brightness", "blur", "still"])
    study.edit("invariance.epoch_study.transformations", ["rotation", "still"])
    for name, stage in itertools.product(MANIFOLDS, ("jacobian", "invariance")):
        succeeded(measure(study, stage, name, digits_file))
    for model in MODELS:
        files = {
            "checkpoint": f"checkpoints/{model}.safetensors",
            "snapshots": trained.folder / "results" / "train" / model / "snapshots.safetensors",
            "curve": trained.folder / "results" / "train" / model / "curve.csv",
            "images": digits_file,
            "folder": f"results/invariance_epochs/{model}",
        }
        succeeded(study.run(*options("invariance-epochs", name=model, **files)))
    succeeded(study.run(*SUMMARY))
    return study


@pytest.fixture(scope="module")
def folder(measured: Study) -> Path:
    """What the stages have written."""
    return measured.folder / "results" / "invariance"


@pytest.fixture(scope="module")
def angles(folder: Path) -> pd.DataFrame:
    """All angles at the examples, as they are written."""
    return pd.read_csv(folder / "examples.csv")


@pytest.fixture(scope="module")
def steps(folder: Path) -> pd.DataFrame:
    """Angles over steps, as they are written."""
    return pd.read_csv(folder / "steps.csv")


@pytest.fixture(scope="module")
def epochs(folder: Path) -> pd.DataFrame:
    """Angles over epochs, as they are written."""
    return pd.read_csv(folder / "epochs.csv")


class TestProbes:
    """The table of angles at the examples."""

    def test_columns_and_rows(self, angles: pd.DataFrame) -> None:
        assert list(angles.columns) == [
            "manifold", "model", "seed", "latent_dim", "split", "image", "label", "example", "transformation", "step",
            "unit", *MEASURED,
        ]  # fmt: skip
        assert list(angles[["manifold", "example", "transformation"]].itertuples(index=False, name=None)) == [
            (name, example, kind) for name in MANIFOLDS for example in EXAMPLES for kind in TRANSFORMED
        ]
        first = angles.drop_duplicates("transformation").set_index("transformation")
        assert first["step"].to_dict() == {name: entry["step"] for name, entry in TRANSFORMED.items()}
        assert first["unit"].to_dict() == {
            "rotation": "degree", "brightness": "percent", "blur": "pixel", "still": "step", "lifted": "grey level",
        }  # fmt: skip

    def test_chance_stands_beside(self, angles: pd.DataFrame) -> None:
        for name, k in zip(MANIFOLDS, (2, 4, 2, 2), strict=True):
            rows = angles[angles["manifold"] == name]
            assert set(rows["latent_dim"]) == {k}
            expected = chance_angle_deg(k, 64)
            assert rows["chance_deg"].tolist() == pytest.approx([expected] * len(rows), rel=1e-10)

    def test_transformation_that_moves_nothing_has_no_angle(self, angles: pd.DataFrame) -> None:
        still = angles["transformation"] == "still"
        assert set(angles[still]["reason"]) == {"zero displacement"}
        assert angles[~still]["reason"].isna().all()
        assert angles["angle_deg"].isna().tolist() == still.tolist()

    @pytest.mark.parametrize("name", MODELS)
    @pytest.mark.parametrize("example", list(EXAMPLES))
    def test_angles_are_those_of_the_definition(
        self, name: str, example: str, angles: pd.DataFrame, measured: Study, digits: Images
    ) -> None:
        """Differences for the Jacobian, least squares for the projection."""
        surface = load_manifold(measured.folder / "checkpoints" / f"{name}.safetensors").to(torch.float64)
        assert isinstance(surface, Autoencoder)
        code = surface.encode(digits.examples({example: EXAMPLES[example]}, torch.float64))
        image = surface.decode(code)
        matrix = central_differences(surface, code[0])
        found = angles.set_index(["manifold", "example", "transformation"])["angle_deg"]
        for kind, step in (("rotation", 1.0), ("brightness", 5.0), ("blur", 0.5)):
            moved = torch.from_numpy(TRANSFORMATIONS[kind].apply(image.numpy(), step))
            expected = degrees_by_least_squares((moved - image).flatten(), matrix)
            assert found[name, example, kind] == pytest.approx(expected, abs=1e-5)
        expected = degrees_by_least_squares(torch.ones(64, dtype=torch.float64), matrix)
        assert found[name, example, "lifted"] == pytest.approx(expected, abs=1e-5)

    def test_subspace_through_zero_contains_brightness(self, angles: pd.DataFrame) -> None:
        """What is brighter is longer, and a subspace through zero is a cone; through the mean image it is not."""
        found = angles.set_index(["manifold", "example", "transformation"])["angle_deg"]
        for example in EXAMPLES:
            assert found["pca2_uncentred", example, "brightness"] == pytest.approx(0, abs=1e-10)
            assert found["pca2", example, "brightness"] > 5

    def test_pictures_hold_the_displacement_and_its_parts(self, folder: Path) -> None:
        for name in MANIFOLDS:
            stored = load_file(folder / name / "pictures.safetensors")
            assert set(stored) == {f"pullover/{kind}" for kind in TRANSFORMED}
            for kind, panels in stored.items():
                assert panels.shape == (5, 1, 8, 8)
                image, moved, difference, within, beyond = panels
                torch.testing.assert_close(difference, moved - image, rtol=0, atol=1e-6)
                torch.testing.assert_close(within + beyond, difference, rtol=0, atol=1e-6)
                assert float((within * beyond).sum()) == pytest.approx(0, abs=1e-5)
                assert bool(difference.any()) == (kind != "pullover/still")


class TestSteps:
    """The table of angles over the size of the step."""

    def test_columns_and_rows(self, steps: pd.DataFrame) -> None:
        assert list(steps.columns) == [
            "manifold", "model", "seed", "latent_dim", "example", "transformation", "step", "unit", *MEASURED,
        ]  # fmt: skip
        assert set(steps["example"]) == {"pullover"}
        for name in MANIFOLDS:
            rows = steps[steps["manifold"] == name].groupby("transformation", sort=False)["step"].apply(list)
            # blur begins with the square of its step, and nobody knows of the user's own
            assert rows.to_dict() == {
                "rotation": [0, 0.5, 1], "brightness": [0, 0.5, 1], "blur": [0.5, 1], "still": [0.5, 1],
            }  # fmt: skip

    def test_step_of_the_examples_table_has_the_same_angle(self, steps: pd.DataFrame, angles: pd.DataFrame) -> None:
        here = steps[(steps["transformation"] == "rotation") & (steps["step"] == 1)]["angle_deg"].tolist()
        chosen = (angles["transformation"] == "rotation") & (angles["example"] == "pullover")
        there = angles[chosen]["angle_deg"].tolist()
        assert len(here) == len(MANIFOLDS)
        assert list(map(float, here)) == pytest.approx(list(map(float, there)), rel=1e-10)

    def test_angle_of_brightness_does_not_depend_on_the_step(self, steps: pd.DataFrame) -> None:
        for name in MANIFOLDS:
            rows = steps[(steps["manifold"] == name) & (steps["transformation"] == "brightness")]
            values = rows["angle_deg"].astype(float).tolist()
            assert values == pytest.approx([values[0]] * 3, abs=1e-8)

    def test_step_of_zero_is_the_derivative(self, steps: pd.DataFrame, measured: Study, digits: Images) -> None:
        surface = load_manifold(measured.folder / "checkpoints" / "fc4.safetensors").to(torch.float64)
        assert isinstance(surface, Autoencoder)
        code = surface.encode(digits.examples({"pullover": "train/5"}, torch.float64))
        velocity = TRANSFORMATIONS["rotation"].velocity
        assert velocity is not None
        kind = torch.from_numpy(velocity(surface.decode(code).numpy())).flatten()
        expected = degrees_by_least_squares(kind, central_differences(surface, code[0]))
        rows = steps[(steps["manifold"] == "fc4") & (steps["transformation"] == "rotation") & (steps["step"] == 0)]
        assert float(rows["angle_deg"].item()) == pytest.approx(expected, abs=1e-5)

    def test_transformation_that_moves_nothing_has_no_angle(self, steps: pd.DataFrame) -> None:
        assert steps[steps["transformation"] == "still"]["angle_deg"].isna().all()


class TestEpochs:
    """The table of angles over the epochs of a training."""

    def test_columns_and_rows(self, epochs: pd.DataFrame) -> None:
        assert list(epochs.columns) == [
            "manifold", "model", "seed", "latent_dim", "epoch", "test_mse", "example", "transformation", "step",
            *MEASURED,
        ]  # fmt: skip
        assert list(epochs[["manifold", "epoch", "transformation"]].itertuples(index=False, name=None)) == [
            (name, epoch, kind)
            for name, last in (("fc2", 2), ("fc4", 3))
            for epoch in range(1, last + 1)
            for kind in ("rotation", "still")
        ]
        assert epochs[epochs["transformation"] == "still"]["angle_deg"].isna().all()

    @pytest.mark.parametrize("name", MODELS)
    def test_errors_are_those_of_the_training(self, name: str, epochs: pd.DataFrame, trained: Study) -> None:
        curve = pd.read_csv(trained.folder / "results" / "train" / name / "curve.csv").set_index("epoch")["test_mse"]
        rows = epochs[(epochs["manifold"] == name) & (epochs["transformation"] == "rotation")]
        assert rows.set_index("epoch")["test_mse"].to_dict() == curve.to_dict()

    @pytest.mark.parametrize("name", MODELS)
    def test_last_epoch_is_the_trained_model(self, name: str, epochs: pd.DataFrame, angles: pd.DataFrame) -> None:
        rows = epochs[(epochs["manifold"] == name) & (epochs["transformation"] == "rotation")]
        values = rows["angle_deg"].astype(float).tolist()
        final = angles[(angles["manifold"] == name) & (angles["example"] == "pullover")]
        expected = float(final[final["transformation"] == "rotation"]["angle_deg"].item())
        assert values[-1] == pytest.approx(expected, rel=1e-10)
        assert len(set(values)) == len(values)


class TestGather:
    """Joint tables, pictures and the report's section."""

    def test_pictures(self, folder: Path) -> None:
        drawn = [f"displacements/pullover/{kind}.png" for kind in TRANSFORMED]
        for stem in ("angles_pullover", "angles_sneaker", "steps", "epochs", "distributions", "classes"):
            drawn += [f"{stem}.svg", f"{stem}.png"]
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.[ps][nv]g")) == sorted(drawn)
        assert all((folder / name).exists() for name in drawn)
        assert ">undefined<" not in (folder / "angles_pullover.svg").read_text()

    def test_over_the_sample(self, folder: Path) -> None:
        """A row for each model and transformation, with intervals; no interval where nothing is displaced."""
        table = pd.read_csv(folder / "summary.csv").set_index(["model", "transformation"])
        assert list(table.index) == list(itertools.product(MANIFOLDS, TRANSFORMED))
        assert set(table["images"]) == {20}
        still = table.index.get_level_values("transformation") == "still"
        assert table["undefined"].tolist() == [20 * bool(one) for one in still]
        assert set(table["reason"][still]) == {"a value at fewer than 6 images"}
        assert table["reason"][~still].isna().all()
        rows = pd.read_parquet(folder.parent / "jacobian" / "fc4" / "angles.parquet")
        rows = rows[rows["example"].isna() & (rows["transformation"] == "rotation")]
        for value in ("angle_deg", "share", "score"):
            row = table.loc[("fc4", "rotation")]
            assert row[f"{value}_mean"] == pytest.approx(rows[value].mean())
            assert row[f"{value}_median"] == pytest.approx(rows[value].median())
            assert row[f"{value}_mean_low"] < row[f"{value}_mean"] < row[f"{value}_mean_high"]
        assert row["chance_deg"] == pytest.approx(chance_angle_deg(4, 64))

    def test_classes_and_pairs(self, folder: Path) -> None:
        classes = pd.read_csv(folder / "by_class.csv", dtype={"label": str})
        assert set(classes["label"]) == set("0123456789")
        assert classes.groupby(["model", "transformation"])["images"].sum().eq(20).all()
        pairs = pd.read_csv(folder / "differences.csv")
        assert len(pairs) == 6 * len(TRANSFORMED)
        both = pairs[(pairs["a"] == "pca2") & (pairs["transformation"] == "brightness")].iloc[0]
        assert (both["b"], both["verdict"]) == ("pca2_uncentred", "a is smaller")  # whose score is 1 by construction
        assert set(pairs.loc[pairs["transformation"] == "still", "verdict"]) == {"cannot tell"}
        assert len(pd.read_csv(folder / "differences_by_class.csv")) == 10 * len(pairs)

    def test_section(self, measured: Study) -> None:
        section = sections.section(measured.folder / "results", measured.params)
        assert len(section.sentences) == 4
        assert not any(word in section.sentences[1] for word in ("brightness", "uncentred"))
        assert "still" not in "".join(section.sentences)
        assert "nan" not in "".join(section.sentences)
        assert len(section.pictures) == 3
        assert len(section.folded) == len(TRANSFORMED) + 1
        assert len(section.tables) == 1  # of the sample; nothing was published of the digits

    def test_study_without_a_training_or_pictures(self, measured: Study, digits_file: Path, tmp_path: Path) -> None:
        """All models imported, no kind to be drawn."""
        study = Study(tmp_path)
        (tmp_path / "checkpoints").symlink_to(measured.folder / "checkpoints")
        study.edit("examples", EXAMPLES)
        study.edit("models", {"fc2": study.values["models"]["fc2"] | {"state_dict": "fc2.pth"}})
        study.edit("invariance.pictures", [])
        assert trained(study.params) == []
        for name in manifolds(study.params):
            succeeded(measure(study, "jacobian", name, digits_file))
            succeeded(measure(study, "invariance", name, digits_file))
            assert load_file(tmp_path / "results" / "invariance" / name / "pictures.safetensors") == {}
        succeeded(study.run(*SUMMARY))
        section = sections.section(tmp_path / "results", study.params)
        assert len(section.pictures) == 3  # both examples, and the steps
        assert section.folded == []


def test_decoder_that_draws_one_image_only_contains_no_displacement(
    study: Study, trained: Study, digits_file: Path
) -> None:
    collapsed(trained).save(study.folder / "checkpoints" / "fc2.safetensors")
    succeeded(measure(study, "jacobian", "fc2", digits_file))
    table = pd.read_parquet(study.folder / "results" / "jacobian" / "fc2" / "angles.parquet")
    assert len(table) == (4 + 20) * 3
    assert set(table["rank"]) == {0}
    assert set(table["chance_deg"]) == {90}
    assert table["angle_deg"].tolist() == [90] * len(table)


class TestUsersOwn:
    """Functions that a parameter file names."""

    def test_that_cannot_be_imported(self, study: Study, trained: Study, digits_file: Path) -> None:
        (study.folder / "checkpoints").symlink_to(trained.folder / "checkpoints")
        study.edit("invariance.transformations.rotation.function", "nowhere_to_be_found:turn")
        done = measure(study, "invariance", "pca2", digits_file)
        assert done.exit_code == 1
        assert "transformation 'nowhere_to_be_found:turn': no module named 'nowhere_to_be_found'" in done.stderr


class TestParams:
    """What may stand in the parameter file."""

    @pytest.mark.parametrize(
        ("key", "value", "line"),
        [
            (
                "transformations.rotation.step",
                0.0,
                "invariance.transformations.rotation.step: 0 moves nothing; give a step other than zero",
            ),
            (
                "transformations.twist",
                {"step": 1.0},
                "invariance.transformations.twist: there is no transformation 'twist'; choose one of rotation, "
                "shift_x, shift_y, scaling, shear, brightness, contrast, blur, or name a function of your own by "
                "function: module:name",
            ),
            (
                "transformations.turn.function",
                "spin",
                "invariance.transformations.turn: there is no transformation 'spin'; choose one of ",
            ),
            ("transformations.rotation.step", 1e9, "invariance.transformations.rotation.step: 1000000000.0 is not"),
            ("transformations", {}, "invariance.transformations: {} is not allowed: dictionary should have at least 1"),
            ("pictures", ["boot"], "invariance.pictures: 'boot' is no example; choose one of pullover, sneaker, "),
            ("step_study.example", "boot", "invariance.step_study.example: 'boot' is no example; choose one of "),
            ("epoch_study.example", "boot", "invariance.epoch_study.example: 'boot' is no example; choose one of "),
            (
                "step_study.transformations",
                ["blur"],
                "invariance.step_study.transformations: 'blur' is no transformation; choose one of rotation, shift_x, "
                "brightness",
            ),
            (
                "epoch_study.transformations",
                ["blur"],
                "invariance.epoch_study.transformations: 'blur' is no transformation; choose one of ",
            ),
            ("step_study.transformations", [], "invariance.step_study.transformations: [] is not allowed"),
            ("epoch_study.transformations", [], "invariance.epoch_study.transformations: [] is not allowed"),
            ("step_study.steps", [], "invariance.step_study.steps: [] is not allowed"),
            ("step_study.steps", [1.0, 0.0], "invariance.step_study.steps.1: 0.0 is not allowed"),
        ],
    )
    def test_wrong_entry_is_named(self, study: Study, key: str, value: Any, line: str) -> None:
        if key == "transformations.turn.function":
            study.edit("invariance.transformations.turn.step", 1.0)
        study.edit(f"invariance.{key}", value)
        with pytest.raises(ParamsError) as caught:
            _ = study.params
        _, found = str(caught.value).split("\n  ")
        assert found.startswith(line)

    def test_own_name_for_a_shipped_one(self, study: Study) -> None:
        study.edit("invariance.transformations.quarter_turn", {"function": "rotation", "step": 90.0})
        assert study.params.invariance.transformations["quarter_turn"].function == "rotation"


class TestBest:
    """Which model holds a transformation best, and what cannot be told from it."""

    def said(self, study: Study, verdict: str) -> str:
        rows = [("fc2", "rotation", 0.5), ("fc4", "rotation", 0.4), ("fc2", "brightness", 0.2),
                ("fc4", "brightness", 0.9), ("fc2", "shift_x", None), ("fc4", "shift_x", None)]  # fmt: skip
        sample = pd.DataFrame(rows, columns=["model", "transformation", "score_mean"])
        sample = sample.assign(score_mean_low=sample["score_mean"] - 0.1, score_mean_high=sample["score_mean"] + 0.1)
        pairs = pd.DataFrame([("fc2", "fc4", "rotation", verdict)], columns=["a", "b", "transformation", "verdict"])
        (sentence,) = sections.sample_sentences(sample.assign(seeds=1, images=20), pairs, study.params)
        return sentence

    def test_is_named_with_its_interval(self, study: Study) -> None:
        sentence = self.said(study, "b is smaller")
        assert "rotation: fc2, 0.50 (0.40 to 0.60)." in sentence

    def test_a_tie_is_said(self, study: Study) -> None:
        assert "not told from fc4" in self.said(study, "cannot tell")

    def test_what_holds_by_construction_and_what_is_undefined_are_not_said(self, study: Study) -> None:
        sentence = self.said(study, "cannot tell")
        assert "brightness" not in sentence
        assert "shift_x" not in sentence


def over_steps(**values: dict[float, float]) -> pd.DataFrame:
    """A table of angles by step, of one transformation for each manifold."""
    rows = [(name, "turn", step, angle) for name, angles in values.items() for step, angle in angles.items()]
    return pd.DataFrame(rows, columns=["manifold", "transformation", "step", "angle_deg"])


class TestStepFindings:
    """How far a step is from the derivative."""

    def test_difference_of_a_whole_step(self) -> None:
        found = sections.step_findings(
            over_steps(a={0: 50.0, 0.1: 50.2, 1: 52.0}, b={0: 40.0, 0.1: 40.1, 1: 33.0}, c={0: 9.0, 0.1: 9.0, 1: 10.0})
        )
        assert found is not None
        assert (found.median, found.largest, found.manifold, found.transformation) == (2.0, 7.0, "b", "turn")
        assert found.smallest_step == 0.1
        assert found.rest == pytest.approx(0.1)
        (said,) = sections.step_sentences(found)
        assert "2.0°" in said
        assert "up to 7.0° (turn, b)" in said
        assert "0.1" not in said

    def test_small_steps_that_stay_away(self) -> None:
        found = sections.step_findings(over_steps(a={0: 50.0, 0.25: 60.0, 1: 62.0}, b={0: 40.0, 0.25: 44.0, 1: 45.0}))
        assert found is not None
        assert (found.smallest_step, found.rest) == (0.25, 7.0)
        assert "at 0.25 the median difference is 7.0°" in sections.step_sentences(found)[0]

    def test_nothing_to_compare(self) -> None:
        for table in (over_steps(a={0.5: 50.0, 1: 52.0}), over_steps(a={0: 50.0, 0.5: 52.0})):
            assert sections.step_findings(table) is None
        assert sections.step_sentences(None) == []


def over_epochs(*rows: tuple[str, int, float, float]) -> pd.DataFrame:
    """A table of (manifold, epoch, angle, error), of one transformation."""
    table = pd.DataFrame(rows, columns=["manifold", "epoch", "angle_deg", "test_mse"])
    return table.assign(transformation="turn")


class TestEpochFindings:
    """What a training does to the angle."""

    @pytest.mark.parametrize(
        ("rows", "fell", "cases"),
        [
            ([("b", 1, 50.0, 0.05), ("b", 2, 49.0, 0.04), ("b", 3, 48.0, 0.03), ("a", 1, 70.0, 0.05),
              ("a", 2, 66.0, 0.03), ("a", 3, 60.0, 0.02)], ["a", "b"], 2),
            ([("a", 1, 60.0, 0.05), ("a", 2, 66.0, 0.03)], [], 1),
            ([("a", 1, 70.0, 0.03), ("a", 2, 40.0, 0.05), ("b", 1, 50.0, 0.05), ("b", 2, 49.0, 0.04)], ["b"], 2),
            # trainings of different length: each is compared with its own end, and a single epoch with nothing
            ([("a", 1, 70.0, 0.05), ("a", 2, 50.0, 0.03), ("b", 1, 60.0, 0.05), ("b", 2, 70.0, 0.04),
              ("b", 3, 59.0, 0.02), ("c", 1, 60.0, 0.05)], ["a", "b"], 2),
            ([("a", 1, 70.0, 0.05), ("b", 1, 60.0, 0.05)], [], 0),
            # an angle that is undefined does not count
            ([("a", 1, 70.0, 0.05), ("a", 2, 60.0, 0.03), ("b", 1, math.nan, 0.05), ("b", 2, math.nan, 0.04)],
             ["a"], 1),
        ],
    )  # fmt: skip
    def test_falls(self, rows: list[tuple[str, int, float, float]], fell: list[str], cases: int) -> None:
        found, count = sections.epoch_findings(over_epochs(*rows))
        assert (found.index.get_level_values("manifold").tolist(), count) == (fell, cases)
        said = "".join(sections.epoch_sentences(found, count))
        assert (f"{len(fell)} of {cases} cases" in said) == bool(cases)
        assert (f"most for {fell[0]} and turn" if fell else "") in said

    def test_ends_are_in_the_sentence(self) -> None:
        found, count = sections.epoch_findings(over_epochs(("a", 1, 70.0, 0.05), ("a", 2, 60.0, 0.02)))
        assert found.iloc[0][["angle_deg_first", "angle_deg"]].tolist() == [70.0, 60.0]
        assert (
            "from 70.0° to 60.0° while the error fell from 0.0500 to 0.0200"
            in sections.epoch_sentences(found, count)[0]
        )

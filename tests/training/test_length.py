"""How long a training lasts, and that the shipped length is enough for few images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import same_state

from latent_atlas.data.images import Images
from latent_atlas.errors import TrainingError
from latent_atlas.geometry import pca
from latent_atlas.geometry.reconstruction import summary
from latent_atlas.models.registry import build
from latent_atlas.study import schema
from latent_atlas.study.models import training_of
from latent_atlas.training.length import MOST_ROWS, Length, length
from latent_atlas.training.loop import Progress, Schedule, Trained, mean_image_error, train

PROJECT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


def trained(images: Images, schedule: Schedule, resume: Path | None = None, stop_in: int | None = None) -> Trained:
    def report(progress: Progress) -> None:
        if progress.epoch == stop_in:
            raise KeyboardInterrupt

    return train(lambda: build("fully_connected", images.shape, 2), images, schedule, CPU, report, resume)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((60_000, 256, 8, None, 500), Length(235, 1880, 8, 1)),
        ((500, 256, 8, None, 1), Length(2, 16, 8, 1)),
        ((500, 256, 8, None, 500), Length(2, 500, 250, 3)),
        ((500, 64, 8, None, 500), Length(8, 504, 63, 1)),  # whole epochs
        ((500, 64, None, 100, 500), Length(8, 100, 13, 1)),
        ((500, 64, None, 3, 1), Length(8, 3, 1, 1)),
        ((3, 2, 5, None, 1), Length(1, 5, 5, 1)),  # no batch of a single image
    ],
)
def test_length(arguments: tuple[int, int, int | None, int | None, int], expected: Length) -> None:
    assert length(*arguments) == expected


def test_shipped_trainings_are_not_lengthened() -> None:
    params = schema.load(PROJECT / "params.yaml")
    for model in params.models:
        own = training_of(params, model)
        assert own.min_steps <= length(60_000, own.batch_size, own.epochs, own.steps, 1).steps


@pytest.mark.parametrize(("epochs", "steps"), [(2, 3), (None, None)])
def test_one_of_the_two_is_needed(epochs: int | None, steps: int | None) -> None:
    with pytest.raises(TrainingError, match=f"give one of the two, not epochs={epochs} and steps={steps}"):
        Schedule(epochs, 20, 1e-3, "float32", 0, steps=steps)


def test_in_steps_or_in_epochs_is_the_same_training(digits: Images) -> None:
    one, other = (
        trained(digits, Schedule(epochs, 500, 1e-3, "float32", 0, steps=steps))
        for epochs, steps in ((2, None), (None, 6))
    )
    assert same_state(one.model, other.model)
    assert one.curve.equals(other.curve)


def test_last_epoch_ends_with_the_last_step(digits: Images) -> None:
    curve = trained(digits, Schedule(None, 500, 1e-3, "float32", 0, steps=7)).curve
    assert curve["epoch"].tolist() == [1, 2, 3]
    assert curve["step"].tolist() == [3, 6, 7]
    assert curve["learning_rate"].iloc[-1] == pytest.approx(1e-3 / 25 / 1e4)


def test_many_epochs_have_few_rows_and_go_on_from_any(digits: Images, tmp_path: Path) -> None:
    few = digits.take(40)
    schedule = Schedule(2, 40, 1e-3, "float32", 0, snapshot_every=30, min_steps=250)
    straight = trained(few, schedule)
    expected = [*range(3, 250, 3), 250]
    assert straight.curve["epoch"].tolist() == straight.curve["step"].tolist() == expected
    assert len(expected) <= MOST_ROWS
    assert list(straight.snapshots) == [90, 180, 250]
    with pytest.raises(KeyboardInterrupt):
        trained(few, schedule, tmp_path / "state.resume", stop_in=150)
    again = trained(few, schedule, tmp_path / "state.resume")
    assert same_state(straight.model, again.model)
    assert straight.curve.equals(again.curve)
    assert list(again.snapshots) == [90, 180, 250]


@pytest.mark.parametrize("k", [8, 16])
def test_shipped_length_is_enough_for_few_images(digits: Images, k: int) -> None:
    """It is better on new digits than PCA of the same 500."""
    few = digits.take(500)
    own = schema.load(PROJECT / "params.yaml").training
    schedule = Schedule(**own.model_dump(exclude={"device", "threads"}))
    fresh = lambda: build("fully_connected", few.shape, k)  # noqa: E731
    error = train(fresh, few, schedule, CPU).curve["test_mse"].iloc[-1]
    linear = summary(pca.fit(few.train).subspace(k), few.test)["mse"]
    assert error < linear < 0.5 * mean_image_error(few)

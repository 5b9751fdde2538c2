"""Bootstrap intervals: how often they cover, and what they are in simple cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from latent_atlas.errors import DataError
from latent_atlas.statistics.intervals import difference, interval, interval_of_pairs

Floats = NDArray[np.float64]


def simulated(trainings: int, images: int, spreads: tuple[float, float, float], seed: int) -> Floats:
    """Values about zero: an effect of each training, one of each image, and a rest, with these standard deviations."""
    draw = np.random.default_rng(seed).normal
    one, other, rest = spreads
    return one * draw(size=(trainings, 1)) + other * draw(size=(1, images)) + rest * draw(size=(trainings, images))


def pairs(trainings: int, images: int, spreads: tuple[float, float, float], alike: bool, seed: int) -> Floats:
    """Values (S, T, N) of pairs of trainings, which both trainings, the image, and the pair at the image change."""
    draw = np.random.default_rng(seed).normal
    one, image, rest = spreads
    a, b = one * draw(size=(2, trainings))
    noise = rest * draw(size=(trainings, trainings, images))
    if alike:
        b, noise = a, np.triu(noise.T, 1).T + np.triu(noise.T, 1).transpose(0, 2, 1).T
    return a[:, None, None] + b[:, None] + image * draw(size=images) + noise


class TestCoverage:
    """An interval of 95% covers the true value in 95 of 100 cases, to within the error of the simulation."""

    TRIALS = 300

    def test_of_images(self) -> None:
        found = (interval(simulated(1, 60, (0, 1, 0), seed), resamples=500) for seed in range(self.TRIALS))
        assert self.covered(found) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / self.TRIALS))

    def test_of_medians(self) -> None:
        found = (interval(simulated(1, 60, (0, 1, 0), seed), "median", resamples=300) for seed in range(self.TRIALS))
        assert self.covered(found) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / self.TRIALS))

    @pytest.mark.parametrize("spreads", [(1, 1, 1), (1, 0.1, 0.1), (0.1, 1, 0.1)])
    def test_of_images_and_trainings(self, spreads: tuple[float, float, float]) -> None:
        found = (interval(simulated(6, 60, spreads, seed), resamples=500) for seed in range(self.TRIALS))
        assert self.covered(found) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / self.TRIALS))

    def test_of_a_difference_between_models(self) -> None:
        """The effect of an image is in both models, and so in neither's difference to the other."""
        hits = 0
        for seed in range(self.TRIALS):
            shared = simulated(1, 60, (0, 3, 0), seed)
            a, b = (shared + simulated(5, 60, (0.3, 0.2, 0.2), 7919 * (seed + 1) + model) for model in (0, 1))
            found, _ = difference(a, b, resamples=500)
            hits += found.low <= 0 <= found.high
        assert hits / self.TRIALS == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / self.TRIALS))

    @pytest.mark.parametrize("alike", [False, True])
    @pytest.mark.parametrize("spreads", [(1, 1, 0.3), (1, 0.1, 0.1), (0.1, 1, 0.1)])
    def test_of_pairs_of_trainings(self, spreads: tuple[float, float, float], alike: bool) -> None:
        """Each training has an effect on all of its pairs, and each pair has one of its own."""
        found = (interval_of_pairs(pairs(5, 60, spreads, alike, seed), alike, resamples=500)
                 for seed in range(self.TRIALS))  # fmt: skip
        assert self.covered(found) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / self.TRIALS))

    def covered(self, found: object) -> float:
        return sum(one.low <= 0 <= one.high for one in found) / self.TRIALS  # type: ignore[attr-defined]


class TestInterval:
    """Single intervals."""

    def test_is_that_of_the_normal_distribution_for_many_images(self) -> None:
        values = np.random.default_rng(0).normal(3, 2, size=2000)
        found = interval(values, resamples=4000)
        error = values.std() / math.sqrt(len(values))
        assert found.estimate == pytest.approx(values.mean())
        assert found.low == pytest.approx(values.mean() - stats.norm.ppf(0.975) * error, abs=0.1 * error)
        assert found.high == pytest.approx(values.mean() + stats.norm.ppf(0.975) * error, abs=0.1 * error)

    def test_is_students_for_trainings_that_differ_alone(self) -> None:
        """The same value at every image: a t interval of the trainings' means."""
        means = np.array([1.0, 2.0, 4.0, 7.0])
        found = interval(np.repeat(means[:, None], 50, axis=1), resamples=20_000)
        reach = stats.t.ppf(0.975, 3) * means.std(ddof=1) / 2
        assert found.estimate == 3.5
        assert found.high - found.estimate == pytest.approx(reach, rel=0.02)

    def test_median(self) -> None:
        assert interval(np.array([1.0, 2.0, 10.0]), "median").estimate == 2
        assert interval(np.array([1.0, 2.0, 4.0, 10.0]), "median").estimate == 3
        found = interval(np.arange(101.0), "median")
        assert found.low < found.estimate == 50 < found.high

    def test_undefined_values_are_left_out(self) -> None:
        values = np.array([[1.0, np.nan, 3.0, 2.0], [np.nan, np.nan, 5.0, 4.0]])
        assert interval(values).estimate == 3
        assert interval(values, "median").estimate == 3
        assert all(map(math.isnan, interval(np.full(3, np.nan))))
        assert all(map(math.isnan, interval(np.empty((1, 0)), "median")))

    def test_equal_values_have_no_width(self) -> None:
        assert interval(np.full(20, 2.5)) == (2.5, 2.5, 2.5)
        assert interval(np.full((3, 20), 2.5)) == (2.5, 2.5, 2.5)

    def test_same_seed_same_interval(self) -> None:
        values = simulated(3, 40, (1, 1, 1), 0)
        assert interval(values, seed=5) == interval(values, seed=5) != interval(values, seed=6)

    @pytest.mark.parametrize(
        ("values", "statistic", "level"), [(np.zeros((2, 2, 2)), "mean", 0.95), (np.zeros(3), "mode", 0.95),
                                           (np.zeros(3), "mean", 95)])  # fmt: skip
    def test_what_is_refused(self, values: Floats, statistic: str, level: float) -> None:
        with pytest.raises(DataError, match="mean or median, and a level between 0 and 1"):
            interval(values, statistic, level)


class TestDifference:
    """Two manifolds at the same images."""

    def test_pairs_show_what_single_intervals_hide(self) -> None:
        images = simulated(1, 100, (0, 10, 0), 0)
        a, b = images, images + 0.5 + simulated(1, 100, (0, 0.5, 0), 1)
        assert interval(a).high > interval(b).low
        found, verdict = difference(a, b)
        assert verdict == "a is smaller"
        assert found.estimate == pytest.approx(-0.5, abs=0.2)
        assert difference(b, a)[1] == "b is smaller"

    def test_cannot_tell(self) -> None:
        assert difference(simulated(1, 50, (0, 1, 0), 0), simulated(1, 50, (0, 1, 0), 1))[1] == "cannot tell"
        same = simulated(3, 50, (1, 1, 1), 0)
        assert difference(same[:1], same[:1]) == ((0, 0, 0), "cannot tell")

    def test_undefined_at_one_is_left_out_of_both(self) -> None:
        found, _ = difference(np.array([1.0, np.nan, 3.0]), np.array([[0.0, 7.0, 1.0], [2.0, 7.0, 3.0]]))
        assert found.estimate == pytest.approx(0.5)

    def test_other_images(self) -> None:
        with pytest.raises(DataError, match="3 and at 4 images"):
            difference(np.zeros(3), np.zeros(4))


class TestPairs:
    """Pairs of trainings."""

    def test_mean_is_that_of_the_pairs(self) -> None:
        values = np.arange(24.0).reshape(3, 2, 4)
        assert interval_of_pairs(values).estimate == pytest.approx(values.mean())
        square = pairs(4, 10, (1, 1, 1), True, 0)
        square[range(4), range(4)] = np.nan
        above = square[np.triu_indices(4, 1)]
        assert interval_of_pairs(square, alike=True).estimate == pytest.approx(above.mean())

    def test_of_single_trainings_is_that_of_the_images(self) -> None:
        values = simulated(1, 50, (0, 1, 0), 0)
        assert interval_of_pairs(values[None]) == interval(values)
        two = np.full((2, 2, 50), np.nan)
        two[0, 1] = two[1, 0] = values[0]
        assert interval_of_pairs(two, alike=True) == interval(values)

    def test_one_training_has_no_pair_with_itself(self) -> None:
        assert all(map(math.isnan, interval_of_pairs(np.zeros((1, 1, 50)), alike=True)))

    def test_images_with_an_undefined_value_are_left_out(self) -> None:
        values = np.ones((2, 2, 3))
        values[0, 1, 2] = np.nan
        values[1, 1, 2] = 7
        assert interval_of_pairs(values) == (1, 1, 1)

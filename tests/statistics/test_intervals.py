"""Bootstrap intervals: how often they cover, and what they are in simple cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from latent_atlas.errors import DataError
from latent_atlas.statistics.intervals import _medians, difference, differences, interval, intervals, share

Floats = NDArray[np.float64]


def simulated(trainings: int, images: int, spreads: tuple[float, float, float], seed: int, times: int = 1) -> Floats:
    """Values about zero, trainings by images by ``times``.

    An effect of each training, one of each image, and a rest, with these standard deviations.
    """
    draw = np.random.default_rng(seed).normal
    one, other, rest = spreads
    found: Floats = (
        one * draw(size=(trainings, 1, times))
        + other * draw(size=(1, images, times))
        + rest * draw(size=(trainings, images, times))
    )
    return found


def covered(found: Floats) -> float:
    """How many of the intervals of zero, estimates, lower and upper limits (3, C), contain it."""
    return float(((found[1] <= 0) & (found[2] >= 0)).mean())


TRIALS = 2000
ERROR = 4 * math.sqrt(0.95 * 0.05 / TRIALS)  # of the simulation
SPREADS = [(1, 0, 0.01), (1, 1, 1), (0.3, 1, 0.3), (0.1, 1, 0.1), (0, 1, 0.3)]  # of trainings, images, the rest


class TestCoverage:
    """An interval of 95% covers the true value in 95 of 100 cases, to within the error of the simulation."""

    @pytest.mark.parametrize("statistic", ["mean", "median"])
    @pytest.mark.parametrize("images", [10, 60])
    def test_of_images(self, images: int, statistic: str) -> None:
        found = intervals(simulated(1, images, (0, 1, 0), 0, TRIALS), statistic, resamples=500)
        assert covered(found) == pytest.approx(0.95, abs=ERROR + 0.015)

    @pytest.mark.parametrize("trainings", [2, 3, 5])
    def test_of_few_trainings_that_differ_alone(self, trainings: int) -> None:
        """As often as it says; pooled degrees of freedom leave it at 88% of the cases where images differ too."""
        found = intervals(simulated(trainings, 10, (1, 0, 1e-9), 0, TRIALS), resamples=500)
        assert covered(found) == pytest.approx(0.95, abs=ERROR)

    def test_of_medians_over_images_and_trainings(self) -> None:
        found = intervals(simulated(2, 40, (1, 1, 1), 0, 300), "median", resamples=300)
        assert covered(found) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300)

    @pytest.mark.parametrize("trainings", [2, 3, 5, 8])
    @pytest.mark.parametrize("spreads", SPREADS)
    def test_of_images_and_trainings(self, trainings: int, spreads: tuple[float, float, float]) -> None:
        """Never below 95%; above it where trainings are few and differ little."""
        found = intervals(simulated(trainings, 40, spreads, 0, TRIALS), resamples=300)
        assert 0.95 - ERROR < covered(found) < (0.995 if trainings < 5 else 0.975)

    @pytest.mark.parametrize("trainings", [(1, 5), (2, 2), (3, 2), (5, 5)])
    def test_of_a_difference_between_models(self, trainings: tuple[int, int]) -> None:
        """The effect of an image is in both models, and so in neither's difference to the other."""
        shared = simulated(1, 40, (0, 3, 0), 0, TRIALS)
        a, b = (
            shared + simulated(count, 40, (0.3 if count > 1 else 0, 0.2, 0.2), 7 + model, TRIALS)
            for model, count in enumerate(trainings)
        )
        assert 0.95 - ERROR < covered(differences(a, b, resamples=300)) < 0.995


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

    def test_medians_of_resamples_are_those_of_repeated_values(self) -> None:
        draw = np.random.default_rng(0)
        for images, way in ((3, 1), (40, 1), (40, 0)):
            values = draw.normal(size=(3, images, 2)).round(1)  # with ties
            values[draw.random(values.shape) < 0.2] = np.nan
            counts = draw.multinomial(values.shape[way], np.full(values.shape[way], 1 / values.shape[way]), size=50)
            expected = [np.nanmedian(values.repeat(times, axis=way), axis=(0, 1)) for times in counts]
            np.testing.assert_array_equal(_medians(values, way, counts.astype(float)), expected)

    @pytest.mark.parametrize("statistic", ["mean", "median"])
    def test_is_that_of_scipy(self, statistic: str) -> None:
        values = np.random.default_rng(0).gamma(2, size=300)
        theirs = stats.bootstrap(
            (values,), getattr(np, statistic), method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
        ).confidence_interval
        found = interval(values, statistic, resamples=4000)
        assert [found.low, found.high] == pytest.approx([theirs.low, theirs.high], abs=0.1 * (theirs.high - theirs.low))

    def test_many_at_once_are_each_by_itself(self) -> None:
        values = simulated(2, 30, (1, 1, 1), 0, 3)
        values[0, 4, 1] = np.nan
        for statistic in ("mean", "median"):
            several = intervals(values, statistic)
            alone = [interval(values[..., one], statistic) for one in range(3)]
            np.testing.assert_allclose(several.T, alone, rtol=1e-12)

    def test_of_few_images_there_is_none(self) -> None:
        assert all(map(math.isfinite, interval(np.arange(6.0))))
        for values in (np.arange(5.0), np.array([[1.0], [2.0]]), np.array([1.0, 2, 3, 4, 5, np.nan])):
            found = interval(values)
            assert found.estimate == np.nanmean(values)
            assert math.isnan(found.low)
            assert math.isnan(found.high)

    def test_same_seed_same_interval(self) -> None:
        values = simulated(3, 40, (1, 1, 1), 0)[..., 0]
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
        images = simulated(1, 100, (0, 10, 0), 0)[..., 0]
        a, b = images, images + 0.5 + simulated(1, 100, (0, 0.5, 0), 1)[..., 0]
        assert interval(a).high > interval(b).low
        found, verdict = difference(a, b)
        assert verdict == "a is smaller"
        assert found.estimate == pytest.approx(-0.5, abs=0.2)
        assert difference(b, a)[1] == "b is smaller"

    def test_cannot_tell(self) -> None:
        assert (
            difference(simulated(1, 50, (0, 1, 0), 0)[..., 0], simulated(1, 50, (0, 1, 0), 1)[..., 0])[1]
            == "cannot tell"
        )
        same = simulated(3, 50, (1, 1, 1), 0)[..., 0]
        assert difference(same[:1], same[:1]) == ((0, 0, 0), "cannot tell")

    def test_rounding_is_no_difference(self) -> None:
        """As between two subspaces that both contain a displacement."""
        assert difference(np.full(50, 1.0), np.full(50, 1 - 1e-15))[1] == "cannot tell"
        assert difference(np.full(50, 1.0), np.full(50, 1 - 1e-9))[1] == "b is smaller"

    def test_undefined_at_one_is_left_out_of_both(self) -> None:
        found, _ = difference(np.array([1.0, np.nan, 3.0]), np.array([[0.0, 7.0, 1.0], [2.0, 7.0, 3.0]]))
        assert found.estimate == pytest.approx(0.5)

    def test_other_images(self) -> None:
        with pytest.raises(DataError, match="3 and at 4 images"):
            difference(np.zeros(3), np.zeros(4))


class TestShare:
    """A share of images."""

    def test_is_wilsons(self) -> None:
        found = share(np.arange(200) < 150)
        z, p, n = stats.norm.ppf(0.975), 0.75, 200
        centre, reach = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        assert found == pytest.approx((p, (centre - reach) / (1 + z**2 / n), (centre + reach) / (1 + z**2 / n)))

    def test_of_all_and_none_is_one_sided(self) -> None:
        assert share(np.ones(1000, dtype=bool)) == pytest.approx((1, 0.05**0.001, 1))
        assert share(np.ones(1000, dtype=bool)).low == pytest.approx(1 - 3 / 1000, abs=1e-5)
        assert share(np.zeros((3, 100), dtype=bool)) == pytest.approx((0, 0, 1 - 0.05**0.01))

    def test_of_several_trainings(self) -> None:
        """Where trainings differ alone, as many images do not make it narrow."""
        holds = np.repeat(np.array([[True], [True], [False]]), 500, axis=1)
        assert share(holds) == pytest.approx((2 / 3, 0, 1))
        assert all(map(math.isnan, share(np.ones((1, 0), dtype=bool))))

"""spectrum: singular values and what follows from them, against planted matrices and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from surfaces import orthonormal, planted, random

from latent_atlas.errors import DataError
from latent_atlas.geometry.spectra import Spectrum, code_factor, rank_tolerance, spectrum

SHAPES = [(7, 5), (5, 7), (6, 6), (784, 16)]
DTYPES = [torch.float64, torch.float32]


class TestValues:
    """The singular values themselves."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_are_the_planted_ones_largest_first(self, shape: tuple[int, int], dtype: torch.dtype) -> None:
        values = [0.5, 3.0, 0.25, 2.0, 1.0]
        found = spectrum(planted(*shape, values).to(dtype))
        assert found.values.dtype == dtype
        assert found.values.shape == (min(shape),)
        expected = sorted(values, reverse=True) + [0.0] * (min(shape) - 5)
        assert found.values.tolist() == pytest.approx(expected, abs=20 * torch.finfo(dtype).eps)
        assert found.sigma_max == pytest.approx(3.0, rel=1e-6)
        assert found.sigma_min == pytest.approx(expected[-1], rel=1e-6, abs=1e-6)


class TestRank:
    """How many singular values count."""

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_of_a_product_of_thin_matrices(self, shape: tuple[int, int], dtype: torch.dtype, rank: int) -> None:
        rows, columns = shape
        product = random(rows, rank) @ random(rank, columns, seed=1)
        assert spectrum(product.to(dtype)).rank == rank
        assert np.linalg.matrix_rank(product.to(dtype).numpy()) == rank

    def test_lost_to_single_precision_only(self) -> None:
        matrix = planted(784, 16, [10.0 ** (-number / 2) for number in range(16)])  # 1 to 3e-8
        exact, rough = spectrum(matrix), spectrum(matrix.float())
        assert exact.rank == 16
        assert rough.rank == np.linalg.matrix_rank(matrix.float().numpy()) == 9  # 784 x 1.2e-7 is 9.3e-5
        assert exact.sigma_min == pytest.approx(10**-7.5, rel=1e-6)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_tolerance_is_that_of_numpy(self, shape: tuple[int, int], dtype: torch.dtype) -> None:
        """A diagonal matrix, whose singular values are exact: one of them just above the tolerance, one below."""
        tolerance = 3.0 * max(shape) * torch.finfo(dtype).eps
        matrix = torch.zeros(shape, dtype=dtype)
        diagonal = torch.tensor([3.0, 1.0, 1.001 * tolerance, 0.999 * tolerance], dtype=dtype)
        matrix[range(4), range(4)] = diagonal
        found = spectrum(matrix)
        assert found.tolerance == rank_tolerance(found.values, shape) == pytest.approx(tolerance, rel=1e-12)
        assert found.rank == np.linalg.matrix_rank(matrix.numpy()) == 3

    def test_value_at_the_tolerance_counts_as_zero(self) -> None:
        values = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
        assert Spectrum(values, tolerance=0.5).rank == 2
        assert Spectrum(values, tolerance=0.4999).rank == 3

    def test_of_nothing(self) -> None:
        found = spectrum(torch.zeros(4, 3, dtype=torch.float64))
        assert (found.rank, found.tolerance) == (0, 0.0)


class TestVolume:
    """By what factor volumes grow."""

    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_of_a_square_matrix_is_its_determinant(self, size: int) -> None:
        matrix = random(size, size, seed=size)
        assert spectrum(matrix).log_volume == pytest.approx(np.linalg.slogdet(matrix.numpy())[1], abs=1e-12)

    def test_of_a_tall_matrix_is_that_of_its_metric(self) -> None:
        matrix = random(40, 6)
        expected = np.linalg.slogdet((matrix.T @ matrix).numpy())[1] / 2
        assert spectrum(matrix).log_volume == pytest.approx(expected, abs=1e-12)

    def test_of_many_small_values_does_not_vanish(self) -> None:
        matrix = torch.eye(128) * 1e-3  # its determinant, 1e-384, is no float64
        assert spectrum(matrix).log_volume == pytest.approx(128 * math.log(float(matrix[0, 0])), rel=1e-12)

    def test_of_a_rotation_is_zero(self) -> None:
        assert spectrum(torch.linalg.qr(random(5, 5))[0]).log_volume == pytest.approx(0, abs=1e-14)


class TestCondition:
    """How unequal the singular values are."""

    @pytest.mark.parametrize("shape", SHAPES)
    def test_is_that_of_numpy(self, shape: tuple[int, int]) -> None:
        matrix = random(*shape)
        assert spectrum(matrix).condition_number == pytest.approx(np.linalg.cond(matrix.numpy()), rel=1e-10)

    @pytest.mark.parametrize("diagonal", [[2.0, 0.0], [0.0, 0.0]])
    def test_of_a_singular_matrix_is_infinite(self, diagonal: list[float]) -> None:
        found = spectrum(torch.diag(torch.tensor(diagonal, dtype=torch.float64)))
        assert found.condition_number == math.inf
        assert found.log_volume == -math.inf
        assert found.rank == sum(value > 0 for value in diagonal)


class TestHowManyCount:
    """Effective rank and participation ratio."""

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_of_equal_values_is_their_number(self, count: int) -> None:
        found = spectrum(planted(9, 8, [0.3] * count))
        assert found.effective_rank == pytest.approx(count, rel=1e-12)
        assert found.participation_ratio == pytest.approx(count, rel=1e-12)

    def test_of_two_values(self) -> None:
        found = spectrum(torch.diag(torch.tensor([3.0, 1.0])))
        assert found.effective_rank == pytest.approx(4 / 3**0.75, rel=1e-12)  # of the weights 3/4 and 1/4
        assert found.participation_ratio == pytest.approx(100 / 82, rel=1e-12)

    def test_do_not_depend_on_the_scale(self) -> None:
        matrix = random(20, 6)
        one, other = spectrum(matrix), spectrum(matrix * 1e-100)
        assert other.effective_rank == pytest.approx(one.effective_rank, rel=1e-12)
        assert other.participation_ratio == pytest.approx(one.participation_ratio, rel=1e-12)

    def test_of_nothing_is_undefined(self) -> None:
        found = spectrum(torch.zeros(4, 3, dtype=torch.float64))
        assert math.isnan(found.effective_rank)
        assert math.isnan(found.participation_ratio)


class TestCodeFactor:
    """The factor of the covariance of codes."""

    @pytest.mark.parametrize("sizes", [[500], [3, 1, 200, 296], [1] * 30])
    def test_is_one_of_the_covariance(self, sizes: list[int]) -> None:
        codes = random(sum(sizes), 5) @ random(5, 5, seed=1) + 7
        factor = code_factor(codes.split(sizes))
        assert factor.shape == (5, 5)
        torch.testing.assert_close(factor @ factor.T, torch.cov(codes.T), rtol=1e-12, atol=1e-12)

    def test_of_codes_in_a_subspace(self) -> None:
        """A direction in which codes do not vary is left out, wherever the mean lies."""
        spread = orthonormal(6, 2)  # k x r
        codes = random(100, 2) @ spread.T + 100 * random(1, 6, seed=3)
        factor = code_factor(codes.split(40))
        assert factor.shape == (6, 2)
        torch.testing.assert_close(factor @ factor.T, torch.cov(codes.T), rtol=0, atol=1e-11)

    def test_of_unlike_scales(self) -> None:
        """Nothing is squared: standard deviations 1 and 1e-12 are both kept, to their digits."""
        codes = random(1000, 2) * torch.tensor([1, 1e-12], dtype=torch.float64)
        factor = code_factor([codes])
        assert torch.linalg.svdvals(factor).tolist() == pytest.approx(codes.std(0).tolist(), rel=1e-2)
        assert factor.shape == (2, 2)

    def test_knows_the_rounding_of_the_codes(self) -> None:
        """Of float32 only what is more than its rounding."""
        codes = random(1000, 1) @ torch.ones(1, 2, dtype=torch.float64) / 3 + 5
        noise = torch.tensor([1 + 1e-7, 1.0], dtype=torch.float64)
        assert code_factor([codes]).shape == code_factor([(codes * noise).float()]).shape == (2, 1)

    def test_of_codes_that_are_all_the_same(self) -> None:
        assert code_factor([random(1, 4).expand(50, -1)]).shape == (4, 0)
        assert code_factor([torch.zeros(50, 4)]).shape == (4, 0)

    @pytest.mark.parametrize("count", [0, 1])
    def test_of_too_few(self, count: int) -> None:
        with pytest.raises(DataError, match=f"{count} codes have no standard deviation"):
            code_factor([random(count, 4)])


@pytest.mark.parametrize("k", [1, 3, 6])
def test_per_standard_deviation_no_linear_change_of_codes_counts(k: int) -> None:
    jacobian, codes = random(30, k), random(200, k, seed=1) @ random(k, k, seed=2)
    change, shift = random(k, k, seed=3), random(1, k, seed=4)  # new codes are codes @ change.T + shift
    changed = jacobian @ torch.linalg.inv(change)
    one = spectrum(jacobian @ code_factor([codes]))
    other = spectrum(changed @ code_factor([codes @ change.T + shift]))
    assert other.values.tolist() == pytest.approx(one.values.tolist(), rel=1e-10)
    for number in ("condition_number", "log_volume", "effective_rank", "participation_ratio"):
        assert getattr(other, number) == pytest.approx(getattr(one, number), rel=1e-10)
    if k > 1:
        assert abs(spectrum(changed).condition_number / spectrum(jacobian).condition_number - 1) > 0.1

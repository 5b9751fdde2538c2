"""spectrum: singular values and what follows from them, against planted matrices and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from surfaces import planted, random

from latent_atlas.geometry.spectra import Spectrum, rank_tolerance, spectrum

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

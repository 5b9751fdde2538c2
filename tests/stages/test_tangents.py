"""tangents: orthonormal bases, and galleries in which every tangent vector is seen once."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import Study
from surfaces import central_differences, collapsed, measure, orthonormal, planted, random, succeeded
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.geometry.bases import orthonormal_basis, with_fixed_signs
from latent_atlas.geometry.manifold import Autoencoder, load_manifold
from latent_atlas.report.figures.style import save, signed_mosaic
from latent_atlas.report.figures.tangents import gallery_columns, plot_tangents
from latent_atlas.report.sections import tangents as sections

MANIFOLDS = ("fc2", "fc4", "pca2", "pca2_uncentred")


def identity(size: int) -> Tensor:
    """The identity matrix in float64."""
    return torch.eye(size, dtype=torch.float64)


def positive(vectors: Tensor) -> bool:
    """Whether the largest entry of each column in absolute value is positive."""
    return bool((vectors.gather(0, vectors.abs().argmax(0, keepdim=True)) > 0).all())


class TestBasis:
    """An orthonormal basis of the columns of a matrix."""

    @pytest.mark.parametrize("shape", [(784, 16), (9, 9), (5, 1), (784, 128)])
    def test_is_orthonormal_and_spans_the_columns(self, shape: tuple[int, int]) -> None:
        jacobian = random(*shape) @ torch.diag(torch.logspace(1, -3, shape[1], dtype=torch.float64))
        basis = orthonormal_basis(jacobian)
        assert basis.shape == shape
        torch.testing.assert_close(basis.T @ basis, identity(shape[1]), rtol=0, atol=1e-13)
        left = torch.linalg.qr(jacobian)[0]
        torch.testing.assert_close(basis @ basis.T, left @ left.T, rtol=0, atol=1e-10)

    def test_comes_strongest_first(self) -> None:
        left, right = orthonormal(50, 4), orthonormal(4, 4, seed=1)
        strengths = torch.tensor([0.1, 10.0, 0.01, 1.0], dtype=torch.float64)
        basis = orthonormal_basis(left @ torch.diag(strengths) @ right.T)
        expected = with_fixed_signs(left[:, [1, 3, 0, 2]])
        torch.testing.assert_close(basis, expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("rank", [1, 3, 5])
    def test_has_as_many_vectors_as_the_rank(self, rank: int) -> None:
        jacobian = random(40, rank) @ random(rank, 5, seed=1)
        basis = orthonormal_basis(jacobian)
        assert basis.shape == (40, rank)
        torch.testing.assert_close(basis.T @ basis, identity(rank), rtol=0, atol=1e-13)
        torch.testing.assert_close(basis @ (basis.T @ jacobian), jacobian, rtol=0, atol=1e-12)

    def test_counts_what_is_small_but_no_rounding(self) -> None:
        assert orthonormal_basis(planted(784, 5, [1.0, 1e-3, 1e-6, 1e-9, 1e-12])).shape == (784, 5)
        assert orthonormal_basis(planted(784, 5, [1.0, 1e-3, 1e-6, 1e-9, 1e-14])).shape == (784, 4)

    def test_of_no_direction_is_empty(self) -> None:
        assert orthonormal_basis(torch.zeros(9, 3, dtype=torch.float64)).shape == (9, 0)

    @pytest.mark.parametrize("scale", [1.0, 0.01, 250.0])
    def test_keeps_orthonormal_columns_and_their_order(self, scale: float) -> None:
        columns = orthonormal(784, 128)
        basis = orthonormal_basis(scale * columns)
        torch.testing.assert_close(basis, with_fixed_signs(columns), rtol=0, atol=1e-13)
        one_signed = orthonormal_basis(columns * torch.tensor([1.0, -1.0] * 64, dtype=torch.float64))
        torch.testing.assert_close(one_signed, basis, rtol=0, atol=1e-13)


class TestSigns:
    """Which of the two ways a vector points."""

    def test_largest_entry_is_positive(self) -> None:
        vectors = random(30, 7)
        fixed = with_fixed_signs(vectors)
        assert not positive(vectors)
        assert positive(fixed)
        torch.testing.assert_close(fixed.abs(), vectors.abs(), rtol=0, atol=0)
        assert all(torch.equal(a, b) or torch.equal(a, -b) for a, b in zip(fixed.T, vectors.T, strict=True))

    def test_do_not_depend_on_those_of_the_columns_or_on_the_chart(self) -> None:
        jacobian = random(30, 4)
        basis = orthonormal_basis(jacobian)
        assert positive(basis)
        torch.testing.assert_close(orthonormal_basis(-jacobian), basis, rtol=0, atol=1e-12)
        torch.testing.assert_close(orthonormal_basis(jacobian @ orthonormal(4, 4)), basis, rtol=0, atol=1e-12)

    def test_of_nothing(self) -> None:
        assert torch.equal(with_fixed_signs(torch.zeros(4, 2)), torch.zeros(4, 2))


class TestGallery:
    """How the vectors are laid out."""

    @pytest.mark.parametrize(
        ("count", "rows", "columns"), [(16, 2, 8), (32, 4, 8), (128, 8, 16), (3, 1, 3), (33, 3, 16)]
    )
    def test_shape(self, count: int, rows: int, columns: int) -> None:
        assert gallery_columns(count) == columns
        mosaic = signed_mosaic(random(count, 1, 4, 5), columns)
        assert mosaic.shape == (rows * 5, columns * 6)

    def test_of_128_vectors_holds_each_of_them_once_row_by_row(self) -> None:
        vectors = random(128, 1, 28, 28)
        mosaic = signed_mosaic(vectors, gallery_columns(128))
        assert mosaic.shape == (8 * 29, 16 * 29)
        tiles = mosaic.reshape(8, 29, 16, 29).transpose(0, 2, 1, 3).reshape(128, 29, 29)
        for number, tile in enumerate(tiles):
            assert np.array_equal(tile[:28, :28], vectors[number, 0].numpy())
            assert np.isnan(tile[28]).all()
            assert np.isnan(tile[:, 28]).all()
        assert len({tile[:28, :28].tobytes() for tile in tiles}) == 128

    def test_drawn_with_128_vectors_shows_128_pictures(self, tmp_path: Path) -> None:
        """Each vector has a colour of its own, and each colour fills one tile."""
        vectors = torch.linspace(-1, 1, 128, dtype=torch.float64)[:, None, None, None].expand(-1, 1, 6, 6)
        save(plot_tangents(vectors, "title"), tmp_path / "gallery.png")
        pixels = (matplotlib.image.imread(tmp_path / "gallery.png")[..., :3] * 255).round().astype(int)
        _, areas = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        *tiles, paper = sorted(areas)[-129:]
        assert min(tiles) > 0.9 * max(tiles) > 50 * 50  # the colour bar has the same colours, in slivers
        assert sorted(areas)[-130] < 0.5 * min(tiles)
        assert paper > max(tiles)

    def test_of_each_pixel_the_channel_that_changes_most_is_drawn(self) -> None:
        vectors = torch.tensor([[0.5, 0.1], [-0.6, 0.2], [0.0, -0.1]]).view(1, 3, 1, 2)  # red against green cancels
        np.testing.assert_array_equal(signed_mosaic(vectors, 1, gap=0), [np.array([-0.6, 0.2], dtype=np.float32)])


@pytest.fixture(scope="module")
def results(trained: Study, digits_file: Path) -> Path:
    """What the stage has written of each manifold."""
    for name in MANIFOLDS:
        succeeded(measure(trained, "tangents", name, digits_file))
    return trained.folder / "results"


class TestStage:
    """The stage on a small study."""

    @pytest.mark.parametrize("name", ["fc2", "fc4"])
    def test_columns_are_those_of_the_jacobian_at_the_probe(
        self, name: str, results: Path, trained: Study, digits: Images
    ) -> None:
        stored = load_file(results / "tangents" / name / "tangents.safetensors")
        surface = load_manifold(trained.folder / "checkpoints" / f"{name}.safetensors").to(torch.float64)
        assert isinstance(surface, Autoencoder)
        code = surface.encode(digits.train[5:6].double() / 255)[0]
        expected = central_differences(surface, code)
        assert positive(stored["columns"])
        signs = (expected * stored["columns"]).sum(0).sign()
        torch.testing.assert_close(stored["columns"] * signs, expected, rtol=0, atol=1e-8)
        torch.testing.assert_close(stored["basis"], orthonormal_basis(expected), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", ["pca2", "pca2_uncentred"])
    def test_vectors_of_pca_are_its_components(self, name: str, results: Path) -> None:
        stored = load_file(results / "tangents" / name / "tangents.safetensors")
        components = load_file(results.parent / "checkpoints" / "components.safetensors")["components"][:2].T
        torch.testing.assert_close(stored["columns"], components, rtol=0, atol=0)
        torch.testing.assert_close(stored["basis"], components, rtol=0, atol=1e-14)

    @pytest.mark.parametrize("name", MANIFOLDS)
    def test_galleries_show_something(self, name: str, results: Path) -> None:
        for file in ("columns.png", "singular_vectors.png"):
            pixels = matplotlib.image.imread(results / "tangents" / name / file)[..., :3]
            assert min(pixels.shape[:2]) > 100
            assert ((pixels[..., 0] - pixels[..., 2]) > 0.3).any()  # red
            assert ((pixels[..., 2] - pixels[..., 0]) > 0.3).any()  # blue

    def test_decoder_that_draws_one_image_only(self, study: Study, trained: Study, digits_file: Path) -> None:
        collapsed(trained).save(study.folder / "checkpoints" / "point.safetensors")
        succeeded(measure(study, "tangents", "point", digits_file))
        stored = load_file(study.folder / "results" / "tangents" / "point" / "tangents.safetensors")
        assert torch.equal(stored["columns"], torch.zeros(64, 2).double())
        assert stored["basis"].shape == (64, 0)

    def test_section_shows_the_first_of_each_group_openly_and_all_of_all(self, results: Path, trained: Study) -> None:
        section = sections.section(results, trained.params)
        assert [picture.caption.partition(":")[0] for picture in section.pictures] == ["fc2", "pca2"]
        assert (
            len({picture.path.read_bytes() for picture in section.pictures + section.folded}) >= 6
        )  # pca2 and pca2_uncentred agree
        captions = [picture.caption for picture in section.pictures + section.folded]
        assert len(captions) == len(set(captions)) == 2 * len(MANIFOLDS)
        assert "can move pullover" in section.sentences[0]

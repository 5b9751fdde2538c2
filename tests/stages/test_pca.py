"""pca: the same components as scikit-learn's full decomposition, and the errors that are known of FashionMNIST."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from support import Study
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.errors import ModelError
from latent_atlas.geometry import pca
from latent_atlas.geometry.manifold import batches, load_manifold
from latent_atlas.geometry.pca import PrincipalComponents, fit
from latent_atlas.report.sections.pca import computed

DIMENSIONS = (16, 32, 128)


@pytest.fixture(scope="module")
def sample(fashion_mnist: Images) -> Tensor:
    """The first 5,000 training images."""
    return fashion_mnist.train[:5000]


@pytest.fixture(scope="module")
def fitted(sample: Tensor) -> PrincipalComponents:
    """Our components of the sample."""
    return fit(sample)


@pytest.fixture(scope="module")
def reference(sample: Tensor) -> PCA:
    """scikit-learn's components of the sample, by a full singular value decomposition."""
    return PCA(svd_solver="full").fit(sample.flatten(1).double().numpy() / 255)


class TestAgainstScikitLearn:
    """Two ways to the same decomposition."""

    def test_components_up_to_sign(self, fitted: PrincipalComponents, reference: PCA) -> None:
        ours, theirs = fitted.components.numpy()[:128], reference.components_[:128]
        signs = np.sign((ours * theirs).sum(axis=1))
        assert np.abs(ours - signs[:, None] * theirs).max() < 1e-9

    @pytest.mark.parametrize("k", DIMENSIONS)
    def test_subspaces(self, k: int, fitted: PrincipalComponents, reference: PCA) -> None:
        ours, theirs = fitted.components.numpy()[:k], reference.components_[:k]
        assert np.abs(ours.T @ ours - theirs.T @ theirs).max() < 1e-9

    def test_variance_and_mean(self, fitted: PrincipalComponents, reference: PCA) -> None:
        assert np.abs(fitted.variance.numpy() - reference.explained_variance_).max() < 1e-9
        assert np.abs(fitted.mean.numpy() - reference.mean_).max() < 1e-12


class TestComponents:
    """What holds of all components."""

    def test_are_orthonormal(self, fitted: PrincipalComponents) -> None:
        gram = fitted.components @ fitted.components.T
        torch.testing.assert_close(gram, torch.eye(784, dtype=torch.float64), rtol=0, atol=1e-12)
        assert fitted.components.dtype == torch.float64

    def test_come_strongest_first(self, fitted: PrincipalComponents) -> None:
        assert fitted.variance.shape == (784,)
        assert bool((fitted.variance.diff() <= 1e-12).all())
        assert fitted.variance.min() >= 0

    def test_have_their_largest_entry_positive(self, fitted: PrincipalComponents, digits: Images) -> None:
        for components in (fitted.components, fit(digits.train).components):
            strongest = components.gather(1, components.abs().argmax(1, keepdim=True))
            assert bool((strongest > 0).all())

    def test_hold_all_variance_of_the_pixels(self, fitted: PrincipalComponents, sample: Tensor) -> None:
        pixels = sample.flatten(1).double() / 255
        assert float(fitted.variance.sum()) == pytest.approx(float(pixels.var(0).sum()), rel=1e-12)

    def test_of_fewer_images_than_pixels(self, fashion_mnist: Images) -> None:
        few = fit(fashion_mnist.train[:50])
        assert few.components.shape == (50, 784)
        x = fashion_mnist.train[:50].double() / 255
        assert float((few.subspace(50).reconstruct(x) - x).abs().max()) < 1e-9
        with pytest.raises(ModelError, match=r"no 128 components: choose 1 to 50$"):
            few.subspace(128)


# Images, the limits that make PCA take this way, and how many components it then finds.
WAYS = {
    "covariance": (900, pca.LARGEST, pca.STORED, 784),
    "Gram matrix": (700, pca.LARGEST, pca.STORED, 700),
    "iterations": (700, 100, 2**16, 20),
}


class TestLargeImages:
    """Where not all components fit into memory, the strongest are found, by the matrix that does fit."""

    @pytest.mark.parametrize("way", WAYS)
    def test_all_ways_agree_with_scikit_learn(
        self, way: str, fashion_mnist: Images, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        count, largest, stored, components = WAYS[way]
        monkeypatch.setattr(pca, "LARGEST", largest)
        monkeypatch.setattr(pca, "STORED", stored)
        monkeypatch.setattr(pca, "BLOCK", 100_000)  # several blocks
        images = fashion_mnist.train[:count]
        found = fit(images, 20)
        reference = PCA(svd_solver="full").fit(images.flatten(1).double().numpy() / 255)
        assert len(found.components) == components
        ours, theirs = found.components.numpy()[:20], reference.components_[:20]
        signs = np.sign((ours * theirs).sum(axis=1))
        assert np.abs(ours - signs[:, None] * theirs).max() < 1e-11
        assert np.abs(found.variance[:20].numpy() - reference.explained_variance_[:20]).max() < 1e-11
        assert found.total_variance == pytest.approx(reference.explained_variance_.sum(), rel=1e-12)
        identity = torch.eye(len(found.components), dtype=torch.float64)
        torch.testing.assert_close(found.components @ found.components.T, identity, rtol=0, atol=1e-12)

    def test_images_that_are_all_the_same(self) -> None:
        found = fit(torch.full((5, 1, 3, 4), 17, dtype=torch.uint8), 2)
        assert float(found.variance.abs().max()) == found.total_variance == 0
        gram = found.components @ found.components.T
        torch.testing.assert_close(gram, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-12)

    def test_stage_says_that_others_were_left_out(
        self, study: Study, digits: Images, digits_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pca, "LARGEST", 10)
        monkeypatch.setattr(pca, "STORED", 100)
        done = study.run(*study.pca_arguments(digits_file, "out"))
        assert done.exit_code == 0, done.output
        table = pd.read_csv(study.folder / "out" / "summary.csv")
        reference = PCA(svd_solver="full").fit(digits.train.flatten(1).double().numpy() / 255)
        assert table["component"].tolist() == [1, 2]
        assert table["variance_share"].tolist() == pytest.approx(list(reference.explained_variance_ratio_[:2]))
        assert computed(table) == [
            "Only the 2 strongest components were computed. The shares are of the whole variance."
        ]

    def test_nothing_is_said_where_all_were_computed(self, fitted: PrincipalComponents) -> None:
        assert computed(pd.DataFrame({"cumulative_share": (fitted.variance / fitted.total_variance).cumsum(0)})) == []


class TestSubspace:
    """The first k components as a manifold."""

    @pytest.mark.parametrize("k", [785, 0, -1])
    def test_impossible_dimension(self, k: int, fitted: PrincipalComponents) -> None:
        with pytest.raises(ModelError, match=f"no {k} components: choose 1 to 784$"):
            fitted.subspace(k)

    def test_all_components_give_every_image_back(self, fitted: PrincipalComponents, fashion_mnist: Images) -> None:
        x = fashion_mnist.test[:20].double() / 255
        for centred in (True, False):
            y = fitted.subspace(784, centred).reconstruct(x)
            torch.testing.assert_close(y, x, rtol=0, atol=1e-11)

    def test_uncentred_passes_through_zero(self, fitted: PrincipalComponents) -> None:
        flat = fitted.subspace(16, centred=False)
        assert flat.family == "pca_uncentred"
        assert not flat.decode(torch.zeros(1, 16, dtype=torch.float64)).any()
        assert torch.equal(flat.components, fitted.subspace(16).components)

    def test_training_error_is_the_variance_left_over(self, fitted: PrincipalComponents, sample: Tensor) -> None:
        x = sample.double() / 255
        for k in DIMENSIONS:
            error = float((fitted.subspace(k).reconstruct(x) - x).square().mean())
            left = float(fitted.variance[k:].sum()) * (len(sample) - 1) / len(sample) / 784
            assert error == pytest.approx(left, rel=1e-9)

    @pytest.mark.parametrize(
        ("centred", "published"),
        [(True, ["0.02045", "0.01514", "0.00631"]), (False, ["0.02137", "0.01537", "0.00633"])],
    )
    def test_known_test_errors(
        self, centred: bool, published: list[str], principal: PrincipalComponents, fashion_mnist: Images
    ) -> None:
        found = []
        for k in DIMENSIONS:
            flat = principal.subspace(k, centred)
            total = sum(
                float((flat.reconstruct(x) - x).square().sum()) for x in batches(fashion_mnist.test, flat.dtype)
            )
            found.append(f"{total / fashion_mnist.test.numel():.5f}")
        assert found == published


class TestStage:
    """What the stage has written in a whole run."""

    def test_spectrum(self, finished: Study, digits: Images) -> None:
        table = pd.read_csv(finished.folder / "results" / "pca" / "summary.csv")
        reference = PCA(svd_solver="full").fit(digits.train.flatten(1).double().numpy() / 255)
        assert list(table.columns) == ["component", "variance", "variance_share", "cumulative_share"]
        assert table["component"].tolist() == list(range(1, 65))
        assert table["variance"].tolist() == pytest.approx(reference.explained_variance_.tolist(), abs=1e-11)
        assert table["variance_share"].tolist() == pytest.approx(
            reference.explained_variance_ratio_.tolist(), abs=1e-11
        )
        assert table["cumulative_share"].iloc[-1] == pytest.approx(1, abs=1e-11)

    def test_components_and_manifolds(self, finished: Study, digits: Images) -> None:
        expected = fit(digits.train)
        stored = load_file(finished.folder / "results" / "pca" / "components.safetensors")
        torch.testing.assert_close(stored["components"], expected.components, rtol=0, atol=1e-9)
        for name, centred in (("pca2", True), ("pca2_uncentred", False)):
            surface = load_manifold(finished.folder / "results" / "checkpoints" / f"{name}.safetensors")
            assert (surface.family, surface.latent_dim) == ("pca" if centred else "pca_uncentred", 2)
            x = digits.test[:5].double() / 255
            torch.testing.assert_close(
                surface.reconstruct(x), expected.subspace(2, centred).reconstruct(x), rtol=0, atol=1e-9
            )

    def test_more_dimensions_than_pixels(self, study: Study, digits_file: Path) -> None:
        study.edit("pca.latent_dims", [2, 65])
        done = study.run(*study.pca_arguments(digits_file, "out"))
        assert done.exit_code == 1
        assert "pca.latent_dims: 65 is too large" in done.stderr
        assert not list(study.folder.rglob("*.safetensors"))


def test_covariance_is_exact() -> None:
    """The sums of products of pixels are those of whole numbers, also over several parts."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (700, 1, 3, 2), dtype=torch.uint8, generator=generator)
    rows = pixels.flatten(1).long()
    covariance = (700 * rows.T @ rows - torch.outer(rows.sum(0), rows.sum(0))).double() / (255**2 * 700 * 699)
    found = fit(pixels)
    rebuilt = found.components.T @ torch.diag(found.variance) @ found.components
    torch.testing.assert_close(rebuilt, covariance, rtol=1e-13, atol=1e-16)
    assert torch.equal(found.mean, rows.sum(0).double() / (255 * 700))

"""fetch: what is read, what is refused, and what is written."""

from __future__ import annotations

import gzip
import hashlib
import re
import resource
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support import COMMAND, Study, quoted, sealed
from torch import Tensor

from latent_atlas.data import sources as datasets
from latent_atlas.data.images import Images, in_grey
from latent_atlas.data.sources import idx
from latent_atlas.errors import DataError


def as_idx(array: Tensor) -> bytes:
    """An IDX file of bytes, written from the format's description alone."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.numpy().astype(np.uint8).tobytes()


def fill(folder: Path, images: Images) -> None:
    """Write a dataset as four plain IDX files."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, file in idx.FILES.items():
        array = getattr(images, key)
        (folder / file).write_bytes(as_idx(array[:, 0] if array.ndim == 4 else array))


@pytest.fixture(scope="module")
def idx_folder(fashion_mnist: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """FashionMNIST as four plain IDX files."""
    folder = tmp_path_factory.mktemp("fashion-mnist")
    fill(folder, fashion_mnist)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def damaged(idx_folder: Path, tmp_path: Path) -> Path:
    """A folder with FashionMNIST's four files, to spoil one of them."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in idx.FILES.values():
        (folder / file).symlink_to(idx_folder / file)
    return folder


class TestParse:
    """The IDX parser against bytes written by hand."""

    def test_images(self) -> None:
        content = bytearray.fromhex("00000803 00000002 00000002 00000003") + bytes(
            [0, 1, 2, 3, 4, 5, 255, 7, 8, 9, 10, 11]
        )
        parsed = idx.parse(content, "file")
        assert parsed.dtype == torch.uint8
        assert parsed.tolist() == [[[0, 1, 2], [3, 4, 5]], [[255, 7, 8], [9, 10, 11]]]

    def test_labels(self) -> None:
        assert idx.parse(bytearray.fromhex("00000801 00000003 090003"), "file").tolist() == [9, 0, 3]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "it starts with nothing"),
            ("1f8b0808", "it starts with 1f8b0808"),
            ("00000d01 00000001 00000000", "not an IDX file of bytes"),  # floats
            ("00000803 00000002", "its header alone takes 16 bytes, it has 8"),
            ("00000801 00000003 0900", "announces 3 = 3 bytes but holds 2"),
            ("00000802 00000001 00000002 090003", "announces 1x2 = 2 bytes but holds 3 or more"),
            ("00000800 07", "is an IDX file of rank 0: images have rank 3"),
            ("000008ff" + 255 * "00000001" + "07", "is an IDX file of rank 255"),
        ],
    )
    def test_refuses(self, content: str, says: str) -> None:
        with pytest.raises(DataError, match=re.escape(says)) as caught:
            idx.parse(bytearray.fromhex(content), "train-labels-idx1-ubyte")
        assert "train-labels-idx1-ubyte" in str(caught.value)


class TestFolder:
    """A folder of the user's."""

    def test_files_written_anew_have_the_published_checksums(self, idx_folder: Path) -> None:
        found = {file: hashlib.md5((idx_folder / file).read_bytes()).hexdigest() for file in idx.FILES.values()}
        assert found == {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        }

    def test_plain_and_gzipped_files_side_by_side_and_below(
        self, fashion_mnist: Images, damaged: Path, idx_folder: Path
    ) -> None:
        for file in ("t10k-images-idx3-ubyte", "train-labels-idx1-ubyte"):
            (damaged / file).unlink()
            packed = gzip.compress((idx_folder / file).read_bytes(), compresslevel=1)
            (damaged / f"{file}.gz").write_bytes(packed)
        read = datasets.get("FashionMNIST", "grey", damaged.parent, damaged)
        assert read.checksum == fashion_mnist.checksum
        assert read.shape == (1, 28, 28)
        assert (len(read.train), len(read.test)) == (60_000, 10_000)
        assert read.train_labels.bincount().tolist() == [6_000] * 10
        assert read.classes[0] == "T-shirt/top"
        assert len(read.classes) == 10

    def test_names_the_file_that_is_missing(self, damaged: Path) -> None:
        (damaged / "t10k-labels-idx1-ubyte").unlink()
        with pytest.raises(DataError, match="lacks t10k-labels-idx1-ubyte") as caught:
            datasets.get("FashionMNIST", "grey", damaged, damaged)
        assert str(damaged) in str(caught.value)

    def test_names_a_truncated_archive_with_both_checksums(self, damaged: Path, idx_folder: Path) -> None:
        file = "t10k-labels-idx1-ubyte"
        whole = gzip.compress((idx_folder / file).read_bytes(), mtime=0)
        (damaged / file).unlink()
        (damaged / f"{file}.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError) as caught:
            datasets.get("FashionMNIST", "grey", damaged, damaged)
        message = str(caught.value)
        assert str(damaged / f"{file}.gz") in message
        assert "15d484375f8d13e6eb1aabb0c3f46965" in message
        assert hashlib.md5(whole[: len(whole) // 2]).hexdigest() in message
        assert "get it again" in message

    def test_names_a_flipped_byte_with_both_checksums(self, damaged: Path, idx_folder: Path) -> None:
        file = "t10k-labels-idx1-ubyte"
        content = bytearray((idx_folder / file).read_bytes())
        content[5000] ^= 1
        (damaged / file).unlink()
        (damaged / file).write_bytes(content)
        with pytest.raises(DataError) as caught:
            datasets.get("FashionMNIST", "grey", damaged, damaged)
        message = str(caught.value)
        assert str(damaged / file) in message
        assert "expected MD5 15d484375f8d13e6eb1aabb0c3f46965" in message
        assert f"found {hashlib.md5(content).hexdigest()}" in message

    @pytest.mark.parametrize("name", ["FashionMNIST", "CIFAR10"])
    def test_that_is_not_there(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"there is no folder .*absent"):
            datasets.get(name, "grey", tmp_path / "absent", tmp_path)
        assert list(tmp_path.iterdir()) == []


def small(folder: Path, value: int, side: int = 4, label: int = 0, parts: tuple[str, ...] = ("train", "t10k")) -> None:
    """IDX files of twenty images each, of one grey."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        (folder / f"{part}-images-idx3-ubyte").write_bytes(as_idx(torch.full((20, side, side), value)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(as_idx(torch.full((20,), label)))


def greys(folder: Path, name: str = "MNIST") -> set[tuple[int, int]]:
    """The first pixel of each split."""
    read = datasets.get(name, None, folder, folder)
    return {(int(read.train[0, 0, 0, 0]), int(read.test[0, 0, 0, 0]))}


class TestWhichDataset:
    """A folder may hold several datasets, under several names."""

    @pytest.mark.parametrize("place", ["MNIST/raw", "MNIST", ".", "somewhere/below"])
    def test_all_files_come_from_one_place(self, tmp_path: Path, place: str) -> None:
        small(tmp_path / "FashionMNIST" / "raw", 1)
        small(tmp_path / "EMNIST" / "raw", 2)
        small(tmp_path / place, 3)
        assert greys(tmp_path) == {(3, 3)}

    def test_the_places_have_an_order(self, tmp_path: Path) -> None:
        for value, place in enumerate(("MNIST/raw", "MNIST", ".", "old")):
            small(tmp_path / place, value)
        for value, place in enumerate(("MNIST/raw", "MNIST", ".")):
            assert greys(tmp_path) == {(value, value)}
            for file in (tmp_path / place).glob("*ubyte"):
                file.unlink()
        assert greys(tmp_path) == {(3, 3)}

    def test_two_candidates_below_are_named(self, tmp_path: Path) -> None:
        small(tmp_path / "new", 1)
        small(tmp_path / "old", 2)
        with pytest.raises(DataError, match=r"holds MNIST in .*new and in .*old: name one of them as dataset.folder"):
            greys(tmp_path)

    def test_another_dataset_is_not_taken_for_it(self, tmp_path: Path) -> None:
        small(tmp_path / "FashionMNIST" / "raw", 1)
        with pytest.raises(DataError, match=r"lacks train-images-idx3-ubyte, .*FashionMNIST/raw is of another dataset"):
            greys(tmp_path)

    def test_halves_in_two_places_make_no_whole(self, tmp_path: Path) -> None:
        small(tmp_path / "a", 1, parts=("train",))
        small(tmp_path / "b", 1, parts=("t10k",))
        with pytest.raises(DataError, match="lacks t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte: all files of MNIST"):
            greys(tmp_path)

    @pytest.mark.parametrize("ending", ["", ".gz"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_names_with_dots_and_contents_that_their_names_do_not_tell(
        self, tmp_path: Path, ending: str, packed: bool
    ) -> None:
        small(tmp_path, 3)
        for file in list(tmp_path.iterdir()):
            content = file.read_bytes()
            file.unlink()
            dotted = tmp_path / (file.name.replace("-idx", ".idx") + ending)
            dotted.write_bytes(gzip.compress(content) if packed else content)
        assert greys(tmp_path) == {(3, 3)}

    def test_two_spellings_of_one_file_are_named(self, tmp_path: Path) -> None:
        small(tmp_path, 3)
        shutil.copy(tmp_path / "train-images-idx3-ubyte", tmp_path / "train-images.idx3-ubyte.gz")
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte and .*train-images\.idx3-ubyte\.gz may both be"):
            greys(tmp_path)

    def test_a_packed_file_that_differs_from_the_plain_one_is_named(self, tmp_path: Path) -> None:
        small(tmp_path, 3)
        plain = tmp_path / "train-images-idx3-ubyte"
        packed = tmp_path / "train-images-idx3-ubyte.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        assert greys(tmp_path) == {(3, 3)}
        packed.write_bytes(gzip.compress(plain.read_bytes().replace(b"\3", b"\4")))
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte and .*\.gz hold different train-images"):
            greys(tmp_path)

    @pytest.mark.parametrize(
        "header", ["", "00000803 00000014 00000004 00000004", "00000803 ffffffff ffffffff ffffffff"]
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_no_more_is_read_than_the_header_announces(self, tmp_path: Path, header: str, packed: bool) -> None:
        small(tmp_path, 3)
        path = tmp_path / "train-images-idx3-ubyte"
        with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
            file.write(bytes.fromhex(header))
            for _ in range(200):
                file.write(bytes(2**20))
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        with pytest.raises(DataError, match=str(path)):
            greys(tmp_path)
        if "ffff" not in header:
            assert time.perf_counter() - start < 0.5
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB

    @pytest.mark.parametrize("shape", [(), (0,), (0, 4, 4), (20, 0, 4), (20,), (20, 16)])
    @pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"])
    def test_images_of_another_rank_or_without_pixels(self, tmp_path: Path, file: str, shape: tuple[int, ...]) -> None:
        small(tmp_path, 3)
        (tmp_path / file).write_bytes(as_idx(torch.zeros(shape)))
        with pytest.raises(DataError, match=file) as caught:
            greys(tmp_path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["MNIST", "KMNIST", "FashionMNIST"])
    def test_contents_of_the_published_sizes_are_verified(self, tmp_path: Path, name: str) -> None:
        generator = torch.Generator().manual_seed(0)
        for key, file in idx.FILES.items():
            count = 60_000 if key.startswith("train") else 10_000
            side = () if key.endswith("labels") else (28, 28)
            (tmp_path / file).write_bytes(as_idx(torch.randint(0, 10, (count, *side), generator=generator)))
        with pytest.raises(DataError, match=r"cannot be verified|is not the file that"):
            datasets.get(name, None, tmp_path, tmp_path)
        packed = tmp_path / f"{idx.FILES['train']}.gz"
        packed.write_bytes(gzip.compress((tmp_path / idx.FILES["train"]).read_bytes(), 1))
        with pytest.raises(DataError, match="is not the file that"):
            datasets.get(name, None, tmp_path, tmp_path)

    def test_sizes_labels_and_numbers_must_agree(self, tmp_path: Path) -> None:
        small(tmp_path, 3, parts=("train",))
        small(tmp_path, 3, side=5, parts=("t10k",))
        with pytest.raises(DataError, match="mixes sizes: 4x4 images for training, 5x5 for testing"):
            greys(tmp_path)
        small(tmp_path, 3, label=10, parts=("t10k",))
        with pytest.raises(DataError, match="t10k-labels-idx1-ubyte holds the label 10, but MNIST has 10 classes"):
            greys(tmp_path)
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(as_idx(torch.zeros(0, 4, 4)))
        with pytest.raises(DataError, match="with at least one image"):
            greys(tmp_path)

    @pytest.mark.parametrize("count", [0, 19, 21])
    def test_labels_of_another_number_name_both_files(self, tmp_path: Path, count: int) -> None:
        small(tmp_path, 3)
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(as_idx(torch.zeros(count)))
        with pytest.raises(
            DataError, match=rf"t10k-images\S* holds 20 images, but \S*t10k-labels\S* {count} labels: get"
        ):
            greys(tmp_path)

    @pytest.mark.parametrize("name", ["MNIST", "KMNIST"])
    def test_contents_of_another_dataset_are_told_by_their_checksum(self, idx_folder: Path, name: str) -> None:
        with pytest.raises(DataError, match=f"is not the file that {name} consists of: .*, that of FashionMNIST"):
            datasets.get(name, None, idx_folder, idx_folder)

    def test_a_set_of_ones_own_in_the_format_is_told_from_the_published_one(self, tmp_path: Path) -> None:
        small(tmp_path, 3)
        said: list[str] = []
        datasets.get("MNIST", None, tmp_path, tmp_path, said.append)
        assert "does not hold the 60000 + 10000 images of MNIST: taken as a set of your own" in said[-1]

    def test_no_advice_of_another_library_is_passed_on(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"lacks cifar-10-batches-py/data_batch_1") as caught:
            datasets.get("CIFAR10", None, tmp_path, tmp_path)
        assert "download=True" not in str(caught.value)
        (tmp_path / "CIFAR10" / "cifar-10-batches-py").mkdir(parents=True)
        for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
            (tmp_path / "CIFAR10" / "cifar-10-batches-py" / file).touch()
        with pytest.raises(DataError, match=r"its checksum is not the published one") as caught:
            datasets.get("CIFAR10", None, tmp_path, tmp_path)
        assert "download=True" not in str(caught.value)


class TestSources:
    """Where datasets come from."""

    def test_unknown_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"unknown dataset 'Fashion': choose one of CIFAR10, .*FashionMNIST"):
            datasets.get("Fashion", "grey", None, tmp_path)

    def test_without_a_network_says_what_was_tried_and_what_to_do(self, study: Study) -> None:
        study.edit("dataset.name", "KMNIST")
        command = [COMMAND, "fetch", "--images", "images.safetensors", "--log", "fetch.log"]
        done = sealed(quoted(*command), study.folder, "--net", "--mount")
        assert done.returncode == 1
        assert "no source delivered KMNIST" in done.stderr
        assert "codh.rois.ac.jp" in done.stderr
        assert "dataset.folder in params.yaml" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(study.folder.rglob("*images*"))


class TestColour:
    """CIFAR's colours."""

    def test_grey_by_the_weights_of_red_green_and_blue(self) -> None:
        colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [10, 200, 30]]
        pixels = torch.tensor(colours, dtype=torch.uint8).view(6, 3, 1, 1)
        grey = in_grey(pixels)
        assert grey.dtype == torch.uint8
        assert grey.shape == (6, 1, 1, 1)
        assert grey.flatten().tolist() == [76, 150, 29, 255, 0, 124]  # 10·0.299 + 200·0.587 + 30·0.114 = 123.8

    def test_every_grey_stays_what_it_is(self) -> None:
        ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
        assert torch.equal(in_grey(ramp), ramp[:, :1])


class TestCommand:
    """``latent-atlas fetch``."""

    def test_digits(self, study: Study) -> None:
        from sklearn.datasets import load_digits

        study.run("fetch", "--images", "first.safetensors")
        done = study.run("fetch", "--images", "again/second.safetensors", "--log", "logs/fetch.log")
        assert done.exit_code == 0, done.output
        first = study.folder / "first.safetensors"
        assert first.read_bytes() == (study.folder / "again" / "second.safetensors").read_bytes()
        images = Images.load(first)
        assert (len(images.train), len(images.test)) == (1500, 297)
        scans, labels = load_digits(return_X_y=True)
        both = torch.cat([images.train, images.test]).flatten(1).numpy()
        assert np.abs(both / 255 - scans / 16).max() <= 0.5 / 255
        assert torch.cat([images.train_labels, images.test_labels]).tolist() == labels.tolist()
        log = (study.folder / "logs" / "fetch.log").read_text()
        assert "1500 training and 297 test images of 1x8x8" in log

    def test_limit(self, study: Study, digits: Images) -> None:
        study.edit("dataset.limit", 80)
        assert study.run("fetch", "--images", "images.safetensors").exit_code == 0
        images = Images.load(study.folder / "images.safetensors")
        assert torch.equal(images.train, digits.train[:80])
        assert torch.equal(images.test_labels, digits.test_labels[:80])

    def test_folder_of_the_user(self, study: Study, digits: Images) -> None:
        fill(study.folder / "mine" / "raw", digits)  # MNIST publishes no checksum of the plain files
        study.edit("dataset", {"name": "MNIST", "colour": "grey", "folder": "mine", "limit": None})
        assert study.run("fetch", "--images", "images.safetensors").exit_code == 0
        assert Images.load(study.folder / "images.safetensors").checksum == digits.checksum

    def test_leaves_nothing_half_written(self, study: Study) -> None:
        (study.folder / "mine").mkdir()
        study.edit("dataset", {"name": "FashionMNIST", "colour": "grey", "folder": "mine", "limit": None})
        done = study.run("fetch", "--images", "data/images.safetensors")
        assert done.exit_code == 1
        assert "mine lacks train-images-idx3-ubyte" in done.stderr
        left = sorted(path.name for path in study.folder.rglob("*"))
        assert left == ["data", "mine", "params.yaml"]

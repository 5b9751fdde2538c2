"""Arrays of the user's: every layout, type and file that is read, and what is refused."""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latent_atlas.data.images import Images
from latent_atlas.data.sources import obtain
from latent_atlas.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)  # N x C x H x W
LABELS = np.arange(20) % 2 * 5 + 2  # 2 and 7


def got(path: Path, **wanted: Any) -> Images:
    return obtain({"arrays": str(path)} | wanted, path.parent)


def same(images: Images, pixels: np.ndarray) -> bool:
    """Whether the dataset holds these images, in any order."""
    found = torch.cat([images.train, images.test]).flatten(1).tolist()
    return sorted(found) == sorted(pixels.reshape(len(pixels), -1).tolist())


def test_npz_with_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=LABELS)
    images = got(tmp_path / "a.npz", test_share=0.3)
    assert same(images, PIXELS)
    assert (len(images.train), len(images.test)) == (14, 6)
    assert images.classes == ("2", "7")
    assert images.test_labels.bincount().tolist() == [3, 3]  # each label has its share
    place = {row.tobytes(): index for index, row in enumerate(PIXELS)}
    words = [images.classes[label] for label in images.train_labels.tolist()]
    assert words == [str(LABELS[place[row.numpy().tobytes()]]) for row in images.train]


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt", ".safetensors"])
def test_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"my $(data){ending}"
    match ending:
        case ".npy":
            np.save(path, PIXELS)
        case ".npz":
            np.savez_compressed(path, PIXELS)
        case ".pt":
            torch.save(torch.from_numpy(PIXELS), path)
        case _:
            save_file({"x": torch.from_numpy(PIXELS)}, path)
    images = got(path)
    assert same(images, PIXELS)
    assert images.classes == ("unlabelled",)
    assert images.made == {"source": "arrays", "test_share": 0.1, "seed": 0}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_every_kind(tmp_path: Path, save: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latent_atlas.data.sources.arrays.PART_BYTES", 100)
    words = np.array([f"class {number % 2}" for number in range(20)])
    save(tmp_path / "a.npz", images=np.asfortranarray(PIXELS), labels=words, year=np.float64(2020))
    images = got(tmp_path / "a.npz")
    assert same(images, PIXELS)
    assert images.classes == ("class 0", "class 1")


def test_what_is_no_array_in_a_npz_is_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.mkdir("sub")
        archive.writestr("README.txt", "how it was made")
        archive.writestr("__MACOSX/x", "")
        archive.write(tmp_path / "images.npy", "sub/images.npy")
    assert same(got(tmp_path / "a.npz"), PIXELS)


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 28, 28), (1, 28, 28)])
def test_npz_whose_parts_are_not_what_they_announce(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(100_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        DataError, match=r"a\.npz cannot be read \(ValueError: images\.npy announces \d+ bytes and holds"
    ):
        got(tmp_path / "a.npz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_damaged_tensors(tmp_path: Path) -> None:
    """Torch compares no checksums, and can leave them out."""
    path = tmp_path / "a.pt"
    torch.save({"images": torch.from_numpy(PIXELS)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(PIXELS[7].tobytes(), PIXELS[8].tobytes()))
    with pytest.raises(DataError, match=r"a\.pt cannot be read \(BadZipFile: Bad CRC-32"):
        got(path)
    path.write_bytes(whole.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1))
    with pytest.raises(DataError, match=r"a\.pt cannot be read \(BadZipFile: Bad magic number for file header"):
        got(path)
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"images": torch.from_numpy(PIXELS)}, path)
    finally:
        torch.serialization.set_crc32_options(before)
    images = got(path)
    assert len(images.train) + len(images.test) == len(PIXELS)


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(PIXELS[7].tobytes(), PIXELS[8].tobytes()))
    with pytest.raises(DataError, match=r"a\.npz cannot be read \(BadZipFile: Bad CRC-32"):
        got(tmp_path / "a.npz")


@pytest.mark.parametrize("save", ["savez", "savez_compressed"])
def test_npz_larger_than_memory(tmp_path: Path, save: str) -> None:
    """A process reads 200 MB while it may take 100 more than it has."""
    getattr(np, save)(tmp_path / "a.npz", images=np.zeros((200, 1000, 1000), np.uint8))
    code = (
        "import re, sys; from pathlib import Path; from latent_atlas.data.sources import arrays, obtain\n"
        "def held(): return int(re.search(r'RssAnon:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024\n"
        "before = held(); most = 0\n"
        "def gathered(*given):\n"
        "    global most; most = max(most, held()); return given[0](*given[1:])\n"
        "layout = arrays._layout\n"
        "def watched(*given):\n"
        "    part, shape = layout(*given); return lambda index: gathered(part, index), shape\n"
        "arrays._layout = watched\n"
        "images = obtain({'arrays': 'a.npz'}, Path()); print(most - before, held() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux' /proc")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(float(more) < 100 for more in done.stdout.split())  # MiB


def test_torch_tuples_and_legacy_files(tmp_path: Path) -> None:
    pair = (torch.from_numpy(PIXELS), torch.from_numpy(LABELS))
    torch.save(pair, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(got(tmp_path / "a.pt"), PIXELS)
    assert got(tmp_path / "a.pt").classes == ("2", "7")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS[:, :1].transpose(0, 2, 3, 1), PIXELS[:, :1]),
        (PIXELS.astype(np.float32) / 255, PIXELS),
        (PIXELS.astype(np.float64) / 255, PIXELS),
        ((PIXELS / 255).astype(">f4"), PIXELS),
        ((PIXELS / 255).astype(np.longdouble), PIXELS),
        (PIXELS > 127, (PIXELS > 127) * np.uint8(255)),
    ],
)
def test_every_layout_and_type(tmp_path: Path, array: np.ndarray, expected: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    assert same(got(tmp_path / "a.npy"), expected)


def test_grey_of_colour(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    luma = np.rint(np.tensordot([0.299, 0.587, 0.114], PIXELS.astype(float), (0, 1))).astype(int)  # N x H x W
    found = got(tmp_path / "a.npy", colour="grey")
    assert found.shape == (1, 4, 5)
    ordered = sorted(torch.cat([found.train, found.test]).flatten(1).tolist())
    assert np.abs(np.array(ordered) - np.array(sorted(luma.reshape(20, -1).tolist()))).max() <= 1


@pytest.mark.parametrize("names", [("train", "test", "train_labels"), ("x_train", "x_test", "y_train")])
def test_splits_of_its_own_are_kept_as_they_are(tmp_path: Path, names: tuple[str, str, str]) -> None:
    train, test, labels = names
    other = labels.replace("train", "test")
    parts: dict[str, Any] = {train: PIXELS[:15], test: PIXELS[15:], labels: LABELS[:15, None], other: LABELS[15:]}
    np.savez(tmp_path / "a.npz", **parts, extra=LABELS)
    images = got(tmp_path / "a.npz")
    assert torch.equal(images.train, torch.from_numpy(PIXELS[:15]))
    assert torch.equal(images.test, torch.from_numpy(PIXELS[15:]))
    assert (images.test_labels * 5 + 2).tolist() == LABELS[15:].tolist()
    with pytest.raises(DataError, match=r"divided into train and test already: leave out dataset\.test_share"):
        got(tmp_path / "a.npz", test_share=0.5)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"images": PIXELS.astype(np.int64)}, "images are of type int64, not uint8 or floats"),
        ({"images": PIXELS.astype(np.float32)}, r"must lie in \[0, 1\]; these go from 0 to 255"),
        ({"images": np.full((9, 4, 4), np.nan)}, "images hold numbers that are NaN: mend or leave out"),
        ({"images": np.full((9, 4, 4), np.inf)}, r"must lie in \[0, 1\]; these go from inf"),
        ({"images": PIXELS.astype(">u2")}, "images are of type uint16, not uint8 or floats"),
        ({"images": PIXELS[:, :2]}, "of shape 20 x 2 x 4 x 5, not N x H x W"),
        ({"images": PIXELS[:, :, :, :3]}, "it is unclear which of them is C"),
        ({"images": PIXELS[0, 0]}, "of shape 4 x 5, not"),
        ({"images": PIXELS[:0]}, "nothing may be empty"),
        ({"images": PIXELS, "labels": LABELS[1:]}, r"labels are int64 of shape \(19,\)"),
        ({"images": PIXELS, "labels": LABELS / 3}, "labels are float64"),
        ({"images": PIXELS[:1]}, "of 1 image, dataset.test_share: 0.1 leaves 1 for training and 0 for testing"),
        ({"a": PIXELS, "b": LABELS}, "holds a, b; it must hold images"),
        ({"train": PIXELS}, "holds train; it must hold images"),
        ({"train": PIXELS, "test": PIXELS[..., 1:]}, r"two shapes, \(3, 4, 5\) for training and \(3, 4, 4\)"),
        ({"train": PIXELS, "test": PIXELS, "test_labels": LABELS}, "no labels of the other split"),
        ({"images": np.array([None])}, "cannot be read .*pickle"),
    ],
)
def test_refused(tmp_path: Path, parts: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "a.npz", **parts)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=f"(?i){says}"):
        got(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.pt", "a.safetensors", "a.csv", "absent.npz"])
def test_other_files(tmp_path: Path, name: str) -> None:
    if name != "absent.npz":
        (tmp_path / name).write_bytes(b"<html></html>")
    with pytest.raises(DataError, match=r"dataset\.arrays: .*a.*") as caught:
        got(tmp_path / name)
    assert ("absent" in name) != ("is a web page: download the file itself" in str(caught.value))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a Git LFS pointer, not the file"),
        (b"Not Found", "is a text, perhaps the answer of a server"),
        (b"", "is empty"),
    ],
)
def test_files_that_stand_for_others_are_told(tmp_path: Path, content: bytes, says: str) -> None:
    for ending in (".npz", ".npy", ".pt", ".safetensors"):
        (tmp_path / f"a{ending}").write_bytes(content)
        with pytest.raises(DataError, match=rf"dataset\.arrays: .*a\{ending} {says}"):
            got(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4)}", None),
        ("{'descr': '<M8[s/0]', 'fortran_order': False, 'shape': (2, 3, 4)}", "it holds '<M8"),
        ("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2, 3, 4)}", "records of several"),
        ("{'descr': '|u1', 'fortran_order': 0, 'shape': (2, 3, 4)}", "its header is not that of an array"),
        (
            "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, 4), 'more': 1}",
            "its header is not that of an array",
        ),
        ("{'descr': '|u1', 'shape': (2, 3, 4)}", "its header is not that of an array"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -3, 4)}", r"its shape is \(-2, -3, 4\)"),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 6, 4)}", "its shape is"),
    ],
)
def test_what_a_header_of_numpy_may_say(tmp_path: Path, said: str, why: str | None) -> None:
    for version, length in ((1, 2), (2, 4), (3, 4)):
        content = b"\x93NUMPY" + bytes([version, 0]) + len(said).to_bytes(length, "little") + said.encode() + bytes(24)
        (tmp_path / "a.npy").write_bytes(content)
        if why is None:
            assert got(tmp_path / "a.npy", test_share=0.5).shape == (1, 3, 4)
            continue
        with pytest.raises(DataError, match=rf"a\.npy cannot be read .*{why}"):
            got(tmp_path / "a.npy")


def test_version_of_numpy_s_format(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    content = bytearray((tmp_path / "a.npy").read_bytes())
    content[6] = 9
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"version 9\.0 of numpy's format"):
        got(tmp_path / "a.npy")


def test_tensors_without_a_form_are_refused(tmp_path: Path) -> None:
    torch.save(torch.from_numpy(PIXELS / 255).to_sparse(), tmp_path / "a.pt")
    with pytest.raises(DataError, match="images is a tensor that is sparse: save the dense one"):
        got(tmp_path / "a.pt")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    torch.save({"images": Evil()}, tmp_path / "a.pt")
    with pytest.raises(DataError, match="holds more than tensors, and reading it could run foreign code"):
        got(tmp_path / "a.pt")
    assert not (tmp_path / "pwned").exists()

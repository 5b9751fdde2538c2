"""Pictures of the user's: which are read, what they are made into, how they are divided and labelled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import Study, planned

from latent_atlas.data.images import Images
from latent_atlas.data.sources import matched, obtain
from latent_atlas.errors import DataError, ParamsError
from latent_atlas.study.schema import DatasetParams
from latent_atlas.study.sources import dataset_files

SHAPE = (6, 8, 3)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photos(folder: str = "photos", per_class: int = 10) -> dict[str, np.ndarray]:
    """Pictures of random colours in two folders; their pixels by the name of the file."""
    draw, made = np.random.default_rng(0), {}
    for word in ("cat", "dog"):
        Path(folder, word).mkdir(parents=True)
        for number in range(per_class):
            made[f"{word}/{number}.png"] = pixels = draw.integers(0, 256, SHAPE, dtype=np.uint8)
            Image.fromarray(pixels).save(Path(folder, word, f"{number}.png"))
    return made


def got(log: list[str] | None = None, **wanted: Any) -> Images:
    """The images of a section of params.yaml."""
    return obtain(wanted, Path(), (log if log is not None else []).append)


def both(images: Images) -> set[bytes]:
    """All images, as bytes."""
    return {image.numpy().tobytes() for image in torch.cat([images.train, images.test])}


class TestFiles:
    """Which files are read."""

    @pytest.mark.parametrize(
        "pattern", ["photos", "photos/**/*.png", "photos/*/*.png", "./photos", "{here}/photos", "{here}/photos/**/*.*"]
    )
    def test_all_pixels_arrive_unchanged(self, tmp_path: Path, pattern: str) -> None:
        made = photos()
        images = got(images=pattern.format(here=tmp_path))
        assert images.shape == (3, 6, 8)
        assert both(images) == {pixels.transpose(2, 0, 1).tobytes() for pixels in made.values()}
        assert (len(images.train), len(images.test)) == (18, 2)

    def test_a_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos("home/photos")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert len(got(images="~/photos").train) == 18

    def test_names_of_any_kind(self) -> None:
        photos("my [best] photos")
        for name in ("a b.png", "it's.png", 'a"b.png', "$(touch pwned).png", "~me.png", "[1].PNG", "back\\slash.png"):
            shutil.copy("my [best] photos/cat/0.png", Path("my [best] photos", name))
        assert len(got(images="my [best] photos").train) == 24
        assert len(dataset_files(DatasetParams(images="my [best] photos"))) == 27
        assert not Path("pwned").exists()

    def test_a_folder_gives_images_alone_and_no_hidden_ones(self) -> None:
        photos()
        for name in ("notes.txt", ".hidden.png", "._0.png"):
            Path("photos", name).touch()
        assert len(matched("photos")) == 20

    def test_formats(self) -> None:
        grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
        Path("photos").mkdir()
        for ending in ("png", "bmp", "tif", "pgm", "gif"):
            Image.fromarray(grey).save(f"photos/0.{ending}")
        images = got(images="photos", colour="grey", test_share=0.2)
        assert both(images) == {grey.tobytes()}

    def test_none(self) -> None:
        Path("photos").mkdir()
        with pytest.raises(DataError, match=r"dataset\.images: there are no images at photos"):
            got(images="photos")

    @pytest.mark.parametrize(
        ("name", "says"),
        [("a{x}.png", "holds braces"), ("a\nb.png", "holds braces or control characters"), ("a<x>.png", "or < >")],
    )
    def test_names_that_engines_cannot_hold(self, name: str, says: str) -> None:
        photos()
        Path("photos", name).touch()
        with pytest.raises(ParamsError, match=says):
            dataset_files(DatasetParams(images="photos"))

    def test_results_of_the_study_are_no_images_of_it(self) -> None:
        photos("results/reconstruct")
        with pytest.raises(ParamsError, match=r"matches results/reconstruct/cat/0\.png, which this study makes"):
            dataset_files(DatasetParams(images="**/*.png"))


class TestSkipped:
    """What cannot be used is counted and named."""

    def test_unreadable_files_and_other_sizes(self) -> None:
        photos()
        for number in range(6):
            Path("photos", f"broken_{number}.png").write_bytes(b"<html>")
        whole = Path("photos/cat/0.png").read_bytes()
        Path("photos/cut.png").write_bytes(whole[: len(whole) // 2])
        Image.new("RGB", (5, 5)).save("photos/small.png")
        said: list[str] = []
        images = got(said, images="photos")
        assert (images.made["skipped_unreadable"], images.made["skipped_other_size"], images.made["used"]) == (7, 1, 20)
        (line,) = [line for line in said if "skipped" in line]
        assert line.startswith("skipped 8 of 28: photos/broken_0.png: it is a web page: download the file")
        assert "; and 3 more; pictures of several sizes (height x width: 20 of 6x8, 1 of 5x5): set dataset.size" in line
        assert "photos/broken_5.png" not in line

    def test_a_tie_of_sizes_is_refused(self) -> None:
        photos()
        for number in range(20):
            Image.new("RGB", (5, 4)).save(f"photos/small_{number}.png")
        with pytest.raises(
            DataError, match=r"photos: pictures of several sizes \(height x width: 20 of .*set dataset.size"
        ):
            got(images="photos")
        assert got(images="photos", size=4).shape == (3, 4, 4)

    def test_none_is_left(self) -> None:
        Path("photos").mkdir()
        Path("photos/a.png").write_bytes(b"<html>")
        with pytest.raises(
            DataError, match=r"photos: none of 1 file can be read as an image; the first: photos/a\.png"
        ):
            got(images="photos")


class TestLabels:
    """From names of folders or from a CSV."""

    def test_folder_names(self) -> None:
        made = photos()
        images = got(images="photos")
        assert images.classes == ("cat", "dog")
        word = {pixels.transpose(2, 0, 1).tobytes(): name.partition("/")[0] for name, pixels in made.items()}
        for split in ("train", "test"):
            for pixels, label in zip(images.pixels(split), images.labels(split), strict=True):
                assert images.classes[int(label)] == word[pixels.numpy().tobytes()]

    @pytest.mark.parametrize("prefix", ["photos/", "", "../labels/../photos/"])
    def test_table(self, prefix: str) -> None:
        made = photos()
        Path("labels").mkdir()
        rows = [f'"{prefix}{name}",{10 - index % 3}' for index, name in enumerate(made)]
        Path("labels/labels.csv").write_text("\n".join(["file,label", *rows, "absent.png,7"]))
        images = got(images="photos", labels="labels/labels.csv")
        assert images.classes == ("8", "9", "10")  # by their value
        number = {pixels.transpose(2, 0, 1).tobytes(): 2 - i % 3 for i, pixels in enumerate(made.values())}
        found = zip(images.train, images.train_labels, strict=True)
        assert all(number[pixels.numpy().tobytes()] == int(label) for pixels, label in found)

    def test_missing_labels_are_counted(self) -> None:
        photos()
        Path("l.csv").write_text("file,label\nphotos/cat/0.png,a\nphotos/cat/1.png,\n")
        with pytest.raises(DataError, match=r"l\.csv has no label for 19 of 20 images, the first photos/cat/1\.png"):
            got(images="photos", labels="l.csv")

    def test_two_labels_for_one_image(self) -> None:
        photos()
        Path("l.csv").write_text("file,label\nphotos/cat/0.png,a\ncat/0.png,b\n")
        with pytest.raises(DataError, match=r"l\.csv gives cat/0\.png two labels, a and b"):
            got(images="photos", labels="l.csv")

    @pytest.mark.parametrize(
        ("head", "change"),
        [
            ("file,label", lambda row: row),
            ("\ufefffile,label", lambda row: row),
            (" File , Label", lambda row: row.replace(",", " , ")),
            ("number,file,label,split", lambda row: f"1,{row},train"),
            ("file,label", lambda row: row.replace("/", "\\")),  # as Windows writes paths
        ],
    )
    def test_tables_of_other_programs(self, head: str, change: Callable[[str], str]) -> None:
        made = photos()
        rows = [change(f"photos/{name},{'ab'[index % 2]}") for index, name in enumerate(made)]
        Path("l.csv").write_text("\n".join([head, *rows]), encoding="utf-8")
        images = got(images="photos", labels="l.csv")
        assert images.classes == ("a", "b")
        assert int(torch.cat([images.train_labels, images.test_labels]).sum()) == len(made) // 2

    def test_other_separators_are_told(self) -> None:
        photos()
        Path("l.csv").write_text("file;label\nphotos/cat/0.png;a\n")
        with pytest.raises(DataError, match=r"has the columns 'file;label'; it must have file and label, separated by"):
            got(images="photos", labels="l.csv")

    @pytest.mark.parametrize("text", ["", "name,label\na,b\n", "file,label\na,b,c\nd\n"])
    def test_no_table(self, text: str) -> None:
        photos()
        Path("l.csv").write_text(text)
        words = r"l\.csv (is no CSV in UTF-8|has the columns ('name'|none)|has 3 cells where the first has 2)"
        with pytest.raises(DataError, match=words):
            got(images="photos", labels="l.csv")


class TestWorkflow:
    """The rule that gets the images."""

    @pytest.fixture
    @staticmethod
    def own(study: Study) -> Study:
        photos("my photos", 30)
        study.edit("dataset", {"images": "my photos", "size": [8, 8], "colour": "rgb"})
        study.edit("sample.size", 6)
        study.edit("geodesics.pairs", None)
        study.edit("examples", None)
        study.edit("interpolate.pairs", None)
        study.edit("invariance", study.values["invariance"] | {"pictures": None})
        for key in ("tangents.example", "invariance.step_study.example", "invariance.epoch_study.example"):
            study.edit(key, None)
        return study

    def test_plans_fetches_and_notices_each_change(self, own: Study) -> None:
        plan = planned(own.snakemake("-n"))
        assert plan["fetch"] == 1
        assert plan["train"] == 2
        target = "data/images.safetensors"
        done = own.snakemake(target)
        assert done.returncode == 0, done.stderr
        images = Images.load(own.folder / target)
        assert (images.shape, len(images.train), len(images.test)) == ((3, 8, 8), 54, 6)
        assert images.made["crop"] == "centre"
        assert planned(own.snakemake("-n", target)) == {}
        Path("my photos/cat/0.png").unlink()
        assert planned(own.snakemake("-n", target)) == {"fetch": 1}
        own.snakemake(target)
        Image.new("RGB", (8, 6)).save("my photos/dog/new one.png")
        assert planned(own.snakemake("-n", target)) == {"fetch": 1}

    def test_a_study_that_does_not_fit_is_refused_before_it_is_trained(self, own: Study) -> None:
        for number in range(29):
            Path(f"my photos/cat/{number}.png").write_bytes(b"")
        done = own.run("fetch", "--images", "data/images.safetensors")
        assert done.exit_code == 1
        assert (
            "params.yaml does not fit the images: sample.size: 6 is too large, since my photos has 3 test"
            in done.stderr
        )
        assert list(Path("data").iterdir()) == []

    def test_the_same_study_gives_the_same_bytes_and_another_seed_others(self, own: Study) -> None:
        for seed, name in ((0, "a"), (0, "b"), (1, "c")):
            own.edit("dataset.seed", seed)
            assert own.run("fetch", "--images", name).exit_code == 0
        first, again, other = (Path(name).read_bytes() for name in "abc")
        assert first == again != other

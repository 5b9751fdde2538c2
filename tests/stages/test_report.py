"""report: a page that needs no other file, and sentences that say what the numbers say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from support import Study

from latent_atlas.data.images import Images
from latent_atlas.report import page
from latent_atlas.report.sections import reconstruct, train
from latent_atlas.study.manifolds import manifolds

VOID = {"meta", "link", "img", "br", "hr", "input", "col", "source", "wbr"}


class Page(HTMLParser):
    """A page as its elements, and whether every one of them is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()} closes another element"

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(finished: Study) -> str:
    """The page of a whole run."""
    return (finished.folder / "results" / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def read(text: str) -> Page:
    """The page, parsed."""
    return Page(text)


class TestPage:
    """The page of a whole run."""

    def test_is_well_formed(self, text: str, read: Page) -> None:
        assert text.startswith("<!doctype html>")
        assert read.open == []
        assert len(read.all("title")) == len(read.all("h1")) == len(read.all("main")) == 1
        assert "{{" not in text
        assert "{%" not in text

    def test_needs_no_other_file(self, text: str, read: Page) -> None:
        pictures = read.all("img")
        assert len(pictures) > 5
        for picture in pictures:
            assert re.match(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/=]{100,}$", picture["src"] or "")
        links = [value or "" for _, attributes in read.elements for key, value in attributes.items() if key == "href"]
        assert links
        assert all(link.startswith("#") for link in links)
        assert not {"link", "iframe"} & {tag for tag, _ in read.elements}
        # what each job took, where it lies beside the page; the text beside it says so where it does not
        assert [script["src"] for script in read.all("script") if "src" in script] == ["records.js"]
        assert "results/records.csv" in read.words
        assert not re.search(r"url\(|@import", text)

    def test_every_link_and_picture_has_its_end(self, read: Page) -> None:
        anchors = [attributes["id"] for tag, attributes in read.elements if "id" in attributes and tag == "section"]
        assert len(anchors) == len(set(anchors))
        assert [f"#{anchor}" for anchor in anchors] == [link["href"] for link in read.all("a")]
        assert all(picture["alt"] for picture in read.all("img"))

    def test_names_every_manifold_and_the_data(self, read: Page, finished: Study, digits: Images) -> None:
        for name in manifolds(finished.params):
            assert name in read.words
        assert "digits" in read.words
        assert "1,500 training" in read.words
        assert "297 test images of 8×8 pixels" in read.words
        assert digits.checksum in read.words

    def test_has_a_section_of_every_kind(self, read: Page) -> None:
        for title in ("Reconstruction", "Training", "PCA, the flat baseline"):
            assert title in read.words

    def test_shows_the_numbers_of_the_tables(self, read: Page, finished: Study) -> None:
        errors = pd.read_csv(finished.folder / "results" / "reconstruct" / "errors.csv")
        for value in errors["mse"]:
            assert f"{value:.5f}" in read.words

    def test_is_the_same_when_written_again(self, text: str, finished: Study) -> None:
        done = finished.run(
            "report", "--results", "results", "--images", "data/images.safetensors", "--page", "again.html"
        )
        try:
            assert done.exit_code == 0, done.output
            assert (finished.folder / "again.html").read_text(encoding="utf-8") == text
        finally:
            (finished.folder / "again.html").unlink(missing_ok=True)


def errors(*rows: tuple[str, int, float]) -> pd.DataFrame:
    """A table of test errors."""
    return pd.DataFrame(
        [
            {"manifold": name, "latent_dim": k, "split": "test", "mse": mse, "psnr_db": 20.25, "ssim": 0.8765}
            for name, k, mse in rows
        ]
    )


FLAT = {"pca2", "pca4", "pca2_uncentred", "pca4_uncentred"}
PCA = [("pca2", 2, 0.04), ("pca4", 4, 0.02), ("pca2_uncentred", 2, 0.5), ("pca4_uncentred", 4, 0.6)]


class TestReconstruction:
    """The sentences on reconstruction."""

    def test_all_better(self) -> None:
        said = reconstruct.sentences(errors(("a", 2, 0.03), ("b", 4, 0.0123456), *PCA), FLAT)
        assert said == [
            "On images that no manifold was fitted to, b reconstructs best: "
            "a mean squared error of 0.01235 per pixel (20.2 dB, SSIM 0.876).",
            "Better than centred PCA of the same dimension: a by 25%, b by 38%.",
        ]

    def test_all_worse(self) -> None:
        said = reconstruct.sentences(errors(("a", 2, 0.05), ("b", 4, 0.04), *PCA), FLAT)
        assert said[0].startswith("On images that no manifold was fitted to, pca4 reconstructs best: ")
        assert said[1:] == ["Worse than centred PCA of the same dimension: a by 25%, b by 100%."]

    def test_some_of_each_against_their_own_dimension(self) -> None:
        said = reconstruct.sentences(errors(*PCA, ("a", 2, 0.03), ("b", 4, 0.03)), FLAT)
        assert said[1:] == [
            "Better than centred PCA of the same dimension: a by 25%.",
            "Worse than centred PCA of the same dimension: b by 50%.",
        ]

    def test_dimension_that_pca_lacks_is_not_compared(self) -> None:
        said = reconstruct.sentences(errors(("a", 3, 0.001), *PCA), FLAT)
        assert said[0].startswith("On images that no manifold was fitted to, a reconstructs best")
        assert len(said) == 1


class TestTraining:
    """The section on training."""

    def said(self, study: Study, **errors: tuple[float, float]) -> list[str]:
        """Its sentences for models that ended at these training and test errors."""
        folder = study.folder / "results" / "train"
        folder.mkdir(parents=True)
        (folder / "curves.svg").write_text("<svg/>")
        rows = []
        for name, (training, test) in errors.items():
            rows.append({"model": name, "epoch": 1, "train_mse": 0.1, "test_mse": 0.9})
            rows.append({"model": name, "epoch": 2, "train_mse": training, "test_mse": test})
            (folder / name).mkdir()
            (folder / name / "curve.svg").write_text("<svg/>")
        pd.DataFrame(rows).to_csv(folder / "curves.csv", index=False)
        return train.section(study.folder / "results", study.params).sentences

    def test_overfitted(self, study: Study) -> None:
        assert self.said(study, fc2=(0.020, 0.022), fc4=(0.010, 0.013)) == [
            "The widest gap between training and test error is fc4's: the test error ends 30% higher."
        ]

    def test_not_overfitted(self, study: Study) -> None:
        assert self.said(study, fc2=(0.020, 0.0208), fc4=(0.010, 0.009)) == [
            "No model's test error ends more than 5% above its training error: none has overfitted yet."
        ]

    def test_nothing_trained(self, study: Study) -> None:
        for name in ("fc2", "fc4"):
            study.edit(f"models.{name}.state_dict", "weights.pth")
        section = train.section(study.folder, study.params)
        assert section.sentences == ["No model of this study was trained here: all were imported."]
        assert section.pictures == []


class TestParts:
    """What sections are made of."""

    def test_table(self) -> None:
        frame = pd.DataFrame({"name": ["a<b", "c"], "x": [0.25, 0.125], "y": [1.0, None]})
        html = page.table(frame, {"x": "{:.2f}".format, "y": "{:.0f}".format}, "R & D", {"x": "min"})
        read = Page(html)
        assert read.open == []
        assert "a&lt;b" in html
        assert "R &amp; D" in html
        assert '<td class="number">0.25</td>' in html
        assert '<td class="number"><b>0.12</b></td>' in html
        assert '<td class="number">–</td>' in html

    def test_best_may_be_the_largest(self) -> None:
        frame = pd.DataFrame({"x": [1.0, 3.0, 2.0]})
        assert "<b>3</b>" in page.table(frame, {"x": "{:.0f}".format}, "", {"x": "max"})

    def test_picture_is_inside(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG")
        (tmp_path / "b.svg").write_text("<svg/>")
        assert page.Picture.of(tmp_path / "a.png", "x").uri == "data:image/png;base64,iVBORw=="
        assert page.Picture.of(tmp_path / "b.svg", "x").uri == "data:image/svg+xml;base64,PHN2Zy8+"

    def test_anchor(self) -> None:
        assert page.Section("PCA, the flat baseline").anchor == "pca--the-flat-baseline"

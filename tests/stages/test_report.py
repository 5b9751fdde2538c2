"""report: a page that needs no other file, and sentences that say what the numbers say."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from support import Study, rewritten

from latent_atlas.data.images import Images
from latent_atlas.models.registry import build
from latent_atlas.report.definitions import definitions
from latent_atlas.report.findings import said
from latent_atlas.report.intervals import Interval
from latent_atlas.report.learned import judged, left_out, unlearned
from latent_atlas.report.page import Cell, Section, table
from latent_atlas.report.sections import pca, reconstruct, train
from latent_atlas.stages.report import page
from latent_atlas.study.manifolds import manifolds
from latent_atlas.training.loop import mean_error

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

    def test_folder_is_whole(self, text: str, read: Page, finished: Study) -> None:
        """Pictures lie in the folder and are loaded when they are seen; nothing else is asked for but the records."""
        folder = finished.folder / "results" / "report"
        pictures = read.all("img")
        assert len(pictures) > 5
        for picture in pictures:
            assert picture["loading"] == "lazy"
            with Image.open(folder / (picture["src"] or "")) as shown:
                assert shown.format == "WEBP"
                assert [str(side) for side in shown.size] == [picture["width"], picture["height"]]
        assert {path.name for path in (folder / "pictures").iterdir()} == {
            (picture["src"] or "").removeprefix("pictures/") for picture in pictures
        }
        assert not {"link", "iframe"} & {tag for tag, _ in read.elements}
        # what each job took, where it lies beside the page; the text beside it says so where it does not
        assert [script["src"] for script in read.all("script") if "src" in script] == ["records.js"]
        assert "results/records.csv" in read.words
        assert not re.search(r"url\(|@import|(src|href)=.https?://", text)

    def test_is_rendered_from_its_data(self, text: str, finished: Study) -> None:
        content = json.loads((finished.folder / "results" / "report" / "data.json").read_text("utf-8"))
        assert page(content) == text
        errors = pd.read_csv(finished.folder / "results" / "reconstruct" / "sample.csv").set_index("model")
        overview = content["sections"][0]["tables"][0]
        place = overview["columns"].index("error")
        found = {row[0]["text"]: row[place] for row in overview["rows"]}
        for model, cell in found.items():
            assert cell["value"] == errors.loc[model, "mse_mean"]
            assert (cell["low"], cell["high"]) == tuple(errors.loc[model, ["mse_mean_low", "mse_mean_high"]])
        for section in content["sections"]:
            for picture in section["pictures"] + section["folded"]:
                source = finished.folder / "results" / picture["file"]
                assert picture["md5"] == hashlib.md5(source.read_bytes(), usedforsecurity=False).hexdigest()

    def test_hostile_text_is_text(self, text: str, finished: Study) -> None:
        content = json.loads((finished.folder / "results" / "report" / "data.json").read_text("utf-8"))
        hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
        content["dataset"]["name"] = hostile
        section = content["sections"][0]
        section["title"], section["warnings"] = hostile, [hostile]
        finding = {"template": "{subject} {name}", "subject": hostile, "facts": {"name": hostile}}
        section["sentences"] = [{"template": "{}", "findings": [finding], "separator": ""}]
        content["question"], content["answers"][0]["about"] = hostile, hostile
        content["definitions"][0]["definition"] = hostile
        next(iter(content["jobs"].values()))["params"] = {hostile: hostile}
        next(iter(content["jobs"].values()))["inputs"][0]["file"] = hostile
        section["tables"][0] |= {"caption": hostile, "columns": [hostile] * len(section["tables"][0]["columns"])}
        section["tables"][0]["rows"][0][0]["text"] = hostile
        section["pictures"][0] |= {"caption": hostile, "file": hostile, "webp": hostile, "alt": hostile}
        plots = next(picture for part in content["sections"] for picture in part["pictures"] if picture["plots"])
        plots["plots"] = [{"title": hostile}]
        read = Page(page(content))
        assert read.open == []
        kinds = [tag for tag, _ in read.elements]
        assert kinds.count("script") == [tag for tag, _ in Page(text).elements].count("script")
        assert kinds.count("img") == [tag for tag, _ in Page(text).elements].count("img")
        assert not any("onerror" in attributes for _, attributes in read.elements)
        assert read.words.count(hostile) >= 13

    def test_every_link_and_picture_has_its_end(self, read: Page) -> None:
        anchors = [str(attributes["id"]) for _, attributes in read.elements if "id" in attributes]
        assert len(anchors) == len(set(anchors))
        links = [str(link["href"]) for link in read.all("a")]
        assert len(links) > 10
        assert {link.removeprefix("#") for link in links if link.startswith("#")} <= set(anchors)
        assert {link for link in links if not link.startswith("#")} == {"explorer.html", "data.json"}

    def test_pictures_are_told_in_words(self, finished: Study) -> None:
        """What an alt text says is not what stands below the picture, and has numbers wherever the picture has."""
        content = json.loads((finished.folder / "results" / "report" / "data.json").read_text("utf-8"))
        pictures = {
            picture["file"]: picture
            for section in content["sections"]
            for picture in section["pictures"] + section["folded"]
        }
        assert len(pictures) > 20
        for picture in pictures.values():
            assert len(picture["alt"]) > 40
            assert picture["alt"] not in picture["caption"]
        curves = pd.read_csv(finished.folder / "results" / "train" / "curves.csv").groupby("manifold").tail(1)
        last = curves.set_index("manifold")["test_mse"]
        said = f"{last.min():.5f} ({last.idxmin()}) to {last.max():.5f} ({last.idxmax()})"
        assert said in pictures["train/curves.svg"]["alt"]

    def test_findings_are_the_numbers_of_the_tables(self, text: str, finished: Study) -> None:
        results = finished.folder / "results"
        content = json.loads((results / "report" / "data.json").read_text("utf-8"))
        found = [
            finding
            for section in content["sections"]
            for sentence in section["sentences"]
            for finding in sentence["findings"]
        ]
        sample = pd.read_csv(results / "reconstruct" / "sample.csv").set_index("model")
        of_pca = [one for one in found if one["kind"] == "error over that of PCA"]
        assert {one["subject"] for one in of_pca} == {"fc2"}  # there is PCA of its dimension alone
        assert of_pca[0]["value"] == pytest.approx(sample.loc["fc2", "mse_mean"] / sample.loc["pca2", "mse_mean"])
        gaps = [one for one in found if one["kind"] == "encoder gap"]
        assert {one["subject"] for one in gaps} == {"fc2", "fc4"}
        for one in gaps:
            for key, ending in (("value", ""), ("low", "_low"), ("high", "_high")):
                assert one[key] == sample.loc[one["subject"], f"encoder_gap_mean{ending}"]
        ranks = pd.read_csv(results / "jacobian" / "summary.csv").set_index("model")
        for one in found:
            if one["kind"] == "full rank" and one["relation"] == "immersion":
                assert all(ranks.loc[name, "full_rank_share"] == 1 for name in one["subject"].split(", "))
        assert {"full rank", "highest score", "variance that is held"} <= {one["kind"] for one in found}

    def test_begins_with_three_answers(self, read: Page, finished: Study) -> None:
        results = finished.folder / "results"
        content = json.loads((results / "report" / "data.json").read_text("utf-8"))
        assert [answer["anchor"] for answer in content["answers"]] == [
            "reconstruction", "jacobians-and-ranks", "invariance-angles",
        ]  # fmt: skip
        ranks = pd.read_csv(results / "jacobian" / "summary.csv").set_index("model").loc[["fc2", "fc4"]]
        immersions = content["answers"][1]["sentence"]["findings"][0]
        assert immersions["value"] == (ranks["full_rank_share"] == 1).sum()
        assert immersions["facts"] == {"of": 2, "images": 20}
        scores = pd.read_csv(results / "invariance" / "scores.csv").set_index("model")
        above, *_, score, angle = content["answers"][2]["sentence"]["findings"]
        assert above["value"] == (scores.loc[["fc2", "fc4"], "score_mean_low"] > 0).sum()
        assert score["value"] == scores.loc[["fc2", "fc4"], "score_mean"].max()
        angles = pd.read_csv(results / "invariance" / "summary.csv").set_index(["model", "transformation"])
        of = angles.loc[(angle["subject"], angle["facts"]["transformation"])]
        assert (angle["value"], angle["facts"]["chance"]) == (of["angle_deg_mean"], of["chance_deg"])
        described = {tag.get("property") or tag.get("name"): str(tag["content"]) for tag in read.all("meta")[2:]}
        assert described["description"] == described["og:description"]
        for answer in content["answers"]:
            assert said(answer["sentence"]) in described["description"]
            assert said(answer["sentence"]) in read.words
        assert (results / "report" / described["og:image"]).is_file()

    def test_names_what_made_each_figure_and_table(self, read: Page, finished: Study) -> None:
        """The rule, its parameters, and its inputs with their checksums, as the workflow has them."""
        content = json.loads((finished.folder / "results" / "report" / "data.json").read_text("utf-8"))
        jobs = content["jobs"]
        for section in content["sections"]:
            files = section["pictures"] + section["folded"]
            for shown in section["tables"] + section["folded_tables"]:
                assert shown["files"]
                files = files + shown["files"]
            for file in files:
                assert jobs[file["job"]]["rule"] == file["job"].split("-")[0]
        assert jobs["tangents-fc4"]["params"]["tangents"] == {"example": "pullover"}
        assert {each["file"] for each in jobs["tangents-fc4"]["inputs"]} == {
            "results/checkpoints/fc4.safetensors", "data/images.safetensors",
        }  # fmt: skip
        assert jobs["reconstruct_summary"]["params"].keys() >= {"reconstruct", "models", "pca", "training.seed"}
        assert jobs["reconstruct_summary"]["params"]["reconstruct"] == {"shown": 9}
        for job in jobs.values():
            for each in job["inputs"]:
                file = finished.folder / each["file"]
                assert each["md5"] == hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        assert {f"job-{name}" for name in jobs} <= {attributes.get("id") for _, attributes in read.elements}

    def test_terms_lead_to_their_definitions(self, text: str, read: Page) -> None:
        terms = [link for link in read.all("a") if link.get("class") == "term"]
        assert {str(link["href"]).removeprefix("#term-") for link in terms} == {
            entry["anchor"] for entry in definitions()
        }
        places = [text.index(f'href="{link["href"]}"') for link in terms]
        assert places == sorted(places)
        assert len(read.all("dfn")) == len(terms) == len(set(places))

    def test_says_how_to_cite_it(self, read: Page, finished: Study) -> None:
        data = (finished.folder / "results" / "report" / "data.json").read_bytes()
        assert read.words.count(hashlib.md5(data, usedforsecurity=False).hexdigest()) == 2
        assert "@misc{latent-atlas-" in read.words

    def test_names_every_manifold_and_the_data(self, read: Page, finished: Study, digits: Images) -> None:
        for name in manifolds(finished.params):
            assert name in read.words
        assert "digits" in read.words
        assert "1,500 training" in read.words
        assert "297 test images of 8×8 pixels" in read.words
        assert digits.checksum in read.words

    def test_has_a_section_of_every_kind(self, read: Page) -> None:
        for title in ("Reconstruction", "Training", "PCA, the linear baseline"):
            assert title in read.words
        assert "Test images reconstructed by fc2, fc4." in read.words
        assert "Known answers" not in read.words  # nothing was published of these data

    def test_shows_the_numbers_of_the_tables(self, read: Page, finished: Study) -> None:
        errors = pd.read_csv(finished.folder / "results" / "reconstruct" / "summary.csv")
        for value in errors["mse"]:
            assert f"{value:.5f}" in read.words

    def test_is_the_same_when_written_again(self, text: str, finished: Study) -> None:
        done = finished.run(
            "report", "--results", "results", "--images", "data/images.safetensors", "--folder", "again",
            "--origins", ".latent-atlas/origins.json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        first, again = (finished.folder / name for name in ("results/report", "again"))
        written = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
        assert len(written) > 10
        assert all((again / name).read_bytes() == (first / name).read_bytes() for name in written)
        shutil.rmtree(again)


def errors(*rows: tuple[str, int, float]) -> pd.DataFrame:
    """A table of test errors."""
    return pd.DataFrame(
        [
            {"manifold": name, "latent_dim": k, "split": "test", "mse": mse, "psnr_db": 20.25, "ssim": 0.8765}
            for name, k, mse in rows
        ]
    )


class TestReconstruction:
    """What the section on reconstruction finds."""

    SAMPLE = pd.DataFrame(
        [("a", 2, 0.03), ("b", 4, 0.03), ("c", 2, 0.041), ("d", 3, 0.001), ("pca2", 2, 0.04), ("pca4", 4, 0.02)],
        columns=["model", "latent_dim", "mse_mean"],
    )
    PAIRS = pd.DataFrame(
        [("a", "pca2", "a is smaller"), ("b", "pca4", "b is smaller"), ("c", "pca2", "cannot tell")],
        columns=["a", "b", "verdict"],
    ).assign(quantity="mse")

    def test_findings(self) -> None:
        found = reconstruct.findings(self.SAMPLE, self.PAIRS, {"pca2", "pca4"}).set_index("model")
        assert found["ratio"].to_dict() == pytest.approx({"a": 0.75, "b": 1.5, "c": 1.025})  # PCA lacks d's dimension
        assert found["verdict"].to_dict() == {"a": "smaller", "b": "larger", "c": "cannot tell"}

    def test_words(self) -> None:
        smaller, larger, unclear = reconstruct.sentences(
            reconstruct.findings(self.SAMPLE, self.PAIRS, {"pca2", "pca4"})
        )
        assert "a by 25%" in smaller
        assert "b by 50%" in larger
        assert "cannot be told of c by 2%" in unclear
        assert reconstruct.sentences(reconstruct.findings(self.SAMPLE[:1], self.PAIRS, set())) == []


class TestLearnedNothing:
    """The rule, and what the page does with it."""

    BASELINES = pd.DataFrame({"baseline": ["mean image", "one component"], "test_mse": [0.08, 0.06]})

    def test_is_judged_against_the_best_baseline(self) -> None:
        table = errors(("a", 2, 0.07), ("b", 2, 0.059), ("c", 2, 0.06), ("d", 2, math.nan))
        found = judged(table, self.BASELINES)
        assert [(case.manifold, case.baseline) for case in found] == [(name, "one component") for name in "acd"]
        assert found[0].test_mse == 0.07
        assert found[0].baseline_mse == 0.06

    def test_an_untrained_model_is_warned_of_and_is_never_best(self, finished: Study, digits: Images) -> None:
        torch.manual_seed(0)
        untrained = mean_error(build("fully_connected", digits.shape, 2), digits.test)
        baselines = pd.read_csv(finished.folder / "results" / "pca" / "baselines.csv")
        (case,) = judged(errors(("new", 2, untrained)), baselines)
        assert case.manifold == "new"
        mean = digits.train.double().mean(0) / 255
        expected = float((digits.test / 255 - mean).square().mean())
        assert baselines.set_index("baseline").loc["mean image", "test_mse"] == pytest.approx(expected, rel=1e-6)
        assert unlearned(finished.folder / "results", finished.params) == []

    def test_a_training_that_failed_leaves_out_its_model(self, finished: Study, tmp_path: Path) -> None:
        results = tmp_path / "results"
        shutil.copytree(finished.folder / "results", results)
        table = pd.read_csv(results / "reconstruct" / "summary.csv")
        failed = table[table["manifold"] == "fc2"].assign(manifold="fc2_seed1", mse=0.5)
        rewritten(results / "reconstruct", "summary.csv", pd.concat([table, failed]))
        with finished.edited("seeds", 2):
            assert [case.manifold for case in unlearned(results, finished.params)] == ["fc2_seed1"]
            assert left_out(results, finished.params) == {"fc2"}

    def test_is_said_in_the_sections(self, finished: Study, tmp_path: Path) -> None:
        results = tmp_path / "results"
        shutil.copytree(finished.folder / "results", results)
        table = pd.read_csv(results / "reconstruct" / "summary.csv")
        table.loc[table["manifold"] == "fc2", ["mse", "psnr_db", "ssim"]] = [0.5, 99.0, 1.0]
        rewritten(results / "reconstruct", "summary.csv", table)
        section = reconstruct.section(results, finished.params)
        (warning,) = section.warnings
        assert "fc2" in warning
        assert "0.50000" in warning
        assert not any("fc2" in sentence for sentence in section.sentences)
        assert train.section(results, finished.params).warnings == [warning]


class TestTraining:
    """The section on training."""

    @pytest.mark.parametrize(
        ("ends", "name", "gap"),
        [
            ({"fc2": (0.020, 0.022), "fc4": (0.010, 0.013)}, "fc4", 0.3),
            ({"fc2": (0.020, 0.0208), "fc4": (0.010, 0.009)}, "fc2", 0.04),
        ],
    )
    def test_gap_is_that_of_the_last_epoch(self, ends: dict[str, tuple[float, float]], name: str, gap: float) -> None:
        curves = {
            model: pd.DataFrame({"train_mse": [0.1, training], "test_mse": [0.9, test]})
            for model, (training, test) in ends.items()
        }
        widest, found = train.widest_gap(curves)
        assert widest == name
        assert found == pytest.approx(gap)
        assert (name in train._sentence(name, gap)) == (gap > 0.05)

    def test_table_says_what_was_done_not_what_was_asked_for(self, study: Study) -> None:
        study.edit("models.fc4.training", {"epochs": None, "steps": 7, "batch_size": 32})
        study.edit("training.min_steps", 500)
        curves = {
            name: pd.DataFrame(
                {"model": name[:3], "seed": seed, "epoch": [1, epoch], "step": [3, step], "test_mse": [0.2, 0.1]}
            )
            for name, seed, epoch, step in (("fc2", 0, 42, 504), ("fc4", 5, 2, 7), ("fc4_seed6", 6, 2, 7))
        }
        cells = [[cell.text for cell in row] for row in train._table(curves, study.params).rows]
        assert cells == [
            ["fc2", "42", "504", "128", "0.005", "adam", "float32", "mse", "0", "0.10000"],
            ["fc4", "2", "7", "32", "0.005", "adam", "float32", "mse", "5", "0.10000"],
            ["fc4_seed6", "2", "7", "32", "0.005", "adam", "float32", "mse", "6", "0.10000"],
        ]

    def test_nothing_trained(self, study: Study) -> None:
        for name in ("fc2", "fc4"):
            study.edit(f"models.{name}.state_dict", "weights.pth")
        section = train.section(study.folder, study.params)
        assert section.sentences == ["No model on this page was trained here: all were imported."]
        assert section.pictures == []


class TestPCA:
    """The section on PCA."""

    def test_shares_are_of_as_many_components(self) -> None:
        spectrum = pd.DataFrame({"cumulative_share": [0.5, 0.75, 0.9, 1.0]})
        shares = pca.findings(spectrum, [3, 1])
        assert shares == {1: 0.5, 3: 0.9}
        assert "1 components hold 50.0%, 3 components hold 90.0%" in pca.sentence(shares)


class TestParts:
    """What sections are made of."""

    def test_table(self) -> None:
        frame = pd.DataFrame({"name": ["a<b", "c"], "x": [0.25, 0.125], "y": [1.0, None]})
        found = table(frame, {"x": "{:.2f}".format, "y": "{:.0f}".format}, "R & D")
        assert (found.caption, found.columns, found.numeric) == ("R & D", ("name", "x", "y"), (False, True, True))
        assert found.rows == (
            (Cell("a<b"), Cell("0.25", 0.25), Cell("1", 1.0)),
            (Cell("c"), Cell("0.12", 0.125), Cell("–")),
        )

    def test_interval_in_a_table(self) -> None:
        found = table(pd.DataFrame({"x": [Interval(0.5, 0.25, 0.75, "half")]}), {}, "")
        assert found.numeric == (True,)
        assert found.rows == ((Cell("half", 0.5, 0.25, 0.75),),)

    def test_anchor(self) -> None:
        assert Section("PCA, the linear baseline").anchor == "pca--the-linear-baseline"

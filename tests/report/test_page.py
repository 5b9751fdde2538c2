"""The page in Chromium, opened from disk: what a reader does with it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import silent
from playwright.sync_api import Browser, Page
from support import ROOT, Study

from latent_atlas.report.assets import EXPLORER, PLOTS, static
from latent_atlas.stages.report import page as render

pytestmark = pytest.mark.browser

THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture
def folder(finished: Study) -> Path:
    """The report of a small study."""
    return finished.folder / "results" / "report"


@pytest.fixture
def page(browser: Browser, folder: Path) -> Iterator[Page]:
    """The page; nothing may stand in the console."""
    with silent(browser, folder / "index.html") as page:
        yield page


def column(page: Page, place: int) -> list[str]:
    """The cells of a column of the first table."""
    return page.locator("table").first.locator(f"tbody tr td:nth-child({place + 1})").all_text_contents()


def test_links_and_pictures_resolve(page: Page, folder: Path) -> None:
    links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.getAttribute('href'))")
    assert {link for link in links if not link.startswith("#")} == {"explorer.html", "data.json"}
    assert all((folder / link).is_file() for link in links if not link.startswith("#"))
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    pictures = page.locator("img")
    for number in range(pictures.count()):
        pictures.nth(number).scroll_into_view_if_needed()
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_first_view_is_small(page: Page, folder: Path) -> None:
    seen = "[...document.images].filter(image => image.complete && image.naturalWidth)"
    loaded = page.evaluate(f"{seen}.map(image => image.getAttribute('src'))")
    assert len(loaded) < page.locator("img").count()
    sizes = [(folder / file).stat().st_size for file in ["index.html", *loaded]]
    assert sizes[0] < 500_000
    assert sum(sizes) < 1_000_000


@pytest.mark.skipif(not (ROOT / "results/report/index.html").is_file(), reason="needs a run of the study here")
def test_first_view_of_the_study_is_small(browser: Browser) -> None:
    with silent(browser, ROOT / "results/report/index.html") as page:
        seen = "[...document.images].filter(image => image.complete && image.naturalWidth)"
        loaded = page.evaluate(f"{seen}.map(image => image.getAttribute('src'))")
    assert sum((ROOT / "results/report" / file).stat().st_size for file in ["index.html", *loaded]) < 2_000_000


def size_of_page(report: Path) -> int:
    """Bytes of all that lies in a folder of a report but the explorer's runtime and weights."""
    files = [file for file in report.rglob("*") if file.is_file()]
    return sum(
        file.stat().st_size for file in files if file.name != "runtime.js" and not file.name.startswith("decoder_")
    )


def test_whole_page_is_small(folder: Path) -> None:
    """Pictures grow with the models and the examples, the tables with the models; the rest is always the same."""
    fixed = sum(len(static(name).encode()) for name in (PLOTS, *EXPLORER) if name != "runtime.js")
    pictures = len(list((folder / "pictures").iterdir()))
    assert pictures > 20
    assert size_of_page(folder) < fixed + 1_000_000 + 60_000 * pictures


@pytest.mark.skipif(not (ROOT / "results/report/index.html").is_file(), reason="needs a run of the study here")
def test_whole_page_of_the_study_is_small() -> None:
    assert size_of_page(ROOT / "results/report") <= 8_000_000


@pytest.mark.parametrize("key", ["click", "Enter", "Space"])
def test_tables_sort(key: str, page: Page) -> None:
    content = json.loads(page.evaluate("JSON.stringify([...document.querySelector('table').rows[0].cells].map(c => "
                                       "c.textContent))"))  # fmt: skip
    place = content.index("error")
    button = page.locator("table").first.locator("th button").nth(place)
    before = column(page, place)

    def press() -> None:
        if key == "click":
            button.click()
        else:
            button.focus()
            page.keyboard.press(key)

    press()
    up = column(page, place)
    assert up == sorted(before, key=lambda text: float(text.split()[0]))
    assert button.locator("..").get_attribute("aria-sort") == "ascending"
    press()
    assert column(page, place) == up[::-1]
    assert button.locator("..").get_attribute("aria-sort") == "descending"


def test_tables_are_downloaded_with_their_limits(page: Page, folder: Path, tmp_path: Path) -> None:
    with page.expect_download() as download:
        page.locator("a.csv").first.click()
    download.value.save_as(tmp_path / "table.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text("utf-8"))))
    table = json.loads((folder / "data.json").read_text("utf-8"))["sections"][0]["tables"][0]
    place = table["columns"].index("error")
    assert len(rows) == len(table["rows"]) > 2
    for row, cells in zip(rows, table["rows"], strict=True):
        assert row["model"] == cells[0]["text"]
        for ending, key in (("", "value"), (" low", "low"), (" high", "high")):
            assert float(row[f"error{ending}"]) == cells[place][key]


def test_link_to_a_folded_part_opens_it(page: Page, folder: Path) -> None:
    page.evaluate("document.querySelector('details figure').id = 'folded'")
    assert not page.locator("#folded").is_visible()
    page.evaluate("location.hash = '#folded'")
    page.wait_for_function("document.getElementById('folded').getBoundingClientRect().height > 0")
    assert page.locator("#folded").is_visible()


def test_values_are_read_from_plots(page: Page) -> None:
    buttons = page.locator("button.read")
    count = buttons.count()
    assert count == 9  # distributions, classes, angles of five examples, steps, spectra, curves
    assert page.evaluate("typeof latentAtlasEmbed") == "undefined"  # nothing is loaded before
    for _ in range(count):
        buttons.first.evaluate("button => button.click()")  # also of those in folded lists
    page.wait_for_function("[...document.querySelectorAll('.plots > div')].every(plot => plot.querySelector('svg'))")
    assert page.locator(".plots svg path[aria-roledescription]").count() > 10


def test_theme_is_switched(page: Page) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.locator("#theme").click()
    assert page.evaluate(colour) != before
    page.reload()
    assert page.evaluate(colour) != before  # it is remembered
    page.locator("#theme").click()
    assert page.evaluate(colour) == before


@pytest.mark.parametrize("width", [380, 768, 1280])
def test_nothing_is_wider_than_the_window(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    beyond = (
        "[...document.querySelectorAll('body *')].filter(part => !part.closest('.scroll, .skip') && "
        f"part.getBoundingClientRect().right > {width} + 1).map(part => part.outerHTML.slice(0, 80))"
    )
    assert page.evaluate(beyond) == []


def with_models(content: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The data of a report, in whose tables as many rows as there are names begin with these."""
    for section in content["sections"]:
        for table in [*section["tables"], *section["folded_tables"]]:
            rows = table["rows"] * len(names)
            table["rows"] = [[{**row[0], "text": name}, *row[1:]] for name, row in zip(names, rows, strict=False)]
    return content


@pytest.mark.parametrize("width", [380, 768, 1280])
@pytest.mark.parametrize("models", ["as it is", "30 models", "long names", "default study"])
def test_no_table_is_scrolled_sideways(models: str, width: int, browser: Browser, folder: Path) -> None:
    file = folder / "index.html"
    if models == "default study":
        file = ROOT / "results/report/index.html"
        if not file.is_file():
            pytest.skip("needs a run of the study here")
        content = json.loads(file.with_name("data.json").read_text("utf-8"))
        file = folder / "study.html"
        file.write_text(render(content), "utf-8")
    elif models != "as it is":
        names = [f"{'a_model_of_many_letters_' if models == 'long names' else 'conv'}{k}" for k in range(2, 32)]
        content = json.loads((folder / "data.json").read_text("utf-8"))
        file = folder / "many.html"
        file.write_text(render(with_models(content, names)), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"file://{file}")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    page.wait_for_timeout(200)  # tables that were folded are fitted when they are seen
    wider = "parts => parts.filter(part => part.scrollWidth > part.clientWidth).map(part => part.ariaLabel)"
    places = page.locator(".scroll:has(table)")
    assert places.count() > 10
    assert page.eval_on_selector_all(".scroll:has(table)", wider) == []
    assert page.eval_on_selector_all(".scroll.stacked", "parts => parts.length") > (0 if width == 380 else -1)
    beyond = "parts => parts.filter(part => !part.closest('.shown, .skip') && part.getBoundingClientRect().right > "
    assert page.eval_on_selector_all("body *", f"{beyond}{width} + 1).map(part => part.outerHTML.slice(0, 80))") == []
    page.close()


def test_stacked_tables_name_sort_and_save_their_values(page: Page, tmp_path: Path) -> None:
    wide, narrow = tmp_path / "wide.csv", tmp_path / "narrow.csv"
    for file, width in ((wide, 1280), (narrow, 380)):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("stacked => !!document.querySelector('.stacked table') === stacked || !stacked",
                               arg=width == 380)  # fmt: skip
        with page.expect_download() as download:
            page.locator("a.csv").first.click()
        download.value.save_as(file)
    assert narrow.read_bytes() == wide.read_bytes()
    assert page.locator(".scroll.stacked").first.locator("table").evaluate("t => t === document.querySelector('table')")
    table = page.get_by_role("table").first
    heads = table.get_by_role("columnheader").all_text_contents()
    assert "error" in heads
    row = table.get_by_role("row").nth(1)
    assert row.get_by_role("rowheader").count() == 1
    assert row.get_by_role("rowheader").count() + row.get_by_role("cell").count() == len(heads)
    names = "row => [...row.cells].map(cell => getComputedStyle(cell, '::before').content)"
    assert [name.partition("/")[0].strip().strip('"') for name in row.evaluate(names)] == heads
    tops = "row => new Set([...row.cells].map(cell => cell.getBoundingClientRect().top)).size"
    assert row.evaluate(tops) > 2  # one below the other
    place = heads.index("error")
    before = column(page, place)
    table.get_by_role("button", name="error", exact=True).click()
    assert column(page, place) == sorted(before, key=lambda text: float(text.split()[0]))


@pytest.mark.parametrize("width", [380, 1280])
@pytest.mark.parametrize("theme", THEMES)
def test_accessible(theme: Literal["light", "dark"], width: int, browser: Browser, folder: Path) -> None:
    page = browser.new_page(color_scheme=theme, viewport={"width": width, "height": 900})
    page.goto(f"file://{folder / 'index.html'}")
    found = Axe().run(page).response["violations"]
    grave = [(one["id"], one["nodes"][0]["html"][:120]) for one in found if one["impact"] in ("serious", "critical")]
    assert grave == []
    page.close()


@pytest.mark.parametrize("theme", THEMES)
def test_paper_shows_whole_tables_and_pictures(theme: Literal["light", "dark"], browser: Browser, folder: Path) -> None:
    """As wide as A4 between its margins: nothing is cut, heads are repeated, and text is dark whatever was chosen."""
    page = browser.new_page(viewport={"width": 700, "height": 1000}, color_scheme=theme)
    page.goto(f"file://{folder / 'index.html'}")
    page.evaluate("theme => { document.documentElement.dataset.theme = theme; }", theme)
    page.evaluate("document.querySelectorAll('details:not(.made, .job)').forEach(part => { part.open = true; })")
    page.emulate_media(media="print", color_scheme=theme)
    wider = "parts => parts.filter(part => part.getBoundingClientRect().right > 701).map(part => part.outerHTML)"
    assert page.eval_on_selector_all("table, figure img", wider) == []
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 36, 48)"
    page.close()


def test_wide_pictures_scroll_on_small_windows(page: Page) -> None:
    page.set_viewport_size({"width": 380, "height": 900})
    place = page.locator("figure.wide .shown").first
    assert place.evaluate("part => part.scrollWidth > part.clientWidth")
    assert place.get_attribute("tabindex") == "0"  # by the keyboard too
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function("!document.querySelector('figure.wide .shown').hasAttribute('tabindex')")

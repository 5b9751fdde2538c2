"""The explorer in Chromium, opened from disk: numbers as torch's, and what a reader does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from chromium import silent
from playwright.sync_api import Browser, Page
from support import ROOT, Study, rewritten
from surfaces import export_decoder, write_explorer

from latent_atlas.data.images import Images, as_float
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.geometry.tangent_spaces import measure as measured
from latent_atlas.geometry.transformations import TRANSFORMATIONS

pytestmark = pytest.mark.browser

MANIFOLDS = ("fc2", "fc4", "pca2")
REASON = "RuntimeError: <b>it</b> leaves torch"


@pytest.fixture(scope="module")
def small_report(trained: Study, digits_file: Path) -> Path:
    """The report of a small study, where the decoder fc2 could not be exported."""
    for name in MANIFOLDS:
        export_decoder(trained, name, digits_file)
    row = trained.folder / "results/explorer/fc2/export.csv"
    changed = pd.read_csv(row).assign(exported=False, with_jacobian=False, reason=REASON)
    rewritten(row.parent, row.name, changed)
    write_explorer(trained, digits_file)
    return trained.folder / "results/report"


@pytest.fixture
def page(browser: Browser, small_report: Path) -> Iterator[Page]:
    """The explorer of the small study, loaded; nothing may stand in the console."""
    with opened(browser, small_report) as page:
        yield page


@contextmanager
def opened(browser: Browser, report: Path) -> Iterator[Page]:
    """The explorer of a report, when its decoders have drawn."""
    with silent(browser, report / "explorer.html") as page:
        words = "[...document.querySelectorAll('#frames small')].map(each => each.textContent)"
        page.wait_for_function(f"{words}.length > 1 && !{words}.includes('loading')")
        page.wait_for_timeout(500)
        yield page


def shown(page: Page, name: str) -> str:
    """A decoder's picture."""
    return page.evaluate(
        "name => document.querySelector(`#frames canvas[aria-label^='${name}:']`).toDataURL()", name
    )  # fmt: skip


def compare(page: Page, checkpoints: Path, images: Path, names: list[str], angles_at: int) -> None:
    """Decoded pixels at 1,000 random codes and angles at images against torch's in float64."""
    data = Images.load(images)
    sample = page.evaluate("({transformations: atlas.sample.transformations})")
    moves = {each["name"]: (TRANSFORMATIONS[each["name"]], each["step"]) for each in sample["transformations"]}
    pixels = data.test[:angles_at]
    for name in names:
        surface = load_manifold(checkpoints / f"{name}.safetensors").to(torch.float64)
        known = surface.encode(as_float(data.test[:500], torch.float64))
        noise = torch.randn(1000, surface.latent_dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        codes = known.mean(0) + noise * known.std(0)
        drawn = page.evaluate(
            "async ([name, codes]) => Array.from(await atlas.decode(name, codes))", [name, codes.flatten().tolist()]
        )
        off = np.abs(np.array(drawn).reshape(1000, -1) - surface.decode(codes).flatten(1).numpy())
        assert off.max() < 1 / 255, name
        expected = measured(surface, pixels, moves).angles_deg.numpy()
        for code, row in zip(known[:angles_at], expected, strict=True):
            found = page.evaluate("([name, code]) => atlas.angles(name, code)", [name, code.tolist()])
            np.testing.assert_allclose(found, row, rtol=0, atol=0.1, err_msg=name)


def test_numbers_of_the_small_study_are_those_of_torch(page: Page, trained: Study, digits_file: Path) -> None:
    compare(page, trained.folder / "checkpoints", digits_file, ["fc4", "pca2"], 5)


@pytest.mark.skipif(not (ROOT / "results/report/explorer.html").is_file(), reason="needs a run of the study here")
def test_numbers_of_the_study_are_those_of_torch(browser: Browser) -> None:
    names = list(pd.read_csv(ROOT / "results/explorer/summary.csv")["manifold"])
    with opened(browser, ROOT / "results/report") as page:
        compare(page, ROOT / "results/checkpoints", ROOT / "data/images.safetensors", names, 2)


@pytest.mark.parametrize("step", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations_are_those_of_scipy(page: Page, name: str, step: float) -> None:
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = page.evaluate(
        "([name, image, step]) => Array.from(atlas.displacement(name, image, step))",
        [name, image.flatten().tolist(), step],
    )
    expected = TRANSFORMATIONS[name].displacement(image, step).flatten().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_decoder_without_a_graph_says_so_and_the_others_work(page: Page) -> None:
    card = page.locator("#frames figure", has_text="fc2")
    assert REASON in card.inner_text()  # as text, not as markup
    assert card.locator("canvas").count() == 0
    assert len({shown(page, name) for name in ("fc4", "pca2", "pixels")}) == 3


def test_slider_keys_and_drag_move_all(page: Page) -> None:
    before = {name: shown(page, name) for name in ("fc4", "pca2", "pixels")}
    page.locator("#t").fill("0.9")
    page.wait_for_timeout(400)
    after = {name: shown(page, name) for name in before}
    assert all(before[name] != after[name] for name in before)
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#t").input_value() == "0.88"
    box = page.locator("#frames").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 400, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 30, steps=5)
    page.mouse.up()
    assert float(page.locator("#t").input_value()) < 0.6


def test_pick_and_deep_link(page: Page) -> None:
    page.locator("#first").click()
    page.locator("#thumbnails button").nth(7).click()
    page.locator("#t").fill("0.25")
    page.locator("#direction").select_option("latent")
    page.locator("#amount").fill("1.5")
    page.locator("#transformation summary").click()
    page.wait_for_timeout(900)
    assert re.search(r"Angle \d+\.\d°, chance \d+\.\d°", page.locator("#spaces").inner_text())
    link, picture = page.url, shown(page, "fc4")
    assert "a=7" in link
    assert "amount=1.5" in link
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_timeout(1500)
    assert shown(page, "fc4") == picture
    assert page.locator("#direction").input_value() == "latent"
    assert page.locator("#transformation").get_attribute("open") is not None


def test_singular_direction_is_pushed_after_a_rest(page: Page) -> None:
    before = shown(page, "fc4")
    page.locator("#direction").select_option("singular")
    page.locator("#amount").fill("2")
    page.wait_for_timeout(1000)
    assert shown(page, "fc4") != before


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_bars_a_reader(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    for panel in ("images", "map", "transformation", "decoders"):
        page.locator(f"#{panel} summary").click()
    page.wait_for_timeout(800)
    found = Axe().run(page, options={"preload": False}).response["violations"]  # it would read files otherwise
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("width", [380, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for panel in ("images", "map", "transformation", "decoders"):
        page.locator(f"#{panel} summary").click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_map_decodes_and_picks(page: Page) -> None:
    page.locator("#map summary").click()
    page.wait_for_timeout(500)
    page.locator("#map-canvas").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    words = page.locator("#map-caption").inner_text()
    assert "nearest image" in words
    before = page.url
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert page.url != before


@pytest.mark.skipif(not (ROOT / "results/report/explorer.html").is_file(), reason="needs a run of the study here")
def test_thirty_frames_a_second_while_dragging(browser: Browser) -> None:
    with opened(browser, ROOT / "results/report") as page:
        rate = page.evaluate("""async () => {
            const canvas = document.querySelector("#frames canvas[aria-label^='conv128:']");
            const context = canvas.getContext("2d"), put = context.putImageData.bind(context);
            let frames = 0;
            context.putImageData = (...given) => { frames++; put(...given); };
            const slider = document.getElementById("t"), start = performance.now();
            while (performance.now() - start < 3000) {
                slider.value = String((performance.now() - start) / 3000);
                slider.dispatchEvent(new Event("input"));
                await new Promise(requestAnimationFrame);
            }
            return frames / 3;
        }""")
        print(json.dumps({"frames_a_second": rate}))
        assert rate >= 30

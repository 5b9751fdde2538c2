"""Pages in Chromium, opened from disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page


@contextmanager
def silent(browser: Browser, file: Path) -> Iterator[Page]:
    """A page of a file; nothing may stand in the console until it is closed."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"file://{file}")
    yield page
    assert not said, said
    page.close()

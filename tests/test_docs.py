"""The documentation: every block of code in README.md and docs/ is run or checked, in the order of its page.

A page is worked through in a copy of the project with a small study of the digits, as a reader would:

- ``bash`` is run by one shell after another; each begins in the folder in which the last one ended.
- ``python`` is run in one namespace a page. A block that begins with ``# NAME.py`` is also written to that file.
- ``yaml`` is entered into the params.yaml of the folder, which must then be valid.
- ``text`` is no code.

A comment in front of a block marks what a page needs longer for, ``<!-- slow -->``, or what cannot be run in a test,
``<!-- not run: WHY -->``. Slow blocks are run with the marker ``engines``.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from markdown_it import MarkdownIt
from PIL import Image
from playwright.sync_api import sync_playwright
from repository import Repository
from ruamel.yaml import YAML
from support import ROOT, Study, made_once

import latent_atlas
from latent_atlas.data.images import Images
from latent_atlas.study import schema

PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
LANGUAGES = ("bash", "python", "yaml", "text")
SNIPPET = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)
MARK = re.compile(r"<!-- (slow|not run: .+) -->\s*$")
LONGEST = ("docs/first-study.md", "docs/versioning.md")  # whose steps the README and the tests of versioning have too
NOT_RUN = 7  # blocks at most
MODELS = {
    "conv16": {"architecture": "convolutional", "latent_dim": 16, "options": {"kernel": 3}},
    "fc16": {"architecture": "fully_connected", "latent_dim": 16},
    "fc32": {"architecture": "fully_connected", "latent_dim": 32},
}


@dataclass(frozen=True)
class Block:
    """A block of code: its page, the line of its fence, its language, its text, and the comment in front of it."""

    page: str
    line: int
    language: str
    code: str
    mark: str

    @property
    def where(self) -> str:
        return f"{self.page}, line {self.line}"


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page, those in lists included."""
    found, mark = [], ""
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text("utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            code = SNIPPET.sub(lambda found: (ROOT / found.group(1)).read_text("utf-8"), token.content)
            found.append(Block(page, token.map[0] + 1, token.info.strip(), code, mark))
        if token.nesting == 0:
            comment = MARK.search(token.content) if token.type == "html_block" else None
            mark = comment.group(1) if comment else ""
    return found


@dataclass
class Reader:
    """Who works through a page."""

    repository: Repository
    folder: Path
    names: dict[str, Any] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        try:
            getattr(self, block.language)(block)
            if (self.folder / "params.yaml").exists():
                schema.load(self.folder / "params.yaml")
        except Exception as error:
            raise AssertionError(f"{block.where}: {error}\n{block.code}") from error

    def placed(self, code: str) -> str:
        """Code with the places of this test where a reader has others."""
        home = self.repository.root.parent
        return code.replace("REPOSITORY", str(home / "remote.git")).replace("/shared/", f"{home}/shared/")

    def bash(self, block: Block) -> None:
        after = self.repository.root.parent / "folder"
        environment = self.repository.environment | {"HOME": str(self.repository.root.parent)}
        if (sources := self.folder / "src").is_dir():  # of a clone that the page has made
            environment["PYTHONPATH"] = str(sources)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f'trap "pwd > {after}" EXIT\n{self.placed(block.code)}'],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        self.folder = Path(after.read_text().strip())

    def python(self, block: Block) -> None:
        if file := re.match(r"# (\w+\.py)\n", block.code):
            (self.folder / file.group(1)).write_text(block.code, encoding="utf-8")
        lines = "\n" * block.line  # so that a traceback names the line of the page
        with contextlib.chdir(self.folder):
            exec(compile(lines + self.placed(block.code), block.page, "exec"), self.names)  # noqa: S102

    def yaml(self, block: Block) -> None:
        values = YAML(typ="safe", pure=True).load(block.code)
        if unknown := values.keys() - schema.Params.model_fields:
            raise ValueError(f"params.yaml has no section {min(unknown)!r}")

        file, yaml = self.folder / "params.yaml", YAML()
        params = yaml.load(file.read_text("utf-8"))
        for section, entry in values.items():
            if isinstance(entry, dict) and section != "dataset":
                params.setdefault(section, {}).update(entry)
            else:
                params[section] = entry
        with file.open("w", encoding="utf-8") as handle:
            yaml.dump(params, handle)

    def text(self, block: Block) -> None:
        """Nothing to do."""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, digits: Images) -> Path:
    """A folder with what readers have: ``project``, a copy of the project with three small models; and ``photos``."""

    def make(folder: Path) -> None:
        repository = Repository.make(folder / "project")
        for part in ("Makefile", "studies", "requirements.lock"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, repository.root / part)
        repository.edit_params(lambda values: values.update(models=MODELS))
        repository.edit_params(lambda values: values["invariance"]["transformations"].update(rotation={"step": 1.0}))
        (repository.root / ".venv").mkdir()
        (repository.root / ".venv" / "installed").touch()
        repository.commit("three models")
        study = Study(repository.root)
        (repository.root / "data").mkdir()
        digits.save(repository.root / "data" / "images.safetensors")
        for model in MODELS:
            done = study.run(*study.train_arguments(model, Path("data/images.safetensors"), "results/checkpoints"))
            assert done.exit_code == 0, done.output
        random = np.random.default_rng(0)
        (folder / "photos" / "faces").mkdir(parents=True)
        for number in range(40):
            pixels = random.integers(0, 256, (3, 3, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((16, 16)).save(folder / "photos" / "faces" / f"{number}.png")

    return made_once(tmp_path_factory, "documented", make)


@pytest.fixture
def reader(place: Path, tmp_path: Path) -> Reader:
    """A reader in a copy of the place, with a remote repository."""
    home = tmp_path / "home"
    shutil.copytree(place, home, symlinks=True)
    repository = Repository(home / "project")
    (repository.root / ".venv" / "bin").symlink_to(warm.tools() if warm.POSSIBLE else Path(sys.executable).parent)
    repository.run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(home / "remote.git"))
    repository.run("git", "remote", "add", "origin", str(home / "remote.git"))
    repository.run("git", "push", "--quiet", "--set-upstream", "origin", "main")
    return Reader(repository, repository.root)


def run(page: str, reader: Reader, slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work through a page, with its slow blocks or without them."""
    monkeypatch.syspath_prepend(str(reader.folder))
    before = set(sys.modules)
    for block in blocks(page):
        if not block.mark or (slow and block.mark == "slow"):
            reader.follow(block)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(reader.repository.root)):
            del sys.modules[name]


@pytest.mark.parametrize("page", [page for page in PAGES if any(not block.mark for block in blocks(page))])
def test_page(page: str, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, reader, False, monkeypatch)


@pytest.mark.engines
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in LONGEST else [])
        for page in PAGES
        if any(block.mark == "slow" for block in blocks(page))
    ],
)
def test_page_with_slow_blocks(page: str, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    run(page, reader, True, monkeypatch)


def test_every_block_is_accounted_for() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    for block in found:
        assert block.language in LANGUAGES, f"{block.where}: {block.language!r} is none of {', '.join(LANGUAGES)}"
        assert block.language != "text" or not re.search(r"^\$ ", block.code, re.MULTILINE), block.where
    left_out = [block for block in found if block.mark.startswith("not run")]
    assert len(left_out) <= NOT_RUN, [f"{block.where}: {block.mark}" for block in left_out]
    assert len([block for block in found if block.language != "text"]) > 8 * len(left_out)


def test_marks_stand_before_blocks() -> None:
    for page in PAGES:
        written = re.findall(r"^ *<!-- (slow|not run: .+) -->$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        assert written == [block.mark for block in blocks(page) if block.mark], page


def test_every_public_name_has_a_reference() -> None:
    named = re.findall(r"^::: latent_atlas\.(\w+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(latent_atlas.__all__)


def test_links_of_pages_outside_the_site() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "examples").glob("*/README.md"))):
        for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
            for child in token.children or []:
                link = str(child.attrs.get("href") or child.attrs.get("src") or "")
                if link and not link.startswith(("https://", "#")):
                    assert (page.parent / link.partition("#")[0]).exists(), f"{page}: {link}"


@pytest.mark.engines
def test_the_site_opens_from_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.glob("*.html"))
    assert {page.stem for page in pages} == {Path(page).stem for page in PAGES[1:]} | {"404"}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 380, "height": 800})
        problems: list[str] = []
        tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        tab.on("request", lambda request: None if request.url.startswith("file:") else problems.append(request.url))
        for page in pages:
            if page.stem != "404":  # it is for servers: its links begin at the root
                tab.goto(page.as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth") == 380, page.name
                assert "\\(" not in tab.inner_text("article"), f"a formula in {page.name} is not shown"
        assert problems == []
        tab.set_viewport_size({"width": 1280, "height": 800})
        tab.click(".md-search__input")
        tab.keyboard.type("chance level")
        tab.locator(".md-search-result__link", has_text="Chance level").first.click()
        tab.wait_for_url("**/concepts.html?h=*#chance-level")
        browser.close()

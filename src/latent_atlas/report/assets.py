"""What goes with the package for its pages: templates, scripts and style sheets."""

from __future__ import annotations

import json
import re
from functools import partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from latent_atlas.report.findings import said

EXPLORER = ("explorer.js", "explorer.css", "runtime.js", "licences.txt")  # beside the page of the explorer
PLOTS = "plots.js"  # beside the report


def static(name: str) -> str:
    """A script or a style sheet, as it is built from ``web/``."""
    return (files("latent_atlas.report") / "static" / name).read_text(encoding="utf-8")


def bibtex(text: str) -> str:
    """A text in a field of BibTeX: what TeX would read otherwise is escaped, braces and quotes are left out."""
    return re.sub(r"([#$%&_])", r"\\\1", re.sub(r'[{}"\\^~]', "", text))


def template(name: str) -> Template:
    """The template of a page; it shows what it is given as text, not as markup."""
    environment = Environment(
        loader=PackageLoader("latent_atlas.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"said": said, "json": partial(json.dumps, ensure_ascii=False), "bibtex": bibtex}
    return environment.get_template(name)

"""What goes with the package for its pages: templates, scripts and style sheets."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

EXPLORER = ("explorer.js", "explorer.css", "runtime.js", "licences.txt")  # beside the page of the explorer
PLOTS = "plots.js"  # beside the report


def static(name: str) -> str:
    """A script or a style sheet, as it is built from ``web/``."""
    return (files("latent_atlas.report") / "static" / name).read_text(encoding="utf-8")


def template(name: str) -> Template:
    """The template of a page; it shows what it is given as text, not as markup."""
    environment = Environment(
        loader=PackageLoader("latent_atlas.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)

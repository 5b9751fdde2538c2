"""The terms of the page and what they mean, and the place where each first stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

DEFINITIONS = "definitions.json"


def definitions() -> list[dict[str, Any]]:
    """Of each term its ``forms`` in a text and its ``definition``."""
    found: list[dict[str, Any]] = json.loads(
        (files("latent_atlas.report") / "templates" / DEFINITIONS).read_text(encoding="utf-8")
    )
    return [entry | {"anchor": entry["term"].lower().replace(" ", "-")} for entry in found]


class Terms:
    """Links from the first place of each term on a page to its definition.

    Parameters
    ----------
    terms : iterable of mappings
        As :func:`definitions` gives them.

    Attributes
    ----------
    used : list of mappings
        The terms that stood in the texts so far, in that order.
    """

    def __init__(self, terms: Iterable[Mapping[str, Any]]) -> None:
        self.of = {form.lower(): term for term in terms for form in term["forms"]}
        longest_first = sorted(self.of, key=len, reverse=True)
        self.pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![\w-])", re.I)
        self.used: list[Mapping[str, Any]] = []

    def __call__(self, text: str) -> Markup:
        """A text as markup."""
        parts, end = [], 0
        for found in self.pattern.finditer(text):
            term = self.of[found[0].lower()]
            if term not in self.used:
                self.used.append(term)
                link = Markup('<a class="term" id="use-{0}" href="#term-{0}" title="{1}">{2}</a>')
                parts += [escape(text[end : found.start()]), link.format(term["anchor"], term["definition"], found[0])]
                end = found.end()
        return Markup("").join([*parts, escape(text[end:])])

"""What MkDocs asks while it builds the site: formulas as MathML, which needs no script; names in docstrings as code."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>|<a |<autoref)")


def on_page_content(content: str, **_: Any) -> str:
    """The HTML of a page, before it is laid out."""
    content = ROLE.sub("", content)
    return FORMULA.sub(
        lambda found: convert(
            html.unescape(found.group(2)).strip(), display="block" if found.group(1) == "div" else "inline"
        ),
        content,
    )

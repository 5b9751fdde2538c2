"""Terms of the page, and where they first stand."""

from __future__ import annotations

from pathlib import Path

from support import ROOT

from latent_atlas.report.definitions import Terms, definitions

WANTED = {
    "manifold", "tangent space", "Jacobian", "singular value", "immersion", "rank", "invariance angle", "chance level",
    "score", "geodesic", "encoder gap", "interval", "effective rank", "PCA",
}  # fmt: skip


def test_every_term_is_defined_in_short() -> None:
    assert {entry["term"] for entry in definitions()} == WANTED
    assert all(20 < len(entry["definition"]) < 250 for entry in definitions())


def test_every_term_is_in_the_definitions_of_the_documentation() -> None:
    text = " ".join(Path(ROOT / "docs" / "concepts.md").read_text("utf-8").lower().split()).replace("*", "")
    assert [entry["term"] for entry in definitions() if entry["term"].lower() not in text] == []


def test_the_first_place_alone_is_a_link() -> None:
    terms = Terms(definitions())
    first = terms("Effective ranks, the effective rank and the rank.")
    assert first.count('class="term"') == 2
    assert "Effective <a" in first  # the plural is no form of the longer term, so the word "ranks" in it is the shorter
    assert terms("rank").count("<a") == 0
    assert [term["term"] for term in terms.used] == ["rank", "effective rank"]


def test_parts_of_words_and_names_are_left_alone() -> None:
    assert Terms(definitions())("pca_16 PCA16 ranked sub-rank") == "pca_16 PCA16 ranked sub-rank"


def test_text_stays_text() -> None:
    found = Terms(definitions())('<b>PCA</b> & "x"')
    assert found.startswith("&lt;b&gt;<a ")
    assert found.endswith("&lt;/b&gt; &amp; &#34;x&#34;")
    assert Terms([])("PCA <") == "PCA &lt;"

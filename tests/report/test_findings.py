"""Findings: records of numbers, and the sentences that are rendered from them."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from latent_atlas.report.findings import Finding, Sentence, record, said


def row(value: float, low: float, high: float) -> pd.Series:
    return pd.Series({"model": "a", "x": value, "x_low": low, "x_high": high})


def test_number_with_its_limits() -> None:
    found = Finding.ranged("kind", row(0.5, 0.25, 0.75), "x", ".1%", "{} for {subject}", unit="1", facts={"k": 2})
    assert (found.subject, found.value, found.low, found.high, found.facts) == ("a", 0.5, 0.25, 0.75, {"k": 2})
    assert Sentence("{}.", [found]) == "50.0% (25.0% to 75.0%) for a."


@pytest.mark.parametrize(("value", "words"), [(0.5, "0.50"), (math.nan, "–")])
def test_what_is_not_known_is_left_out(value: float, words: str) -> None:
    assert Sentence("{}", [Finding.ranged("kind", row(value, math.nan, math.nan), "x", ".2f")]) == words


def test_a_sentence_is_rendered_from_its_record() -> None:
    findings = [Finding("kind", "{subject} {value:.2f} {n}", name, 1 / 3, facts={"n": 3}) for name in ("a", "{b}")]
    sentence = Sentence("Of {}: braces {in} a name.", findings, "; ")
    stored = json.loads(json.dumps(record(sentence), allow_nan=False))
    assert said(stored) == sentence == "Of a 0.33 3; {b} 0.33 3: braces {in} a name."
    stored["findings"][0]["value"] = 0.5
    assert said(stored).startswith("Of a 0.50 3;")


def test_unknown_numbers_are_dashes() -> None:
    sentence = Sentence(
        "{}.", [Finding("kind", "{subject}: {value:.1%} at {x:.1f}", "a", math.nan, facts={"x": math.inf})]
    )
    stored = json.loads(json.dumps(record(sentence), allow_nan=False))
    assert said(stored) == sentence == "a: – at –."


def test_plain_words_are_a_record_too() -> None:
    assert said(record("As {} it is.")) == "As {} it is."


def test_numbers_that_json_lacks_are_null() -> None:
    (stored,) = record(Sentence("{}", [Finding("kind", "x", value=math.inf)]))["findings"]
    assert stored["value"] is None

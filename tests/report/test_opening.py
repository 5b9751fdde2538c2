"""The first lines of the page."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from latent_atlas.report.findings import Finding, Sentence
from latent_atlas.report.opening import immersion, invariance, reconstruction


def found(sentence: str) -> list[Finding]:
    assert isinstance(sentence, Sentence)
    return list(sentence.findings)


def ends(column: str, value: float) -> dict[str, float]:
    return {column: value, f"{column}_low": value - 0.01, f"{column}_high": value + 0.01}


def rows(column: str, values: dict[str, float], **others: Any) -> pd.DataFrame:
    return pd.DataFrame([{"model": name, "latent_dim": 2, **ends(column, x), **others} for name, x in values.items()])


def pairs(verdicts: dict[tuple[str, str], str]) -> pd.DataFrame:
    return pd.DataFrame([(*pair, verdict, "mse") for pair, verdict in verdicts.items()],
                        columns=["a", "b", "verdict", "quantity"])  # fmt: skip


def test_reconstruction_against_pca() -> None:
    sample = rows("mse_mean", {"a": 0.06, "b": 0.09, "c": 0.11, "pca2": 0.1})
    verdicts = {("a", "pca2"): "a is smaller", ("b", "pca2"): "cannot tell", ("c", "pca2"): "b is smaller"}
    *counts, best = found(reconstruction(sample, pairs(verdicts), {"pca2"}))
    assert [(one.kind.split()[-1], one.value) for one in counts] == [("smaller", 1), ("larger", 1), ("tell", 1)]
    assert (best.subject, best.object, best.value, best.facts["pca"]) == ("a", "pca2", 0.06, 0.1)
    assert (best.facts["pca_low"], best.facts["pca_high"]) == pytest.approx((0.09, 0.11))
    assert "0.06000 (0.05000 to 0.07000); PCA 0.10000 (0.09000 to 0.11000)." in str(
        reconstruction(sample, pairs(verdicts), {"pca2"})
    )


def test_none_is_better_than_pca() -> None:
    sample = rows("mse_mean", {"c": 0.11, "pca2": 0.1})
    first, *_ = found(reconstruction(sample, pairs({("c", "pca2"): "b is smaller"}), {"pca2"}))
    assert (first.value, first.facts["of"]) == (0, 1)
    assert "no" in reconstruction(sample[:1], pairs({}), set()).lower()


def test_immersion() -> None:
    ranks = rows("full_rank_share", {"a": 1.0, "b": 0.9}, images=50, rank_min=1)
    whole, worst = found(immersion(ranks))
    assert (whole.value, whole.facts, whole.low) == (1, {"of": 2, "images": 50}, 0.99)
    assert (worst.subject, worst.value, worst.facts) == ("b", 0.9, {"rank": 1, "k": 2})
    (none, _) = found(immersion(ranks[1:]))
    assert (none.value, none.low) == (0, None)
    assert len(found(immersion(ranks[:1]))) == 1


def test_invariance_against_pca_and_chance() -> None:
    scores = rows("score_mean", {"a": 0.3, "b": 0.29, "c": -0.1, "pca2": 0.2})
    angles = rows("angle_deg_mean", {"a": 60.0, "pca2": 65.0}, transformation="rotation", chance_deg=70.0)
    verdicts = {("a", "b"): "cannot tell", ("a", "c"): "b is smaller", ("a", "pca2"): "b is smaller",
                ("b", "pca2"): "cannot tell", ("pca2", "c"): "b is smaller"}  # fmt: skip
    above, better, score, angle = found(invariance(scores, pairs(verdicts), angles, {"pca2"}))
    assert (above.value, above.facts["of"], better.value) == (2, 3, 1)
    assert (score.subject, score.value, score.facts["pca"], score.relation) == ("a", 0.3, 0.2, "cannot tell")
    assert score.facts["tied"] == "b"  # not named the highest without it
    assert (angle.value, angle.facts["pca"], angle.facts["chance"]) == (60.0, 65.0, 70.0)
    assert "No model" in invariance(scores[3:], pairs(verdicts), angles, {"pca2"})
    undefined = scores.assign(score_mean=float("nan"))
    assert "no displacement" in invariance(undefined, pairs(verdicts), angles, {"pca2"}).lower()

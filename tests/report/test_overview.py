from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from latent_atlas.report.sections.overview import (
    collected,
    leader_sentences,
    leaders,
    typical,
    typical_sentences,
)


def ends(value: str, mean: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {f"{value}_mean": mean, f"{value}_mean_low": low, f"{value}_mean_high": high}


@pytest.fixture
def numbers() -> pd.DataFrame:
    def error(model: str, seeds: int, mse: float, gap: float) -> dict[str, Any]:
        head = {"model": model, "latent_dim": 2, "seeds": seeds, "images": 50}
        return head | ends("mse", mse, mse - 0.01, mse + 0.01) | ends("encoder_gap", gap, gap * 0.9, gap * 1.1)

    errors = pd.DataFrame([error("a", 2, 0.05, 0.2), error("b", 1, 0.06, 0.1), error("pca2", 1, 0.09, 0.0)])
    scores = pd.DataFrame([{"model": name} | ends("score", score, score - 0.1, score + 0.1)
                           for name, score in (("a", 0.4), ("b", 0.5), ("pca2", 0.45))])  # fmt: skip
    shared = pd.DataFrame(
        [
            {"a": "a", "b": "a", "kind": "trainings", "reason": None} | ends("shared", 0.6, 0.5, 0.7),
            {"a": "a", "b": "pca2", "kind": "pca", "reason": None} | ends("shared", 0.3, 0.2, 0.4),
            {"a": "b", "b": "pca2", "kind": "pca", "reason": None} | ends("shared", 0.35, 0.25, 0.45),
            {"a": "b", "b": "pca3", "kind": "pca", "reason": None} | ends("shared", 0.9, 0.8, 1.0),
        ]
    )
    return collected(errors, scores, shared, ["a", "b", "pca2"])


def pairs(*verdicts: str) -> pd.DataFrame:
    names = [("a", "b"), ("a", "pca2"), ("b", "pca2")]
    return pd.DataFrame([(*pair, verdict) for pair, verdict in zip(names, verdicts, strict=True)],
                        columns=["a", "b", "verdict"])  # fmt: skip


def test_agreement_is_between_trainings_where_there_are_several_and_else_with_pca(numbers: pd.DataFrame) -> None:
    assert numbers["shared"].tolist()[:2] == [0.6, 0.35]
    assert numbers["shared_with"].fillna("").tolist() == ["trainings", "PCA", ""]
    assert numbers["score_low"].tolist() == pytest.approx([0.3, 0.4, 0.35])


def test_the_best_model_and_what_cannot_be_told_from_it(numbers: pd.DataFrame) -> None:
    (error,) = leaders(numbers, pairs("cannot tell", "a is smaller", "b is smaller"), "mse", smallest=True)
    assert (error.row["model"], error.tied, error.latent_dim) == ("a", ["b"], 2)
    (score,) = leaders(numbers, pairs("a is smaller", "cannot tell", "b is smaller"), "score", smallest=False)
    assert (score.row["model"], score.tied) == ("b", [])
    assert "which cannot be told from b" in leader_sentences("error", [error])[0]
    assert "cannot be told" not in leader_sentences("score", [score])[0]


def test_nothing_is_the_best_of_one(numbers: pd.DataFrame) -> None:
    alone = leaders(numbers[:1], pairs("cannot tell", "cannot tell", "cannot tell"), "mse", smallest=True)
    assert leader_sentences("error", alone) == []


def test_typical_examples() -> None:
    places = pd.DataFrame(
        [("a", "boot", 40.0), ("b", "boot", 60.0), ("a", "bag", 99.0), ("b", "bag", 97.0)],
        columns=["model", "example", "percentile"],
    )
    found = typical(places).set_index("example")
    assert found["typical"].tolist() == [True, False]
    assert found.loc["bag", ["median", "min", "max"]].tolist() == [98, 97, 99]
    assert typical_sentences(typical(places), ["bag"])[0].endswith("not typical of the sample.")

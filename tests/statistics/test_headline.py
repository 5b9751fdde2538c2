from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from latent_atlas.statistics.headline import mean_scores, percentiles


def rows(manifold: str, seed: int | None, image: int, example: str | None, scores: dict[str, float]) -> pd.DataFrame:
    head: dict[str, object] = {
        "manifold": manifold,
        "model": "m",
        "seed": seed,
        "latent_dim": 2,
        "split": "test",
        "image": image,
    }
    return pd.DataFrame([head | {"label": "x", "example": example, "transformation": kind, "score": score}
                         for kind, score in scores.items()])  # fmt: skip


def test_brightness_does_not_count() -> None:
    table = rows("m", 0, 1, None, {"rotation": 0.2, "shift_x": 0.4, "brightness": 1.0})
    assert mean_scores(table)["score"].tolist() == pytest.approx([0.3])


def test_an_undefined_score_is_left_out() -> None:
    table = pd.concat(
        [
            rows("m", 0, 1, None, {"rotation": np.nan, "shift_x": 0.4}),
            rows("m", 0, 2, None, {"rotation": np.nan, "shift_x": np.nan}),
        ]
    )
    found = mean_scores(table)
    assert found["score"][0] == 0.4
    assert np.isnan(found["score"][1])


def test_manifolds_without_a_seed_are_kept() -> None:
    found = mean_scores(rows("pca2", None, 3, None, {"rotation": 0.5}))
    assert found[["image", "score"]].to_numpy().tolist() == [[3, 0.5]]


def test_percentiles_are_means_over_trainings() -> None:
    sample = [rows(name, seed, image, None, {"rotation": 0.1 * image})
              for name, seed in (("m", 0), ("m_seed1", 1)) for image in range(10)]  # fmt: skip
    examples = [rows("m", 0, 0, "e", {"rotation": 0.45}), rows("m_seed1", 1, 0, "e", {"rotation": 0.75}),
                rows("m", 0, 0, "tie", {"rotation": 0.0}), rows("m_seed1", 1, 0, "tie", {"rotation": 2.0})]  # fmt: skip
    found = percentiles(mean_scores(pd.concat([*sample, *examples]))).set_index("example")
    assert found.loc["e", "percentile"] == pytest.approx(65)  # 50 and 80
    assert found.loc["e", "score"] == pytest.approx(0.6)
    assert found.loc["tie", "percentile"] == pytest.approx(52.5)  # 5, half of the equal one, and 100

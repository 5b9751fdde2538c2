"""How messages count."""

from __future__ import annotations

from latent_atlas.errors import counted


def test_singular_for_one_alone() -> None:
    numbers = (0, 1, 2, "1", "1.5", f"{1000:,}")
    found = [counted(number, "test image") for number in numbers]
    assert found == ["0 test images", "1 test image", "2 test images", "1 test image", "1.5 test images",
                     "1,000 test images"]  # fmt: skip

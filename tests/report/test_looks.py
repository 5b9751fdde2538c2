"""Models told apart by everyone: by colour, and where colours are seen alike, by marker or dashes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from latent_atlas.report.figures.style import Look, looks

# From linear RGB to what is seen without one kind of cones: Machado, Oliveira and Fernandes, "A Physiologically-based
# Model for Simulation of Color Vision Deficiency", IEEE TVCG 15 (6), 2009, severity 1.0.
SEEN = {
    "by most": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "grey": np.array([[0.2126, 0.7152, 0.0722]] * 3),
}
DEFAULT = {family: [f"{family}{k}" for k in (16, 32, 128)] for family in ("conv", "fc", "pca", "pca_uncentred")}
LARGE = {
    "convolutional": [f"c{k}" for k in range(2, 14)],
    "fully_connected": [f"f{k}" for k in range(2, 14)],
    "Own": [f"own{n}" for n in range(3)],
    "pca": ["pca2", "pca8", "pca32"],
}


def lab(colour: str, how: str = "by most") -> np.ndarray:
    """A colour in CIELAB as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(SEEN[how] @ linear, 0, 1)
    coded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return rgb2lab(coded.reshape(1, 1, 3))[0, 0]


def distance(a: Look, b: Look, how: str) -> float:
    return float(np.linalg.norm(lab(a.colour, how) - lab(b.colour, how)))


@pytest.mark.parametrize("how", SEEN)
@pytest.mark.parametrize("study", [DEFAULT, LARGE], ids=["default study", "30 models"])
def test_every_two_models_are_told_apart(study: dict[str, list[str]], how: str) -> None:
    found = looks([name for names in study.values() for name in names], study)
    for a, b in combinations(found, 2):
        first, second = found[a], found[b]
        same = (first.marker, first.filled, first.dash) == (second.marker, second.filled, second.dash)
        assert not same or distance(first, second, how) >= 10, (a, b, how)


def test_families_have_hues_and_dimensions_lightness() -> None:
    found = looks([name for names in DEFAULT.values() for name in names], DEFAULT)
    for names in DEFAULT.values():
        lightness = [lab(found[name].colour)[0] for name in names]
        assert lightness == sorted(lightness, reverse=True)
        assert -np.diff(lightness).max() >= 10  # also in grey
        assert len({found[name].marker for name in names}) == 1
    for first, second in combinations(DEFAULT, 2):
        for a, b in zip(DEFAULT[first], DEFAULT[second], strict=True):
            assert distance(found[a], found[b], "by most") >= 20, (a, b)
            assert found[a].marker != found[b].marker


def test_lines_stand_out_from_white_paper() -> None:
    """Three times the luminance, as WCAG 2.2 asks of graphical objects."""
    for study in (DEFAULT, LARGE):
        for look in looks([name for names in study.values() for name in names], study).values():
            luminance = ((lab(look.colour, "grey")[0] + 16) / 116) ** 3
            assert 1.05 / (luminance + 0.05) >= 3


def test_a_part_of_the_models_looks_as_in_the_whole() -> None:
    whole = looks([name for names in DEFAULT.values() for name in names], DEFAULT)
    part = looks(["fc128", "conv16"], DEFAULT)
    assert part == {"fc128": whole["fc128"], "conv16": whole["conv16"]}

"""Files of the page's pictures."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from latent_atlas.report.pictures import convert, webp


def test_no_two_pictures_have_one_name() -> None:
    """Names of a study hold underscores, and no hyphens."""
    several = ["displacements/a/b_c.png", "displacements/a_b/c.png", "displacements/a_b_c.png"]
    assert len({webp(PurePath(file)) for file in several}) == 3
    assert webp(PurePath(several[0])) == "pictures/displacements-a-b_c.webp"


def test_an_svg_file_is_shown_by_its_twin(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "stage"
    folder.mkdir(parents=True)
    (folder / "x.svg").write_text("<svg/>")
    Image.fromarray(np.full((20, 30, 3), 200, np.uint8)).save(folder / "x.png")
    found = convert(folder / "x.svg", tmp_path / "results", tmp_path / "page")
    assert found == {"webp": "pictures/stage-x.webp", "width": 30, "height": 20}
    with Image.open(tmp_path / "page" / found["webp"]) as shown:
        assert (shown.format, shown.size) == ("WEBP", (30, 20))

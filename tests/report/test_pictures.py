"""Files of the page's pictures."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from latent_atlas.errors import FileError
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


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Each bit of a small picture, also of its pixels; the end of the file, which has no content, does not count."""
    file = tmp_path / "results" / "x.png"
    file.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)).save(file)
    whole = file.read_bytes()
    for place in range(8 * (len(whole) - 12)):  # the last part is empty
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        with pytest.raises(FileError, match=r"x\.png is damaged: it is no readable picture .*delete it and run"):
            convert(file, file.parent, tmp_path / "page")
    file.unlink()
    with pytest.raises(FileError, match=r"x\.png is missing: run the workflow again"):
        convert(file, file.parent, tmp_path / "page")

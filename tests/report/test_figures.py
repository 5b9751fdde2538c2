"""Pictures: where each image stands in a mosaic, and that a figure is always the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from latent_atlas.report.figures import style as base


def test_mosaic_shows_every_image_once_in_reading_order() -> None:
    count, columns = 128, 16
    images = torch.arange(count, dtype=torch.float64).view(count, 1, 1, 1).expand(count, 1, 3, 2) / count
    canvas = base.mosaic(images, columns)
    assert canvas.shape == (8 * 4, 16 * 3, 3)
    tiles = canvas.reshape(8, 4, 16, 3, 3)
    found = tiles[:, :3, :, :2].mean(axis=(1, 3))  # rows x columns x RGB
    assert found[..., 0].flatten().tolist() == pytest.approx([number / count for number in range(count)])
    assert bool((found == found[..., :1]).all())  # grey is the same in all three colours
    assert bool((tiles[:, 3] == 1).all())  # white between the rows
    assert bool((tiles[:, :, :, 2] == 1).all())  # and between the columns


def test_mosaic_keeps_colours_and_leaves_the_rest_white() -> None:
    images = torch.zeros(3, 3, 2, 2)
    images[0, 0] = images[1, 1] = images[2, 2] = 1
    tiles = base.mosaic(images, 2, gap=0).reshape(2, 2, 2, 2, 3).transpose(0, 2, 1, 3, 4)
    assert [tiles[row, column, 0, 0].tolist() for row in range(2) for column in range(2)] == [
        [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1],
    ]  # fmt: skip


def test_mosaic_clips_to_what_can_be_shown() -> None:
    canvas = base.mosaic(torch.tensor([-0.5, 0.5, 1.5]).view(3, 1, 1, 1), 3, gap=0)
    assert canvas[0, :, 0].tolist() == [0, 0.5, 1]


def test_signed_mosaic_keeps_signs_and_marks_what_is_empty() -> None:
    images = torch.tensor([[-2.0, 0.0], [1.0, 3.0], [-4.0, 2.0]]).view(3, 2, 1, 1)  # two channels each
    canvas = base.signed_mosaic(images, 2, gap=0)
    assert canvas[0].tolist() == [-1, 2]
    assert canvas[1, 0] == -1
    assert np.isnan(canvas[1, 1])


def draw(path: Path) -> None:
    """A figure with everything that could carry a date or a random name."""
    with base.figure(2, 2) as fig:
        axes = fig.subplots()
        axes.plot([1, 2, 3], [1, 4, 9], "o-", label="squares")
        axes.axhline(3, clip_on=True)
        axes.legend()
        base.save(fig, path)


def test_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / name / "x.svg")
    for file in ("x.svg", "x.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_svg_has_a_png_beside_it_and_nothing_else(tmp_path: Path) -> None:
    draw(tmp_path / "x.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png", "x.svg"]
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()


@pytest.mark.parametrize("last", [1, 5, 12, 13, 100])
def test_ticks_are_whole_and_few(last: int) -> None:
    ticks = base.whole_ticks(last)
    assert ticks[0] == 1
    assert len(ticks) <= 12
    assert set(ticks) <= set(range(1, last + 1))


@pytest.mark.parametrize("count", [1, 6, 30])
def test_palette_has_as_many_different_colours_as_asked_for(count: int) -> None:
    assert len(set(base.palette(count))) == count

"""Pictures of any mode made into bytes: turned, on white, in grey, resized."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from latent_atlas.data.decoding import ORIENTATION, as_array

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10  # H x W


def test_grey_and_colour_stay_what_they_are() -> None:
    assert np.array_equal(as_array(Image.fromarray(RAMP), (4, 6), None, "grey"), RAMP[None])
    colour = np.stack([RAMP, RAMP[::-1], 255 - RAMP], 2)
    assert np.array_equal(as_array(Image.fromarray(colour), (4, 6), None, "rgb"), colour.transpose(2, 0, 1))


def test_grey_in_colour_has_three_equal_channels() -> None:
    assert np.array_equal(as_array(Image.fromarray(RAMP), (4, 6), None, "rgb"), np.stack([RAMP] * 3))


def test_sixteen_bits_are_scaled_not_cut() -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    assert np.array_equal(as_array(deep, (4, 6), None, "grey"), RAMP[None])


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_no_known_range_are_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=f"mode {mode} of 32-bit pixels has no known range"):
        as_array(Image.new(mode, (2, 2)), (2, 2), None, "grey")


def test_transparent_parts_are_white() -> None:
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert as_array(clear, (1, 2), None, "rgb")[:, 0].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    palette.info["transparency"] = 0
    assert as_array(palette, (1, 1), None, "rgb").flatten().tolist() == [255, 255, 255]


def test_photographs_are_turned_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by a quarter, clockwise
    Image.fromarray(RAMP).save(file, "png", exif=exif)
    turned = as_array(Image.open(file), (6, 4), None, "grey")
    assert np.array_equal(turned[0], np.rot90(RAMP, -1))


def test_centre_is_cut_and_none_squeezes() -> None:
    halves = np.zeros((4, 12), dtype=np.uint8)
    halves[:, 4:8] = 200  # the centred square
    picture = Image.fromarray(halves)
    assert np.array_equal(as_array(picture, (4, 4), "centre", "grey")[0], np.full((4, 4), 200))
    squeezed = as_array(picture, (4, 6), "none", "grey")[0]
    assert squeezed[:, 0].max() < 20
    assert squeezed[:, 3].min() > 150


def test_resampling_keeps_a_constant_and_the_mean() -> None:
    assert set(as_array(Image.new("L", (30, 20), 77), (7, 9), "centre", "grey").flatten().tolist()) == {77}
    noise = np.random.default_rng(0).integers(100, 156, (64, 64), dtype=np.uint8)
    small = as_array(Image.fromarray(noise), (16, 16), "centre", "grey")
    assert abs(float(small.mean()) - float(noise.mean())) < 0.5
    assert small.std() < noise.std() / 2  # no pixel is just picked out

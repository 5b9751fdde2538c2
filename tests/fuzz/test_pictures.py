"""Folders of pictures in which one is damaged or strange: it is left out and named, or read as it is."""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import EXAMPLES, Change, Tally, damage, damaged, quick
from hypothesis import example, given
from hypothesis import strategies as some
from PIL import Image, ImageOps

from latent_atlas.data import sources
from latent_atlas.data.images import Images
from latent_atlas.errors import DataError

DRAW = np.random.default_rng(0)
GOOD = DRAW.integers(0, 256, (2, 10, 12, 3), dtype=np.uint8)  # N x H x W x C
PIXELS = DRAW.integers(0, 256, (10, 12, 3), dtype=np.uint8)  # H x W x C


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, data: bytes, depth: int = 8, colour: int = 0, more: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")


RGB = Image.fromarray(PIXELS)
FILES = {
    "a.png": encoded(RGB, "PNG"),
    "plain.png": encoded(RGB, "PNG", compress_level=0),
    "a.jpg": encoded(RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
    "progressive.jpg": encoded(RGB, "JPEG", progressive=True),
    "a.webp": encoded(RGB, "WEBP", lossless=True),
    "lossy.webp": encoded(RGB, "WEBP"),
    "a.tif": encoded(RGB, "TIFF"),
    "lzw.tif": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "a.bmp": encoded(RGB, "BMP"),
    "a.gif": encoded(RGB, "GIF"),
    "animated.gif": encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180), RGB]),
    "animated.webp": encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(180)], lossless=True),
    "animated.png": encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(180)]),
    "pages.tif": encoded(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(180)]),
    "cmyk.jpg": encoded(RGB.convert("CMYK"), "JPEG"),
    "cmyk.tif": encoded(RGB.convert("CMYK"), "TIFF"),
    "palette.png": encoded(RGB.quantize(16), "PNG"),
    "alpha.png": encoded(RGB.convert("RGBA"), "PNG"),
    "bits.png": encoded(RGB.convert("1"), "PNG"),
    "luma.tif": encoded(RGB.convert("YCbCr"), "TIFF"),
    "deep.png": encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "PNG"),
    "deep.tif": encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257), "TIFF"),
}  # fmt: skip


def plain(content: bytes, size: tuple[int, int] | None) -> np.ndarray:
    """The pixels (C, H, W) of a picture as Pillow alone reads it."""
    picture: Image.Image = Image.open(io.BytesIO(content))
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray(((np.asarray(picture).astype(np.float64) + 128) // 257).astype(np.uint8))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    picture = picture.convert("RGB")
    if size is not None and picture.size != size[::-1]:
        picture = ImageOps.fit(picture, size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(picture).transpose(2, 0, 1)


class Folder:
    """Two good pictures beside one that is to be tried."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pictures, self.lines = folder, folder / "pictures", list[str]()
        self.pictures.mkdir()
        for number, pixels in enumerate(GOOD):
            Image.fromarray(pixels).save(self.pictures / f"good{number}.png")

    def read(self, size: tuple[int, int] | None) -> Images:
        self.lines = []
        wanted = {"images": str(self.pictures), "size": size and list(size), "colour": "rgb", "test_share": 0.4}
        return sources.obtain(wanted, self.folder, self.lines.append)

    def without(self, name: str, size: tuple[int, int] | None) -> Images:
        """What is read where the picture is left out; DataError with the reason in the log."""
        found = self.read(size)
        if len(found.train) + len(found.test) == len(GOOD):
            (line,) = [line for line in self.lines if line.startswith("skipped 1 of 3: ")] or [""]
            self.of(found, [*self.good(size)])
            raise DataError(line)
        return found

    def good(self, size: tuple[int, int] | None) -> list[np.ndarray]:
        return [plain((self.pictures / f"good{number}.png").read_bytes(), size) for number in range(len(GOOD))]

    @staticmethod
    def of(found: Images, wanted: list[np.ndarray]) -> None:
        """The images are just these, in any order."""
        stored = [*found.train.numpy(), *found.test.numpy()]
        assert sorted(image.tobytes() for image in stored) == sorted(image.tobytes() for image in wanted)

    def tried(self, tally: Tally, name: str, content: bytes, size: tuple[int, int] | None, original: bytes) -> None:
        path = self.pictures / name
        path.write_bytes(content)

        def same(found: Images) -> None:
            read = plain(content, size)
            self.of(found, [*self.good(size), read])
            if original.startswith(content) or original.startswith(b"\x89PNG"):  # cut, or with checksums
                assert (read == plain(original, size)).all()

        try:
            tally.case(lambda: self.without(name, size), same, [str(path)])
        finally:
            path.unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@quick(250)
@given(name=some.sampled_from(sorted(FILES)), changes=damage(), size=some.sampled_from([None, (10, 12), (6, 6)]))
@example(name="deep.tif", changes=[("set", 0.25, 0, b"\0")], size=None)  # no rows in a strip
@example(name="deep.tif", changes=[("set", 0.25, 0, b"\x08")], size=None)  # eight of ten
@example(name="alpha.png", changes=[("set", 0.875, 0, b"\0")], size=None)  # the checksums alone tell
def test_damaged(name: str, changes: list[Change], size: tuple[int, int] | None, folder: Folder, tally: Tally) -> None:
    folder.tried(tally, name, damaged(FILES[name], changes), size, FILES[name])


@pytest.mark.parametrize("size", [None, (10, 12), (6, 6)])
def test_whole_under_each_name(size: tuple[int, int] | None, folder: Folder, tally: Tally) -> None:
    for name, content in FILES.items():
        for other in ("x.png", "x.JPG", "x.webp", "x.tiff", "x.bmp", "x.gif", name):
            folder.tried(tally, other, content, size, content)


@quick(60)
@given(
    content=some.binary(max_size=100), name=some.sampled_from(["x.png", "x.jpg", "x.tif", "x.gif", "x.webp", "x.bmp"])
)
def test_any_bytes(content: bytes, name: str, folder: Folder, tally: Tally) -> None:
    folder.tried(tally, name, content, None, content)


def headers() -> dict[str, bytes]:
    """Small files that announce huge pictures, or that unpack to much."""
    zeros = zlib.compress(bytes(10**7), 9)
    found = {}
    for side in (7_000, 10_300, 13_000, 40_000, 2**31 - 1):
        found[f"{side}.png"] = png(side, side, zeros)
        found[f"colour{side}.png"] = png(side, side, zeros, colour=6)
        found[f"{side}.bmp"] = FILES["a.bmp"][:18] + struct.pack("<ii", side, side) + FILES["a.bmp"][26:]
        if side < 2**16:
            found[f"{side}.gif"] = FILES["a.gif"][:6] + struct.pack("<HH", side, side) + FILES["a.gif"][10:]
    rows = b"".join(zlib.compress(bytes(1), 9) for _ in range(1))
    found["text.png"] = png(1, 1, rows, more=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)))
    found["profile.png"] = png(1, 1, rows, more=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9)))
    return found


def large() -> dict[str, bytes]:
    """Whole pictures a little smaller than the largest that is read."""
    side = 10_200
    found = {
        "clear.png": encoded(Image.new("RGBA", (side, side)), "PNG", compress_level=1),
        "clear.webp": encoded(Image.new("RGBA", (7_700, 7_700)), "WEBP", lossless=True, method=0),
        "cmyk.jpg": encoded(Image.new("CMYK", (side, side)), "JPEG"),
    }
    if EXAMPLES:
        deep = Image.fromarray(np.zeros((side, side), np.uint16))
        for name, picture in {"grey": deep.convert("L"), "rgb": deep.convert("RGB"), "deep": deep}.items():
            found[f"{name}.png"] = encoded(picture, "PNG", compress_level=1)
        found["clear.tif"] = encoded(Image.new("RGBA", (side, side)), "TIFF", compression="tiff_lzw")
        found["flat.gif"] = encoded(Image.new("L", (side, side)), "GIF")
    return found


def test_huge(folder: Folder, tally: Tally) -> None:
    for name, content in headers().items():
        path = folder.pictures / name
        path.write_bytes(content)
        message = tally.case(functools.partial(folder.without, name, (10, 12)), lambda found: None, [str(path)])
        assert message or name == "7000.gif"  # a small picture on a large empty one
        path.unlink()


def test_large(folder: Folder, tally: Tally) -> None:
    for name, content in large().items():
        path = folder.pictures / name
        path.write_bytes(content)
        assert tally.case(functools.partial(folder.without, name, (10, 12)), lambda found: None) is None
        path.unlink()


def test_no_files(folder: Folder, tally: Tally) -> None:
    """What has the name of a picture and is none: it is not there, or left out and named."""
    loop, pipe, link, below = (folder.pictures / name for name in ("loop.png", "pipe.png", "link.png", "below.png"))
    loop.symlink_to(loop)
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    below.mkdir()
    for name in ("up", "again"):
        (below / name).symlink_to(folder.pictures)  # circles of folders
    (folder.pictures / "gone.png").symlink_to("nowhere")
    (folder.pictures / "empty.png").touch()
    good = folder.good(None)
    message = tally.case(lambda: folder.without("empty.png", None), lambda found: None, ["empty.png: it is empty"])
    assert message
    folder.of(folder.read(None), good)
    for path in (loop, pipe, link, below, Path("/dev/zero"), folder.pictures / "*.tif", folder.folder / "not there"):
        wanted = {"images": str(path)}
        assert tally.case(functools.partial(sources.obtain, wanted, folder.folder), lambda found: None, [str(path)])


def test_unreadable(tally: Tally) -> None:
    import latent_atlas.data.sources.folder  # noqa: F401  (while it may be read)

    user = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(Path(place))
        path = folder.pictures / "x.png"
        path.write_bytes(FILES["a.png"])
        path.chmod(0)
        folder.folder.chmod(0o777)

        def attempt() -> Images:
            if user == 0:
                os.seteuid(65534)  # who may not read everything
            try:
                return folder.without("x.png", None)
            finally:
                os.seteuid(user)

        assert tally.case(attempt, lambda found: None, [f"{path}: "])


@pytest.mark.parametrize(
    "name", ["LA.png", "I;16.tif", "I;16B.tif", "F.tif", "I.tif", "P.gif", "rgb48.png", "12bit.tif"]
)
def test_modes(name: str, folder: Folder, tally: Tally) -> None:
    """Depths and modes, written by hand where Pillow writes none: the nearest 8 bits, or refused."""
    values = DRAW.integers(0, 2**16, (10, 12, 3), dtype=np.uint16)
    grey, twelve = values[..., 0], values[..., 0] >> 4
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    bits = np.unpackbits(twelve.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 4:]
    contents = {
        "LA.png": lambda: encoded(RGB.convert("LA"), "PNG"),
        "I;16.tif": lambda: encoded(Image.fromarray(grey), "TIFF"),
        "I;16B.tif": lambda: tiff(grey.astype(">u2").tobytes(), 16),
        "F.tif": lambda: encoded(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "I.tif": lambda: encoded(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "P.gif": lambda: encoded(RGB.quantize(7), "GIF"),
        "rgb48.png": lambda: png(12, 10, zlib.compress(rows), 16, 2),
        "12bit.tif": lambda: tiff(np.packbits(bits).tobytes(), 12),
    }
    exact = {
        "I;16.tif": grey[None].repeat(3, 0) / 257,
        "I;16B.tif": grey[None].repeat(3, 0) / 257,
        "rgb48.png": values.transpose(2, 0, 1) >> 8,
        "12bit.tif": twelve[None].repeat(3, 0) * 255 / 4095,
    }
    path = folder.pictures / name
    path.write_bytes(contents[name]())

    def same(found: Images) -> None:
        if name in exact:
            folder.of(found, [*folder.good(None), np.rint(exact[name]).astype(np.uint8)])
        else:
            folder.of(found, [*folder.good(None), plain(path.read_bytes(), None)])

    tally.case(lambda: folder.without(name, None), same, [str(path)])


def tiff(data: bytes, bits: int, white: int = 1) -> bytes:
    """A big-endian TIFF of 12 x 10 grey pixels; ``white`` 0 is for values that grow darker."""
    tags = [(256, 3, 12), (257, 3, 10), (258, 3, bits), (259, 3, 1), (262, 3, white), (273, 4, 8), (277, 3, 1),
            (278, 3, 10), (279, 4, len(data))]  # fmt: skip
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + struct.pack(">I", value << 16 if kind == 3 else value)
        for tag, kind, value in tags
    )
    return b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(tags)) + entries + bytes(4)


def test_white_is_zero(folder: Folder, tally: Tally) -> None:
    """A TIFF whose values grow darker is not read the other way round."""
    for bits, kind, scale in ((8, np.uint8, 1), (16, ">u2", 257)):
        values = DRAW.integers(0, 256, (10, 12)).astype(kind) * kind_of(kind)(scale)
        path = folder.pictures / "x.tif"
        path.write_bytes(tiff(values.tobytes(), bits, white=0))
        dark = (255 - values // scale).astype(np.uint8)[None].repeat(3, 0)
        tally.case(
            lambda: folder.without("x.tif", None),
            functools.partial(folder.of, wanted=[*folder.good(None), dark]), [str(path)],
        )  # fmt: skip


def kind_of(kind: Any) -> Any:
    return np.dtype(kind).type


@quick(150)
@given(
    parts=some.lists(
        some.sampled_from(["**", "*", "a", "b*", "[ab]", "a[[]1]", ".h", "?", "a**", "*.png", "***", "x.png"]),
        min_size=1,
        max_size=5,
    )
)
def test_patterns(parts: list[str], tmp_path: Path) -> None:
    """Where no links go in circles, a pattern matches what Python's own function says."""
    tree = tmp_path / "tree"
    for name in (
        "x.png",
        "a/x.png",
        "a/b/x.png",
        "a/b/.h/x.png",
        ".h/x.png",
        "b1/a[1]/.x.png",
        "b1/a[1]/y.png",
        "b/*/x.png",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    if not (tree / "a" / "link").is_symlink():
        (tree / "a" / "link").symlink_to(tree / "b1")
    pattern = "/".join(parts)
    with contextlib.chdir(tree):
        if not Path(pattern).is_dir():
            wanted = sorted({Path(file) for file in glob.glob(pattern, recursive=True) if os.path.isfile(file)})  # noqa: PTH113, PTH207
            assert sources.matched(pattern) == tuple(wanted)
    if not (tree / pattern).is_dir():
        wanted = sorted({Path(file) for file in glob.glob(f"{tree}/{pattern}", recursive=True) if os.path.isfile(file)})  # noqa: PTH113, PTH207
        assert sources.matched(f"{tree}/{pattern}") == tuple(wanted)

"""new: a folder for a study of one's own images and one's own model."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from latent_atlas.data.sources import matched
from latent_atlas.study.run import SNAKEFILE

TEMPLATES = Path(__file__).parent / "templates"
IMAGES, SIZE = "images", 64  # the folder and the size in the template
LARGE = 128  # pixels of a side, from which on pictures are made smaller
LOOKED_AT = 200  # pictures, to propose their most frequent size


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--images", metavar="GLOB", help="Your images: a folder, or a pattern in quotes. [default: those that "
              "you put into FOLDER/images]")  # fmt: skip
def new(folder: Path, images: str | None) -> None:
    """Make a folder for a study of your own images and your own model.

    It gets a params.yaml, a model, a Snakefile and profiles to run it, and is put under git and DVC.

    \b
    Example:
      latent-atlas new atlas --images 'photos/**/*.png'
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise click.ClickException(f"{folder} exists and is not an empty folder: choose another name")
    if shutil.which("git") is None:
        raise click.ClickException("git is not installed, which versions the study: install it")
    files = matched(images) if images else []
    if images and not files:
        whole = Path(images).expanduser().absolute()
        raise click.ClickException(f"there are no images at {images} ({whole}): name a folder, or a pattern in quotes")
    size, grey, read = _proposed(files)
    if images and not read:
        raise click.ClickException(
            f"none of the files at {images} can be read as a picture ({files[0].name}{', ...' if files[1:] else ''}): "
            "name a folder of pictures, or a pattern in quotes"
        )
    shutil.copytree(TEMPLATES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(SNAKEFILE.parent / "profiles", folder / "profiles")
    (folder / "gitignore").rename(folder / ".gitignore")
    params = folder / "params.yaml"
    text = params.read_text(encoding="utf-8")
    if images:
        place = Path(images).expanduser()
        pattern = str(place) if place.is_absolute() else os.path.relpath(place, folder)
        text = text.replace(f"images: {IMAGES} ", f"images: {json.dumps(pattern, ensure_ascii=False)} ")
        text = text.replace("size: 64 ", f"size: {size} ")
        if grey:
            text = text.replace("colour: rgb     # or grey", "colour: grey    # or rgb")
    params.write_text(text, encoding="utf-8")
    if not images:
        (folder / "images").mkdir()
    dvc = [sys.executable, "-m", "dvc"]
    for command in (["git", "init", "--quiet"], [*dvc, "init", "--quiet"], [*dvc, "config", "core.analytics", "false"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{' '.join(command)} in {folder} failed: {done.stderr.strip()}")
    high, wide = size if isinstance(size, list) else (size, size)
    found = f", for {len(files):,} files, {wide}x{high} pixels, {'grey' if grey else 'rgb'}" if images else ""
    click.echo(f"{folder} is ready{found}. Next:")
    if not images:
        click.echo(f"  put your images into {folder / 'images'}")
    click.echo(f"  cd {shlex.quote(str(folder))}\n  edit params.yaml and my_model.py\n  snakemake")


def _proposed(files: Sequence[Path]) -> tuple[int | list[int], bool, int]:
    """The most frequent size of pictures, unless they are large: one number, or height and width; whether all are grey;
    how many of the first could be read.

    So are pictures that are stored in colours but have equal channels.
    """
    from PIL import Image, ImageChops

    sizes: Counter[tuple[int, int]] = Counter()
    grey = []
    for file in files[:LOOKED_AT]:
        with suppress(Exception), Image.open(file) as picture:  # what cannot be read is told by fetch
            sizes[picture.size] += 1
            red, green, blue = picture.convert("RGB").split()
            grey.append(not any(ImageChops.difference(red, other).getbbox() for other in (green, blue)))
    ((width, height), _), *_ = sizes.most_common(1) or [((SIZE, SIZE), 0)]
    size = SIZE if max(width, height) > LARGE else width if width == height else [height, width]
    return size, bool(grey) and all(grey), len(grey)

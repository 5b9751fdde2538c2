"""Whether a study fits its images: their shape, and how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latent_atlas.errors import counted
from latent_atlas.models.registry import smallest_side

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def check_fit(
    params: Params, name: str, train: int | None, test: int | None, shape: tuple[int, int, int] | None
) -> None:
    """Compare a study with what is known of its images; None is not known.

    Raises
    ------
    ValueError
        Naming the first entry that asks for more than there is.
    """
    counts = {"train": train, "test": test}
    if shape is not None:
        _, height, width = shape
        pixels = shape[0] * height * width
        for model, entry in params.models.items():
            _at_most(
                entry.latent_dim,
                pixels,
                f"models.{model}.latent_dim",
                f"an image of {name} has {counted(pixels, 'number')}",
            )
            if (side := smallest_side(entry.architecture, entry.options)) > min(height, width):
                raise ValueError(
                    f"models.{model}: the images of {name} are {height}x{width} and its convolutions need at least "
                    f"{side}x{side}; set options: {{kernel: {(min(height, width) + 1) // 2}}} or smaller"
                )
    most = min(shape[0] * shape[1] * shape[2] if shape else 2**63, train or 2**63)
    of = f" of {shape[0] * shape[1] * shape[2]} numbers" if shape else ""
    images = counted(train, "image") if train else "images"
    for k in params.pca.latent_dims:
        _at_most(k, most, "pca.latent_dims", f"{images}{of} have {most} components")
    if (count := counts[params.sample.split]) is not None and params.sample.size is not None:
        _at_most(
            params.sample.size,
            count,
            "sample.size",
            f"{name} has {counted(count, f'{params.sample.split} image')} here",
        )
    if test is not None and params.geodesics.pairs is not None:
        _at_most(params.geodesics.pairs, test // 2, "geodesics.pairs", f"{name} has {counted(test, 'test image')} here")
    for example, place in params.examples.items():
        split, _, index = place.partition("/")
        if (count := counts[split]) is not None:
            _at_most(
                int(index), count - 1, f"examples.{example}", f"{name} has {counted(count, f'{split} image')} here"
            )


def _at_most(value: int, most: int, path: str, because: str) -> None:
    if value > most:
        raise ValueError(f"{path}: {value} is too large, since {because}; choose at most {most}")

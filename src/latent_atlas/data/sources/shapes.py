"""Smooth figures whose factors are known, drawn by the formula in :mod:`latent_atlas.data.figures`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latent_atlas.data.sources import SEED, TEST_SHARE, Log
from latent_atlas.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from latent_atlas.data.images import Images

DATASETS = {"shapes": (None, None, None)}  # its numbers and its shape are chosen
SIZE, SMALLEST = 24, 12  # pixels of a side
OPTIONS: dict[str, Any] = {"images": 6000, "kinds": ["ellipse", "rectangle", "triangle", "ring"]}


def planned(
    size: int | Sequence[int] | None = None,
    colour: str | None = None,
    options: Mapping[str, Any] | None = None,
    test_share: float | None = None,
    **_: Any,
) -> tuple[int, int, tuple[int, int, int]]:
    """Numbers of training and of test images, and their shape, without drawing any.

    Raises
    ------
    DataError
        If these figures cannot be drawn.
    """
    sides = size or SIZE
    height, width = (sides, sides) if isinstance(sides, int) else sides
    if min(height, width) < SMALLEST:
        raise DataError(
            f"dataset.size: {min(height, width)} pixels are too few for figures; choose at least {SMALLEST}"
        )
    for option in options or {}:
        if option not in OPTIONS:
            raise DataError(f"dataset.options: shapes have no option {option!r}; they have {', '.join(OPTIONS)}")
    count, kinds = (OPTIONS | dict(options or {})).values()
    share = TEST_SHARE if test_share is None else test_share
    if type(count) is not int or not 1 <= round(count * share) < count:
        raise DataError(
            f"dataset.options.images: {count!r} cannot be divided with test_share: {share:g}; give a whole number that "
            f"leaves an image for each split"
        )
    known = OPTIONS["kinds"]
    if not (isinstance(kinds, list) and kinds and all(kinds.count(k) == 1 and k in known for k in kinds)):
        raise DataError(f"dataset.options.kinds: {kinds!r} is no list of different kinds; choose of {', '.join(known)}")
    return count - round(count * share), round(count * share), (3 if colour == "rgb" else 1, height, width)


def get(
    name: str,
    scratch: Path,
    log: Log,
    size: int | Sequence[int] | None = None,
    colour: str | None = None,
    options: Mapping[str, Any] | None = None,
    test_share: float | None = None,
    seed: int | None = None,
) -> Images:
    """Figures with factors drawn uniformly, the kinds in turn; their factors are stored beside the rounded pixels.

    Parameters
    ----------
    size : int or (H, W), optional
        Pixels; 24 by default, 12 at least.
    options : mapping, optional
        ``images``, the number of all; ``kinds``, a list, all by default.

    Raises
    ------
    DataError
        If these figures cannot be drawn.
    """
    import torch

    from latent_atlas.data.figures import PERIODS, draw, factor_names, ranges
    from latent_atlas.data.images import Images
    from latent_atlas.data.splits import gathered

    train, test, shape = planned(size, colour, options, test_share)
    kinds, seed = (OPTIONS | dict(options or {}))["kinds"], SEED if seed is None else seed
    log(f"{name}: drawing {train + test} figures")
    labels = torch.arange(train + test) % len(kinds)
    low, high = ranges(shape)
    chance = torch.rand(len(labels), len(low), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    factors = low + (high - low) * chance  # N x f
    factors[:, 2] *= torch.tensor([PERIODS[kind] for kind in kinds], dtype=torch.float64)[labels]

    def part(index: np.ndarray) -> np.ndarray:
        drawn = draw([kinds[label] for label in labels[index]], factors[index], shape)
        return (255 * drawn).round().to(torch.uint8).numpy()

    pixels = gathered(part, torch.arange(len(labels)).numpy(), shape, scratch)
    made = {"source": name, "factors": list(factor_names(shape[0])), "seed": seed}
    return Images(name, pixels[:train], labels[:train], pixels[train:], labels[train:], tuple(kinds), made,
                  factors[:train], factors[train:])  # fmt: skip

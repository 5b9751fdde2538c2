"""The small digits that come with scikit-learn: real scans, 8 x 8 pixels, at hand without a network."""

from __future__ import annotations

from pathlib import Path

import torch

from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log

DATASETS = {"digits": (1500, 297, (1, 8, 8))}  # training images, test images, shape; there is no official split
TRAINING_IMAGES = DATASETS["digits"][0]


def get(name: str, colour: str | None, folder: Path | None, scratch: Path, log: Log) -> Images:
    """The first 1,500 digits for training and the other 297 for testing."""
    from sklearn.datasets import load_digits

    log("digits: reading them from scikit-learn")
    digits = load_digits()
    pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]  # N x 1 x 8 x 8
    labels = torch.from_numpy(digits.target).long()
    return Images(
        name="digits",
        train=pixels[:TRAINING_IMAGES],
        train_labels=labels[:TRAINING_IMAGES],
        test=pixels[TRAINING_IMAGES:],
        test_labels=labels[TRAINING_IMAGES:],
        classes=tuple(str(name) for name in digits.target_names),
    )

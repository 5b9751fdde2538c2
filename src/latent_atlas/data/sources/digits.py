"""The small digits that come with scikit-learn: real scans, 8 x 8 pixels, at hand without a network."""

from __future__ import annotations

import torch

from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log

TRAINING_IMAGES = 1500  # of 1797; the set has no official split


def get(log: Log) -> Images:
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

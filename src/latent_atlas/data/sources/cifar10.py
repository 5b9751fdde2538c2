"""CIFAR-10, in colour or in grey."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from latent_atlas.data import torchvision_import
from latent_atlas.data.images import Images
from latent_atlas.data.sources import Log
from latent_atlas.errors import DataError

DATASETS = {"CIFAR10": (50_000, 10_000, (3, 32, 32))}  # training images, test images, shape
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)


def get(name: str, colour: str, folder: Path | None, scratch: Path, log: Log) -> Images:
    """Both splits of a CIFAR dataset; torchvision downloads it and verifies its files."""
    dataset = getattr(torchvision_import.datasets(), name)
    log(f"{name}: {'reading ' + str(folder) if folder else 'trying ' + dataset.url}")
    root = folder or scratch
    try:
        splits = [dataset(root, train=train, download=folder is None) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"no source delivered {name}: {error}\n"
            f"Put {dataset.base_folder}/ into a folder and name that folder as dataset.folder in params.yaml."
        ) from error
    train, test = (torch.from_numpy(split.data).permute(0, 3, 1, 2) for split in splits)  # N x 3 x H x W
    return Images(
        name=name,
        train=in_colour(train, colour),
        train_labels=torch.tensor(splits[0].targets),
        test=in_colour(test, colour),
        test_labels=torch.tensor(splits[1].targets),
        classes=tuple(splits[0].classes),
    )


def in_colour(pixels: Tensor, colour: str) -> Tensor:
    """uint8 RGB images (N, 3, H, W) as they are, or in grey (N, 1, H, W)."""
    if colour == "colour":
        return pixels.contiguous()
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True).round().clamp(0, 255).to(torch.uint8)  # N x 1 x H x W

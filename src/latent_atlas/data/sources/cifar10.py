"""CIFAR-10, in colour or in grey."""

from __future__ import annotations

from pathlib import Path

import torch

from latent_atlas.data import torchvision_import
from latent_atlas.data.folders import place_of
from latent_atlas.data.images import Images, in_grey
from latent_atlas.data.sources import Log
from latent_atlas.errors import DataError

DATASETS = {"CIFAR10": (50_000, 10_000, (3, 32, 32))}  # training images, test images, shape


def get(name: str, colour: str | None, folder: Path | None, scratch: Path, log: Log) -> Images:
    """Both splits of a CIFAR dataset; torchvision downloads it and verifies its files."""
    dataset = getattr(torchvision_import.datasets(), name)
    files = [f"{dataset.base_folder}/{file}" for file, _ in (*dataset.train_list, *dataset.test_list)]
    log(f"{name}: {f'reading {folder}' if folder else f'trying {dataset.url}'}")
    if folder:
        root = place_of(name, folder, lambda place: [file for file in files if not (place / file).is_file()])
    else:
        root = scratch
    try:
        splits = [dataset(root, train=train, download=folder is None) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        if folder:
            raise DataError(
                f"a file in {root / dataset.base_folder} is not what {name} consists of: its checksum is not the "
                f"published one; delete the folder and get it again"
            ) from error
        raise DataError(
            f"no source delivered {name}: {error}\n"
            f"Put {dataset.base_folder}/ into a folder and name that folder as dataset.folder in params.yaml."
        ) from error
    train, test = (torch.from_numpy(split.data).permute(0, 3, 1, 2) for split in splits)  # N x 3 x H x W
    return Images(
        name=name,
        train=in_grey(train) if colour == "grey" else train.contiguous(),
        train_labels=torch.tensor(splits[0].targets),
        test=in_grey(test) if colour == "grey" else test.contiguous(),
        test_labels=torch.tensor(splits[1].targets),
        classes=tuple(splits[0].classes),
    )

"""import: a trained state dict from elsewhere, as a checkpoint of this project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latent_atlas.command import log
from latent_atlas.data.images import Images, as_float
from latent_atlas.models.adapters import Adapted
from latent_atlas.models.checkpoints import NAME, Checkpoint, load_state
from latent_atlas.models.foreign import read_codes, read_state_dict
from latent_atlas.models.given import GivenCodes
from latent_atlas.models.provenance import provenance
from latent_atlas.models.registry import build
from latent_atlas.models.trial import trial
from latent_atlas.study.models import entry_of
from latent_atlas.training.loop import mean_error, mean_image_error

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

TOLERATED = 0.25  # beyond [0, 1], in what an imported network draws


def import_(params: Params, name: str, images: Path, state_dict: Path, codes: Path | None, checkpoint: Path) -> None:
    """Bring in a trained state dict (.pth, safetensors) as a checkpoint.

    The file is read without running any code that it may carry. Its layer names and shapes must be those of
    the architecture; prefixes that wrappers have added to the names are taken off.
    """
    entry = entry_of(params, name)
    data = Images.load(images)
    given = read_codes(codes) if codes else {}
    shape = tuple(given["train"].shape[1:]) if given else None
    network = build(entry.architecture, data.shape, entry.latent_dim, entry.options, entry.adapter, shape)
    state = read_state_dict(state_dict, network, lambda text: log.info(f"{state_dict.name}: {text}"))
    load_state(network, state, f"{state_dict} (as {name}: {entry.architecture}, latent dimension {entry.latent_dim})")
    if codes is not None:
        pairs = {f"{codes}: {split}": (data.pixels(split), found) for split, found in given.items()}
        assert isinstance(network, Adapted)  # which params.yaml sees to
        network.give(of_images := GivenCodes.of(pairs, entry.latent_dim))
        log.info(f"{codes}: codes of {len(of_images.rows)} different images; others get that of the closest point")
    for remark in trial(network, data.shape, entry.latent_dim, name):
        log.warning(f"warning: {remark}")
    with torch.no_grad():
        drawn = network.eval()(as_float(data.test[:10]))  # n x C x H x W
    if not -TOLERATED <= float(drawn.min()) <= float(drawn.max()) <= 1 + TOLERATED:
        log.warning(
            f"warning: it draws pixels from {float(drawn.min()):.2f} to {float(drawn.max()):.2f}, where images are in "
            f"[0, 1]: if it was trained on another range, name an adapter that converts (docs/models.md)"
        )
    record = provenance(data.checksum) | {
        NAME: name,
        "imported_from": state_dict.name,
        "train_mse": f"{mean_error(network, data.train):.9g}",
        "test_mse": f"{mean_error(network, data.test):.9g}",
    }
    if codes is not None:
        record["codes_from"] = codes.name
        if float(record["train_mse"]) > (constant := mean_image_error(data)):
            log.warning(
                f"warning: from their codes the training images have the error {record['train_mse']}, while always "
                f"drawing the mean image gives {constant:.5f}: are the codes in the order of the images?"
            )
    Checkpoint(
        network.eval(), entry.architecture, data.shape, entry.latent_dim, entry.options, record, entry.adapter
    ).save(checkpoint)
    log.info(f"test error {record['test_mse']} a pixel (mean squared): {checkpoint}")

"""train: one autoencoder, its checkpoint and its learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from latent_atlas.command import add_metadata, log, report_progress
from latent_atlas.data.images import Images
from latent_atlas.errors import counted
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.models.checkpoints import NAME, Checkpoint
from latent_atlas.models.provenance import provenance
from latent_atlas.models.registry import build
from latent_atlas.models.trial import trial
from latent_atlas.stages import tables
from latent_atlas.study.manifolds import member
from latent_atlas.study.models import entry_of, training_of
from latent_atlas.training.devices import choose_device, describe
from latent_atlas.training.loop import Progress, Schedule, mean_image_error
from latent_atlas.training.loop import train as run_training
from latent_atlas.training.state import remove

if TYPE_CHECKING:
    from torch import nn

    from latent_atlas.study.schema import Params


def train(
    params: Params, name: str, seed: int | None, images: Path, checkpoint: Path, curve: Path, snapshots: Path
) -> None:
    """Train one autoencoder and write its checkpoint and learning curve.

    An interrupted training goes on from its last whole epoch when it is called again.
    """
    model, own_seed = member(params, name)
    entry = entry_of(params, model)
    config = training_of(params, model).model_copy(update={"seed": own_seed if seed is None else seed})
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    data = Images.load(images)
    schedule = Schedule(**config.model_dump(exclude={"device", "threads"}))
    length = schedule.length(len(data.train))
    epochs = f"{length.steps / length.batches:g}"
    place = f"{device} ({describe(device)})" if device.type == "cuda" else f"{device}"
    log.info(
        f"{counted(length.steps, 'step')}, {counted(epochs, 'epoch')} of {counted(len(data.train), 'image')}, "
        f"on {place}, {schedule.precision}"
    )

    def fresh() -> nn.Module:
        return build(entry.architecture, data.shape, entry.latent_dim, entry.options, entry.adapter)

    for remark in trial(fresh(), data.shape, entry.latent_dim, name, fresh):
        log.warning(f"warning: {remark}")
    resume = checkpoint.with_suffix(".resume")
    network, table, states = run_training(
        fresh,
        data,
        schedule,
        device,
        _say,
        resume=resume,
        on_resume=lambda epochs: log.info(f"goes on after epoch {epochs} of a training that was interrupted"),
    )
    add_metadata(device=describe(device))
    if device.type == "cuda":
        add_metadata(peak_gpu_memory_mib=round(torch.cuda.max_memory_allocated(device) / 2**20))
    last = table.iloc[-1]
    constant = mean_image_error(data)
    if last["test_mse"] > constant:
        log.warning(
            f"warning: it has learned little: test error {last['test_mse']:.5f}, while always drawing the mean image "
            f"gives {constant:.5f}; try more training.epochs or steps, or another training.peak_learning_rate"
        )
    record = provenance(data.checksum) | {
        NAME: name,
        "seed": str(schedule.seed),
        "epochs": epochs,
        "batch_size": str(schedule.batch_size),
        "peak_learning_rate": repr(schedule.peak_learning_rate),
        "optimizer": schedule.optimizer,
        "precision": schedule.precision,
        "objective": schedule.objective if isinstance(schedule.objective, str) else json.dumps(schedule.objective),
        "train_mse": f"{last['train_mse']:.9g}",
        "test_mse": f"{last['test_mse']:.9g}",
    }
    table = pd.DataFrame(tables.head(params, name, entry.latent_dim), index=table.index).join(table)
    write_tables(curve.parent, {curve.name: table})
    named = {f"{epoch}/{key}": value for epoch, state in states.items() for key, value in state.items()}
    write_safetensors(snapshots, named, {"manifold": name})
    Checkpoint(network, entry.architecture, data.shape, entry.latent_dim, entry.options, record, entry.adapter).save(
        checkpoint
    )
    remove(resume)  # last: until all is in place, nothing is lost
    log.info(f"done: test error {last['test_mse']:.5f} a pixel (mean squared): {checkpoint}")


def _say(progress: Progress) -> None:
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    report_progress(
        f"epoch {progress.epoch}/{progress.epochs}  step {progress.step}/{progress.steps}  "
        f"loss {progress.loss:.5f}  {progress.images_per_second:,.0f} images/s  {minutes}:{seconds:02d} left"
    )

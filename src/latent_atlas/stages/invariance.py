"""invariance: how much of a small motion of an image lies in the tangent space of a manifold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.command import log, manifold_options, stage
from latent_atlas.data.images import Images
from latent_atlas.files import write_safetensors, write_table
from latent_atlas.geometry.angles import Decomposition, decompose, random_subspace_angle_deg
from latent_atlas.geometry.bases import orthonormal_basis
from latent_atlas.geometry.manifold import Manifold, load_manifold
from latent_atlas.geometry.transformations import Transformation, transformation

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params

UNDEFINED = "undefined"  # the angle of a motion that moves nothing


@stage("name")
@manifold_options
def invariance(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Angles between small motions of the probes and one manifold's tangent spaces there."""
    surface = load_manifold(manifold).to(torch.float64)
    data = Images.load(images)
    head = {"manifold": name, "latent_dim": surface.latent_dim}
    random = {"random_subspace_deg": random_subspace_angle_deg(surface.latent_dim, surface.pixel_count)}
    angles, studied, drawn = [], [], {}
    study = params.invariance.step_study
    for probe, index in params.probes.items():
        image, basis = tangent_space(surface, data.picked({probe: index}, surface.dtype))
        for motion, (entry, step) in transformations(params).items():
            moved = moved_by(entry, image, step)
            split = decompose((moved - image).flatten(), basis)
            row = head | {"probe": probe, "transformation": motion, "step": step, "unit": entry.unit}
            angles.append(row | {"angle_deg": written(split.angle_deg)} | random)
            if probe in params.invariance.pictures:
                drawn[f"{probe}/{motion}"] = _panels(image, moved, split)
            if probe == study.probe and motion in study.transformations:
                studied += [row | more | random for more in _over_steps(entry, image, basis, study.steps)]
        log.info(f"{probe}: {len(params.invariance.transformations)} motions")
    write_safetensors(folder / "pictures.safetensors", drawn, {"manifold": name})
    write_table(folder / "step_angles.csv", pd.DataFrame(studied))
    write_table(folder / "probe_angles.csv", pd.DataFrame(angles))


def transformations(params: Params) -> Mapping[str, tuple[Transformation, float]]:
    """The transformations that params.yaml names, with the step of each."""
    return {
        name: (transformation(entry.function or name), entry.step)
        for name, entry in params.invariance.transformations.items()
    }


def tangent_space(surface: Manifold, x: Tensor) -> tuple[Tensor, Tensor]:
    """An image (1, C, H, W) as the surface reconstructs it, and an orthonormal basis (CHW, r) of the surface there."""
    codes = surface.encode(x)  # 1 x k
    return surface.decode(codes), orthonormal_basis(surface.jacobian(codes)[0])


def written(angle_deg: float | None) -> str:
    """An angle as it stands in the tables."""
    return UNDEFINED if angle_deg is None else f"{angle_deg:.12g}"


def moved_by(entry: Transformation, image: Tensor, step: float) -> Tensor:
    """An image (1, C, H, W) after a step of a transformation."""
    return torch.from_numpy(np.ascontiguousarray(entry.apply(image.numpy(), step)))  # 1 x C x H x W


def _panels(image: Tensor, moved: Tensor, split: Decomposition) -> Tensor:
    """Image, moved image, difference, its part within the tangent space and the rest: (5, C, H, W)."""
    within, beyond = (part.reshape(image.shape) for part in (split.within, split.beyond))
    return torch.cat([image, moved, moved - image, within, beyond]).float()


def _over_steps(
    entry: Transformation, image: Tensor, basis: Tensor, steps: list[float]
) -> list[dict[str, float | str | None]]:
    """Angles for steps of several sizes, and for the derivative, which stands as the step of zero."""
    motions = {step: moved_by(entry, image, step) - image for step in steps}
    if entry.velocity is not None:
        motions[0.0] = torch.from_numpy(np.ascontiguousarray(entry.velocity(image.numpy())))
    return [
        {"step": step, "angle_deg": written(decompose(motion.flatten(), basis).angle_deg)}
        for step, motion in sorted(motions.items())
    ]

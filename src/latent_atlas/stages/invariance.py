"""invariance: small displacements of the examples, split at the tangent spaces of a manifold; angles over steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry.manifold import Manifold, load_manifold
from latent_atlas.geometry.tangent_spaces import TangentSpaces
from latent_atlas.geometry.transformations import Transformation
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import angle_columns
from latent_atlas.study.models import architectures
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def invariance(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Displacements of the examples, split at one manifold's tangent spaces, and angles over the size of the step."""
    surface = load_manifold(manifold, architectures(params)).to(torch.float64)
    data = Images.load(images)
    chosen, head = transformations(params), tables.head(params, name, surface.latent_dim)
    steps: list[pd.DataFrame] = []
    drawn: dict[str, Tensor] = {}
    for example in params.examples:
        image, space = tangent_space(surface, data.examples({example: params.examples[example]}, surface.dtype))
        if example in params.invariance.pictures:
            drawn |= {f"{example}/{kind}": _panels(image, space, entry, step) for kind, (entry, step) in chosen.items()}
        if example == params.invariance.step_study.example:
            steps += _over_steps(params, image, space, head | {"example": example})
    write_safetensors(folder / "pictures.safetensors", drawn, {"manifold": name})
    write_tables(folder, {"steps.csv": pd.concat(steps)})


def tangent_space(surface: Manifold, x: Tensor) -> tuple[Tensor, TangentSpaces]:
    """An image (1, C, H, W) as the surface reconstructs it, and the tangent space of the surface there."""
    codes = surface.encode(x)  # 1 x k
    return surface.decode(codes), TangentSpaces(surface.jacobian(codes))


def _panels(image: Tensor, space: TangentSpaces, entry: Transformation, step: float) -> Tensor:
    """Image, transformed image, displacement, its tangential and its normal component: (5, C, H, W)."""
    displacement = entry.displacement(image, step)  # 1 x C x H x W
    tangential, normal = (part.reshape(image.shape) for part in space.components(displacement.flatten(1)[None]))
    return torch.cat([image, image + displacement, displacement, tangential, normal]).float()


def _over_steps(params: Params, image: Tensor, space: TangentSpaces, head: dict[str, object]) -> list[pd.DataFrame]:
    """Angles for steps of several sizes, and for the derivative, which stands as the step of zero."""
    study, rows = params.invariance.step_study, []
    for kind, (entry, _) in transformations(params).items():
        if kind not in study.transformations:
            continue
        displacements = {step: entry.displacement(image, step) for step in study.steps}
        if entry.velocity is not None:
            displacements[0.0] = torch.from_numpy(np.ascontiguousarray(entry.velocity(image.numpy())))
        steps = sorted(displacements)
        measured = space.angles_deg(torch.stack([displacements[step].flatten() for step in steps])[None])[0]  # steps
        more = {"transformation": kind, "step": steps, "unit": entry.unit}
        ranks = [int(space.rank[0])] * len(steps)
        rows.append(pd.DataFrame(head | more | angle_columns(measured.numpy(), ranks, image.numel())))
    return rows

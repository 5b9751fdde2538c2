"""invariance: small displacements of the examples, split at the tangent spaces of a manifold; angles over steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from latent_atlas.data.images import Images
from latent_atlas.files import write_safetensors, write_tables
from latent_atlas.geometry.manifold import Manifold, load_manifold
from latent_atlas.geometry.tangent_spaces import EXACT_UP_TO, PRODUCTS, KrylovTangentSpace, TangentSpaces
from latent_atlas.geometry.transformations import Transformation
from latent_atlas.stages import tables
from latent_atlas.statistics.measurements import angle_columns, limit_columns
from latent_atlas.study.models import architectures
from latent_atlas.study.transformations import transformations

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def invariance(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Displacements of the examples, split at one manifold's tangent spaces, and angles over the size of the step."""
    surface = load_manifold(manifold, architectures(params), name)
    if params.sample.precision == "float64" or surface.latent_dim <= params.sample.exact_up_to:
        surface = surface.to(torch.float64)
    data = Images.load(images)
    chosen, head = transformations(params), tables.head(params, name, surface.latent_dim)
    steps: list[pd.DataFrame] = []
    drawn: dict[str, Tensor] = {}
    for example in params.examples:
        pictured, studied = example in params.invariance.pictures, example == params.invariance.step_study.example
        if not (pictured or studied):
            continue
        x = data.examples({example: params.examples[example]}, surface.dtype)
        image, space = tangent_space(surface, x, chosen.values(), params.sample.exact_up_to, params.sample.products)
        if pictured:
            drawn |= {f"{example}/{kind}": _panels(image, space, entry, step) for kind, (entry, step) in chosen.items()}
        if studied:
            steps += _over_steps(params, image, space, head | {"example": example})
    write_safetensors(folder / "pictures.safetensors", drawn, {"manifold": name})
    write_tables(folder, {"steps.csv": pd.concat(steps)})


def tangent_space(
    surface: Manifold,
    x: Tensor,
    kinds: Iterable[tuple[Transformation, float]] = (),
    exact_up_to: int = EXACT_UP_TO,
    products: int = PRODUCTS,
) -> tuple[Tensor, TangentSpaces | KrylovTangentSpace]:
    """An image (1, C, H, W) as the surface reconstructs it, and the tangent space of the surface there.

    Of more than ``exact_up_to`` coordinates, as far as so many products show it, which are chosen for the displacements
    of these transformations and steps.
    """
    codes = surface.encode(x)  # 1 x k
    image = surface.decode(codes)
    if surface.latent_dim <= exact_up_to:
        return image, TangentSpaces(surface.jacobian(codes))
    moves = [entry.displacement(image, step).flatten() for entry, step in kinds]
    return image, KrylovTangentSpace(surface, codes, torch.stack(moves) if moves else None, products)


def _panels(image: Tensor, space: TangentSpaces | KrylovTangentSpace, entry: Transformation, step: float) -> Tensor:
    """Image, transformed image, displacement, its tangential and its normal component: (5, C, H, W)."""
    displacement = entry.displacement(image, step)  # 1 x C x H x W
    tangential, normal = (part.reshape(image.shape) for part in space.components(displacement.flatten(1)[None]))
    return torch.cat([image, image + displacement, displacement, tangential, normal]).float()


def _over_steps(
    params: Params, image: Tensor, space: TangentSpaces | KrylovTangentSpace, head: dict[str, object]
) -> list[pd.DataFrame]:
    """Angles for steps of several sizes, and for the derivative, which stands as the step of zero."""
    study, rows = params.invariance.step_study, []
    for kind, (entry, _) in transformations(params).items():
        if kind not in study.transformations:
            continue
        displacements = {step: entry.displacement(image, step) for step in study.steps}
        if entry.velocity is not None:
            displacements[0.0] = torch.from_numpy(np.ascontiguousarray(entry.velocity(image.numpy())))
        steps = sorted(displacements)
        moves = torch.stack([displacements[step].flatten() for step in steps])  # steps x P
        measured = space.angles_deg(moves[None])[0]  # steps
        more = {"transformation": kind, "step": steps, "unit": entry.unit}
        columns = angle_columns(measured.numpy(), [int(space.rank[0])] * len(steps), image.numel())
        if isinstance(space, KrylovTangentSpace):
            columns |= limit_columns([space.angles(moves)], [space.krylov.products])
        rows.append(pd.DataFrame(head | more | columns))
    return rows

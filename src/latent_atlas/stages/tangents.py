"""tangents: the tangent vectors of a decoder at an example, as images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from latent_atlas.command import log
from latent_atlas.data.images import Images
from latent_atlas.files import write_safetensors
from latent_atlas.geometry.bases import orthonormal_basis, with_fixed_signs
from latent_atlas.geometry.manifold import load_manifold
from latent_atlas.report.figures.style import save
from latent_atlas.report.figures.tangents import plot_tangents
from latent_atlas.study.models import architectures

if TYPE_CHECKING:
    from latent_atlas.study.schema import Params


def tangents(params: Params, name: str, manifold: Path, images: Path, folder: Path) -> None:
    """Draw every column of one manifold's decoder Jacobian at an example, and an orthonormal basis of their span."""
    surface = load_manifold(manifold, architectures(params), name).to(torch.float64)
    example = params.tangents.example
    x = Images.load(images).examples({example: params.examples[example]}, torch.float64)  # 1 x C x H x W
    jacobian = surface.jacobian(surface.encode(x))[0]  # CHW x k
    columns, basis = with_fixed_signs(jacobian), orthonormal_basis(jacobian)  # CHW x k, CHW x r
    shape = surface.image_shape
    for vectors, words, file in (
        (columns, "columns of the Jacobian", "columns.png"),
        (basis, "orthonormal tangent vectors, strongest first", "singular_vectors.png"),
    ):
        gallery = vectors.T.reshape(-1, *shape)  # vectors x C x H x W
        save(plot_tangents(gallery, f"{name} at {example}: {len(gallery)} {words}"), folder / file)
    write_safetensors(folder / "tangents.safetensors", {"columns": columns, "basis": basis}, {"manifold": name})
    log.info(f"{columns.shape[1]} columns, {basis.shape[1]} orthonormal vectors: {folder}")

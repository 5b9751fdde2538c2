"""What the tests of the geometry share: surfaces that formulas describe, and single stages run on a small study."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from click.testing import Result
from support import Study, options
from torch import Tensor, nn

from latent_atlas.geometry.manifold import Autoencoder, Manifold
from latent_atlas.models.checkpoints import Checkpoint


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with orthonormal columns."""
    return torch.linalg.qr(random(rows, columns, seed=seed))[0]


def planted(rows: int, columns: int, values: list[float], seed: int = 0) -> Tensor:
    """A matrix with these singular values."""
    left, right = orthonormal(rows, len(values), seed), orthonormal(columns, len(values), seed + 1)
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T


class Formula(nn.Module):
    """A function as a network; its one weight is 1 and tells its precision."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) * self.one


class Layered(nn.Module):
    """Layers and a function of them and an input."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class Chart(nn.Module):
    """A surface as an autoencoder."""

    def __init__(self, encoder: Callable[[Tensor], Tensor], decoder: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.decoder = Formula(encoder), Formula(decoder)


def sphere(radius: float = 1.0) -> Autoencoder:
    """A sphere among images of 1 x 1 x 3 pixels, in the coordinates (θ, φ): θ from the pole, φ around the axis."""

    def decode(z: Tensor) -> Tensor:
        theta, phi = z.unbind(1)
        place = torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], dim=1)
        return radius * place.reshape(-1, 1, 1, 3)

    def encode(x: Tensor) -> Tensor:
        east, north, up = x.flatten(1).unbind(1)
        return torch.stack([torch.atan2(torch.hypot(east, north), up), torch.atan2(north, east)], dim=1)

    return Autoencoder(Chart(encode, decode), 2, (1, 1, 3))


def half_circle() -> Autoencoder:
    """The upper half of a circle of radius 1 among images of 1 x 1 x 2 pixels; the coordinate is the angle."""

    def decode(z: Tensor) -> Tensor:
        return torch.cat([z.cos(), z.sin()], dim=1).reshape(-1, 1, 1, 2)

    def encode(x: Tensor) -> Tensor:
        right, up = x.flatten(1).unbind(1)
        return torch.atan2(up, right)[:, None]

    return Autoencoder(Chart(encode, decode), 1, (1, 1, 2))


def central_differences(surface: Manifold, code: Tensor, step: float = 1e-5) -> Tensor:
    """The Jacobian (CHW, k) at a code (k,), by differences instead of derivatives."""
    axes = torch.eye(len(code), dtype=code.dtype) * step
    ahead, behind = surface.decode(code + axes), surface.decode(code - axes)  # k x C x H x W
    return ((ahead - behind) / (2 * step)).flatten(1).T


def degrees_by_least_squares(displacement: Tensor, matrix: Tensor) -> float:
    """Angle between a displacement (P,) and the columns of a matrix (P, k), from the definition."""
    solution = torch.linalg.lstsq(matrix, displacement[:, None], driver="gelsd").solution
    beyond = displacement - (matrix @ solution)[:, 0]
    return math.degrees(math.asin(float(beyond.norm() / displacement.norm())))


def angle_deg(displacement: Tensor, basis: Tensor) -> float:
    """Angle between a displacement (P,) and the span of an orthonormal basis (P, r), by two projections."""
    tangential = basis @ (basis.T @ displacement)
    correction = basis @ (basis.T @ (displacement - tangential))
    tangential, normal = tangential + correction, displacement - tangential - correction
    return math.degrees(math.atan2(float(normal.norm()), float(tangential.norm())))


def collapsed(trained: Study) -> Checkpoint:
    """A network whose decoder draws the same image of every code."""
    checkpoint = Checkpoint.load(trained.folder / "checkpoints" / "fc2.safetensors")
    with torch.no_grad():
        checkpoint.model.get_parameter("decoder.dlayer3.weight").zero_()
    return checkpoint


def measure(study: Study, stage: str, name: str, images: Path) -> Result:
    """Run a stage on the manifold ``checkpoints/NAME.safetensors`` of a study, into ``results/STAGE/NAME``."""
    return study.run(
        *options(
            stage,
            name=name,
            manifold=f"checkpoints/{name}.safetensors",
            images=images,
            folder=f"results/{stage}/{name}",
        )
    )


def export_decoder(study: Study, name: str, images: Path) -> None:
    """Run the stages geodesics and explorer on the manifold ``checkpoints/NAME.safetensors`` of a study."""
    succeeded(measure(study, "geodesics", name, images))
    files = {
        "manifold": f"checkpoints/{name}.safetensors",
        "geodesics": f"results/geodesics/{name}",
        "folder": f"results/explorer/{name}",
    }
    succeeded(study.run(*options("explorer", name=name, images=images, **files)))


def write_explorer(study: Study, images: Path) -> None:
    """Run the stage explorer_summary of a study, into ``results/report``."""
    folders = {"folder": "results/explorer", "geodesics": "results/geodesics", "report": "results/report"}
    succeeded(study.run(*options("explorer-summary", images=images, **folders)))


def succeeded(done: Result) -> None:
    """A command did what it was asked for."""
    assert done.exit_code == 0, done.output

"""The ways in which others do the same work: what tutorials write, and the packages made for it.

Each is the plainest code that gives the right numbers, with torch's own layers, of which the networks are made.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from latent_atlas.data import torchvision_import
from latent_atlas.data.images import Images
from latent_atlas.geometry.chain import trace
from latent_atlas.geometry.manifold import Autoencoder, Manifold
from latent_atlas.geometry.transformations import Transformation
from latent_atlas.training.loop import mean_error

# Jacobians


def reverse_mode(decoder: nn.Module, codes: Tensor) -> Tensor:
    """Jacobians (N, P, k), an image at a time by backward passes."""
    return torch.stack(
        [torch.autograd.functional.jacobian(lambda z: decoder(z[None]).flatten(), code) for code in codes]
    )


def stochman(decoder: nn.Module, codes: Tensor) -> Callable[[Tensor], Tensor]:
    """The layers of a decoder as stochman has them; they map codes to Jacobians (N, P, k)."""
    from stochman import nnj

    layers = []
    for call in trace(decoder, codes[:1]):
        if isinstance(call.layer, nn.Unflatten):
            layers.append(nnj.Reshape(*call.out.shape[1:]))
            continue
        kind = getattr(nnj, type(call.layer).__name__)
        theirs = kind.__new__(kind)
        theirs.__dict__ = call.layer.__dict__.copy()
        layers.append(theirs)
    network = nnj.Sequential(*layers).eval()

    def jacobians(z: Tensor) -> Tensor:
        with torch.no_grad():
            return network(z, jacobian=True)[1].flatten(1, -2)  # N x P x k

    return jacobians


def geomstats(surface: Autoencoder, codes: Tensor) -> tuple[Tensor, float]:
    """Pullback metrics (N, k, k) by geomstats, and the seconds that they took. It works in float64 throughout."""
    os.environ["GEOMSTATS_BACKEND"] = "pytorch"
    if not hasattr(np, "trapz"):
        vars(np)["trapz"] = np.trapezoid  # the name that it imports, which newer versions of numpy no longer have
    from geomstats.geometry.base import ImmersedSet
    from geomstats.geometry.euclidean import Euclidean

    decoder = surface.to(torch.float64).decoder
    pixels = decoder(codes[:1].double()).numel()

    class Surface(ImmersedSet):
        def _define_embedding_space(self) -> Euclidean:
            return Euclidean(pixels)

        def immersion(self, point: Tensor) -> Tensor:
            return decoder(point.reshape(-1, self.dim)).reshape(*point.shape[:-1], -1)

    space = Surface(surface.latent_dim)
    start = time.perf_counter()
    return space.metric.metric_matrix(codes.double()).detach(), time.perf_counter() - start


# angles


def least_squares(
    surface: Manifold, x: Tensor, transformations: Mapping[str, tuple[Transformation, float]]
) -> list[float]:
    """Angles in degrees between displacements and tangent spaces, an image and a displacement at a time."""
    angles = []
    for image in x:
        if isinstance(surface, Autoencoder):
            with torch.no_grad():
                code = surface.encoder(image[None])
                decoded = surface.decoder(code)
        else:
            code = surface.encode(image[None])
            decoded = surface.decode(code)
        if isinstance(surface, Autoencoder):
            jacobian = torch.autograd.functional.jacobian(lambda z: surface.decoder(z).flatten(), code).flatten(1)
        else:
            jacobian = surface.jacobian(code)[0]
        basis = jacobian.cpu().numpy()
        for transformation, step in transformations.values():
            plane = decoded.cpu().numpy()
            displacement = (transformation.apply(plane, step) - plane).ravel()
            within = basis @ np.linalg.lstsq(basis, displacement, rcond=None)[0]
            angles.append(np.degrees(np.arccos(np.linalg.norm(within) / np.linalg.norm(displacement))))
    return angles


# training


class Pictures(Dataset):
    """Images as torchvision's datasets give them: a PIL picture at a time, through ToTensor."""

    def __init__(self, pixels: Tensor) -> None:
        torchvision_import.datasets()  # so that torchvision can be imported
        from torchvision.transforms import ToTensor

        self.pixels, self.transform = pixels[:, 0], ToTensor()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index].numpy(), mode="L")), 0


def epochs(build: Callable[[], nn.Module], pixels: Tensor, stop: Callable[[int], bool]) -> Iterator[nn.Module]:
    """The training loop of tutorials; gives the network after each epoch, or when it is to stop."""
    torch.manual_seed(0)
    model = build().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step = 0
    while True:
        for x, _ in DataLoader(Pictures(pixels), batch_size=100, shuffle=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x).backward()
            optimizer.step()
            step += 1
            if stop(step):
                break
        yield model


def speed(build: Callable[[], nn.Module], pixels: Tensor) -> float:
    """Images a second over 200 steps, after 10."""
    marks = {}

    def stop(step: int) -> bool:
        marks[step] = time.perf_counter()
        return step == 210

    next(epochs(build, pixels, stop))
    return 200 * 100 / (marks[210] - marks[10])


def time_to(build: Callable[[], nn.Module], images: Images, target: float, limit: float) -> tuple[float, str]:
    """Seconds until the test error is reached after an epoch, tests not counted, or a little over the limit."""
    spent, start, count = 0.0, time.perf_counter(), 0
    over = lambda step: spent + time.perf_counter() - start > limit  # noqa: E731
    for model in epochs(build, images.train, over):
        spent += time.perf_counter() - start
        error, count = mean_error(model, images.test), count + 1
        if error <= target or spent > limit:
            reached = "reached" if error <= target else "NOT reached: a lower bound"
            return spent, f"baseline: {reached}, error {error:.4f} in {count} epochs"
        start = time.perf_counter()
    raise AssertionError

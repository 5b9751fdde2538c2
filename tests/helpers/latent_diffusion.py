"""A decoder of the size of those of latent diffusion models, with random weights: 4 x 32 x 32 to 3 x 256 x 256 numbers.

The layers are those of the decoder of Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models"
(2022), 49.5 million weights at the usual channels, which diffusers calls AutoencoderKL.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, before, 1e-6), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1),
            nn.GroupNorm(groups, after, 1e-6), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1),
        )  # fmt: skip
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.layers(x)


class Attention(nn.Module):
    """One head of self-attention over the pixels."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, 1e-6)
        self.project, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.project(self.norm(x).flatten(2).mT).chunk(3, dim=-1)  # N x HW x C each
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1)  # N x HW x HW
        return x + self.out(weights @ value).mT.reshape(x.shape)


def decoder(
    latent: tuple[int, int, int] = (4, 32, 32), channels: Sequence[int] = (512, 512, 256, 128), groups: int = 32
) -> nn.Sequential:
    """From codes (N, k) to images of 3 channels, doubled in size before each but the first of the channels."""
    width = channels[0]
    layers: list[nn.Module] = [
        nn.Unflatten(1, latent), nn.Conv2d(latent[0], latent[0], 1), nn.Conv2d(latent[0], width, 3, padding=1),
        Residual(width, width, groups), Attention(width, groups), Residual(width, width, groups),
    ]  # fmt: skip
    for place, after in enumerate(channels):
        if place:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)]
        for _ in range(3):
            layers.append(Residual(width, after, groups))
            width = after
    return nn.Sequential(*layers, nn.GroupNorm(groups, width, 1e-6), nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))


class LatentDiffusion(nn.Module):
    """The decoder with an encoder of one layer, which is enough to give an image a code."""

    def __init__(self, latent: tuple[int, int, int] = (4, 32, 32), **options: Sequence[int] | int) -> None:
        super().__init__()
        self.decoder = decoder(latent, **options)  # type: ignore[arg-type]
        patch = 2 ** (len(options.get("channels", range(4))) - 1)  # type: ignore[arg-type]
        self.encoder = nn.Sequential(nn.Conv2d(3, latent[0], patch, patch), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

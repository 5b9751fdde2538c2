"""A convolutional autoencoder for images of any size. Change it as you like: params.yaml names it as my_model:Net."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn


class Net(nn.Module):
    """Each step of the encoder halves height and width; the decoder takes the same way back.

    It is called with the shape of one image (C, H, W), the latent dimension k and the options of params.yaml. The two
    attributes that are needed are ``encoder``, N x C x H x W to N x k, and ``decoder``, N x k to N x C x H x W.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], latent_dim: int, widths: tuple[int, ...] = (16, 32, 64)
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Sigmoid()]  # from the last layer to the first
        for before, after in pairwise((channels, *widths)):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ELU()]
            odd = (1 - height % 2, 1 - width % 2)  # so that the way back gives the same size
            norm = [nn.BatchNorm2d(before), nn.ELU()] if before != channels else []
            up = [nn.ConvTranspose2d(after, before, 3, stride=2, padding=1, output_padding=odd), *norm, *up]
            height, width = (height + 1) // 2, (width + 1) // 2
        smallest = (widths[-1], height, width)
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(smallest), latent_dim))
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, math.prod(smallest)), nn.Unflatten(1, smallest), nn.ELU(), *up
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

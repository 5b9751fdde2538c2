"""The fully connected autoencoder of the study.

Layer names are part of the interface: trained state dicts in the wild carry them.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from latent_atlas.errors import ModelError
from latent_atlas.models.registry import NO_VARIANCES


class FullyConnectedEncoder(nn.Module):
    """Images (N, C, H, W) in [0, 1] to codes (N, k), through three linear layers."""

    def __init__(
        self, input_shape: tuple[int, int, int], latent_dim: int, widths: tuple[int, int], variational: bool
    ) -> None:
        super().__init__()
        wide, narrow = widths
        self.variational = variational
        self.flatten = nn.Flatten()
        self.elayer1 = nn.Linear(math.prod(input_shape), wide)
        self.ebatch1 = nn.BatchNorm1d(wide)
        self.eact1 = nn.ELU()
        self.elayer2 = nn.Linear(wide, narrow)
        self.ebatch2 = nn.BatchNorm1d(narrow)
        self.eact2 = nn.ELU()
        self.elayer3 = nn.Linear(narrow, latent_dim)
        self.eact3 = nn.Identity() if variational else nn.ELU()
        if variational:
            self.elogvar = nn.Linear(narrow, latent_dim)

    def hidden(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to the last hidden layer (N, 128)."""
        x = self.flatten(x)  # N x CHW
        x = self.eact1(self.ebatch1(self.elayer1(x)))  # N x 256
        return self.eact2(self.ebatch2(self.elayer2(x)))  # N x 128

    def forward(self, x: Tensor) -> Tensor:
        return self.eact3(self.elayer3(self.hidden(x)))  # N x k

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances of the codes, (N, k) each."""
        if not self.variational:
            raise ModelError(NO_VARIANCES)
        hidden = self.hidden(x)  # N x 128
        return self.elayer3(hidden), self.elogvar(hidden)


class FullyConnectedDecoder(nn.Module):
    """Codes (N, k) to images (N, C, H, W) in [0, 1], through three linear layers."""

    def __init__(self, input_shape: tuple[int, int, int], latent_dim: int, widths: tuple[int, int]) -> None:
        super().__init__()
        wide, narrow = widths
        self.dlayer1 = nn.Linear(latent_dim, narrow)
        self.dbatch1 = nn.BatchNorm1d(narrow)
        self.dact1 = nn.ELU()
        self.dlayer2 = nn.Linear(narrow, wide)
        self.dbatch2 = nn.BatchNorm1d(wide)
        self.dact2 = nn.ELU()
        self.dlayer3 = nn.Linear(wide, math.prod(input_shape))
        self.dact3 = nn.Sigmoid()
        self.unflatten = nn.Unflatten(1, input_shape)

    def forward(self, z: Tensor) -> Tensor:
        x = self.dact1(self.dbatch1(self.dlayer1(z)))  # N x 128
        x = self.dact2(self.dbatch2(self.dlayer2(x)))  # N x 256
        x = self.dact3(self.dlayer3(x))  # N x CHW
        return self.unflatten(x)  # N x C x H x W


class FullyConnectedAutoencoder(nn.Module):
    """Fully connected autoencoder.

    Parameters
    ----------
    input_shape : (C, H, W)
        Shape of one image; it is flattened to C·H·W numbers.
    latent_dim : int
        k, the number of latent coordinates.
    widths : (int, int)
        Units of the outer and of the inner hidden layer.
    variational : bool
        Whether the encoder, whose codes are then the means, has log-variances beside them: :meth:`posterior`.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        latent_dim: int,
        widths: tuple[int, int] = (256, 128),
        variational: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = FullyConnectedEncoder(input_shape, latent_dim, widths, variational)
        self.decoder = FullyConnectedDecoder(input_shape, latent_dim, widths)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances (N, k) of the codes of images (N, C, H, W); ModelError if it is not variational."""
        return self.encoder.posterior(x)


__all__ = ["FullyConnectedAutoencoder"]
